"""Reads an error body of an OpenAI-format vendor into one bounded form.

`errors` interprets it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from llm_routing.core.codec import decode
from llm_routing.formats.vendor_messages import read_name, read_text

MAX_RAW_CHARACTERS: Final = 64 * 1024
MAX_VIOLATIONS: Final = 20


@dataclass(frozen=True, slots=True)
class VendorErrorBody:
    """The content of a vendor's error; names are in lower case.

    `status` is the one that the body names. `relayed_names` are those of an error that the vendor
    relays from another vendor; `is_relayed` says that the account concerned is not ours.
    """

    reason: str = ""
    names: tuple[str, ...] = ()
    relayed_names: tuple[str, ...] = ()
    status: int = 0
    was_moderated: bool = False
    is_relayed: bool = False
    type: str = ""
    code: str = ""
    param: str = ""


def read_error(value: Any) -> VendorErrorBody:
    """Returns the error in a decoded body; empty if there is no error."""
    # Google answers with an array of one error.
    value = value[0] if isinstance(value, list) and value else value
    if not isinstance(value, dict):
        return VendorErrorBody(read_text(value))
    # Mistral and FastAPI write the error's fields at the top; Ollama has written a bare string.
    error = value.get("error") or value
    if not isinstance(error, dict):
        return VendorErrorBody(read_text(error))
    metadata = _mapping(error.get("metadata"))
    inner = _mapping(error.get("innererror"))
    relayed = _relayed(metadata)
    reason, violation = _reason(error)
    names = (
        error.get("code"),
        error.get("type"),
        error.get("status"),
        inner.get("code"),
        metadata.get("error_type"),
        *_reasons_of_google(error.get("details")),
    )
    return VendorErrorBody(
        reason=relayed.reason or reason,
        names=_lower(names),
        relayed_names=relayed.names,
        status=_status(error.get("code")),
        was_moderated=bool(metadata.get("reasons") or metadata.get("flagged_input")),
        is_relayed=bool(metadata.get("provider_name") or metadata.get("raw")),
        type=read_name(error.get("type")),
        code=read_name(error.get("code")) or violation.code,
        param=read_name(error.get("param")) or violation.param,
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _lower(names: Iterable[Any]) -> tuple[str, ...]:
    return tuple(found.lower() for name in names if (found := read_name(name)))


def _relayed(metadata: Mapping[str, Any]) -> VendorErrorBody:
    """Reads the error of the vendor behind the vendor: OpenRouter says "Provider returned error"
    and relays the provider's own error, whose account and key are not ours."""
    raw = metadata.get("raw")
    if not isinstance(raw, str) or len(raw) > MAX_RAW_CHARACTERS:
        return VendorErrorBody()
    try:
        return read_error(decode(raw))
    except ValueError:
        return VendorErrorBody()


def _reasons_of_google(details: Any) -> Iterator[Any]:
    """`google.rpc.ErrorInfo`: https://google.aip.dev/193"""
    for item in details[:MAX_VIOLATIONS] if isinstance(details, list) else ():
        yield _mapping(item).get("reason")


@dataclass(frozen=True, slots=True)
class _Violation:
    code: str = ""
    param: str = ""


def _reason(error: Mapping[str, Any]) -> tuple[str, _Violation]:
    """Returns the message, and the first of pydantic's violations if it is a list of those."""
    message = error.get("message") or error.get("detail")
    if isinstance(message, dict):
        message = message.get("detail") or message.get("message")
    if not isinstance(message, list):
        return read_text(message), _Violation()
    items = [item for item in message[:MAX_VIOLATIONS] if isinstance(item, dict)]
    places = [_place(item) for item in items]
    # Their `input` is left out: it repeats the prompt.
    words = "; ".join(
        f"{place}: {read_text(item.get('msg'))}" for place, item in zip(places, items, strict=True)
    )
    if not items:
        return "", _Violation()
    param = places[0].removeprefix("body.")
    return read_text(words), _Violation(read_name(items[0].get("type")), read_name(param))


def _place(item: Mapping[str, Any]) -> str:
    place = item.get("loc")
    return read_text(".".join(map(str, place[:20]))) if isinstance(place, list) else ""


def _status(code: Any) -> int:
    """Returns an HTTP status that is written as a code, number or text; 0 for anything else."""
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        code = int(code)
    return code if isinstance(code, int) and 400 <= code <= 599 else 0
