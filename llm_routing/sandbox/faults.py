"""The directives that request faults: names, values and syntax.

`wire` applies faults to the connection, the formats apply them to the content.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

_GROUP = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_WORD = re.compile(r'\s*([a-z_0-9]+)(?:=(?:"([^"\r\n]*)"|([^\s"]+)))?(?=\s|$)')
_MAX_DELAY = 3600.0
_MAX_CHUNKS = 1_000_000
_MAX_WORDS = 100_000


class FaultSyntaxError(ValueError):
    """A directive that cannot be parsed; the message says why."""


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of an answer, and its size and shape.

    Delays are in seconds. `…_after` counts chunks of content: pieces of text, of reasoning or of a
    tool call, in either wire format.
    """

    status: int | None = None
    code: str = ""
    message: str = ""
    retry_after: str | None = None
    redirect: str = ""
    html: bool = False

    delay: float = 0.0
    first_token_delay: float = 0.0
    token_delay: float = 0.0

    pings: bool = False
    disconnect: bool = False
    reset: bool = False
    cut_after: int | None = None
    stall_after: int | None = None
    malformed_after: int | None = None
    hole_after: int | None = None
    bad_framing_after: int | None = None
    error_in_200: int | None = None
    wrong_content_length: bool = False
    truncate_json: bool = False

    empty_choices: bool = False
    no_usage: bool = False
    no_finish: bool = False
    no_done: bool = False

    split: int | None = None
    crlf: bool = False
    comments: bool = False
    extra_fields: bool = False
    echo_request: bool = False
    words: int | None = None
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    refusal: bool = False
    content_filter: bool = False

    @property
    def breaks_off(self) -> bool:
        """Whether the connection ends in the middle of the answer."""
        places = (self.cut_after, self.bad_framing_after)
        return self.wrong_content_length or any(place is not None for place in places)


def merge(*directives: Mapping[str, Any]) -> Faults:
    """Merges the faults of several sources; later sources take precedence."""
    values: dict[str, Any] = {}
    for each in directives:
        values.update(each)
    return Faults(**values)


def parse(text: str, model: str) -> dict[str, Any]:
    """Returns the values of a directive such as `status=503 retry_after=2`, with or without
    brackets.

    A group with another `model=` is skipped. Raises `FaultSyntaxError` for an unknown name or an
    invalid value.
    """
    groups = _GROUP.findall(text) if "[[" in text else [text]
    values: dict[str, Any] = {}
    for group in groups:
        words = _words(group)
        only = words.pop("model", None)
        if only is None or only == model:
            values.update({name: _value(name, given) for name, given in words.items()})
    return values


def extract(text: str) -> tuple[str, list[str]]:
    """Returns the text without its directives, and the directives.

    Double brackets whose first word is not a directive are plain text.
    """
    found: list[str] = []

    def take(match: re.Match[str]) -> str:
        first = _WORD.match(match[1])
        if first is None or not (first[1] in _READERS or first[0].lstrip().startswith("model=")):
            return match[0]
        found.append(match[1])
        return ""

    rest = _GROUP.sub(take, text)
    return (rest.strip(), found) if found else (text, found)


def check(text: str) -> None:
    """Raises `FaultSyntaxError` if `text` cannot be parsed, whatever model it names."""
    groups = _GROUP.findall(text) if "[[" in text else [text]
    for group in groups:
        for name, given in _words(group).items():
            if name != "model":
                _value(name, given)


def _words(group: str) -> dict[str, str | None]:
    words: dict[str, str | None] = {}
    position = 0
    while group[position:].strip():
        match = _WORD.match(group, position)
        if match is None:
            raise FaultSyntaxError(
                f"cannot read the directive at {group[position:].strip()[:40]!r}"
            )
        words[match[1]] = match[2] if match[2] is not None else match[3]
        position = match.end()
    return words


def _value(name: str, given: str | None) -> Any:
    reader = _READERS.get(name)
    if reader is None:
        known = ", ".join(field.name for field in fields(Faults))
        raise FaultSyntaxError(f"unknown directive {name!r}; known are {known}, model")
    try:
        return reader(given)
    except ValueError as error:
        raise FaultSyntaxError(f"{name}: {error}") from error


def _flag(given: str | None) -> bool:
    if given not in (None, "1", "0", "true", "false"):
        raise ValueError("takes no value")
    return given not in ("0", "false")


def _seconds(given: str | None) -> float:
    seconds = float(given or "")
    if not math.isfinite(seconds) or not 0 <= seconds <= _MAX_DELAY:
        raise ValueError(f"wants seconds from 0 to {_MAX_DELAY:.0f}")
    return seconds


def _between(low: int, high: int, default: int | None = None) -> Callable[[str | None], int]:
    def read(given: str | None) -> int:
        if given is None and default is not None:
            return default
        if given is None or not given.isascii() or not given.isdigit() or len(given) > 9:
            raise ValueError(f"wants a whole number from {low} to {high}")
        number = int(given)
        if not low <= number <= high:
            raise ValueError(f"wants a whole number from {low} to {high}")
        return number

    return read


def _text(given: str | None) -> str:
    if not given or not given.isprintable() or not given.isascii():
        raise ValueError("wants a value of printable ASCII")
    return given


def _own_path(given: str | None) -> str:
    path = _text(given)
    if not path.startswith("/") or path.startswith("//") or "\\" in path:
        raise ValueError("redirects only to the sandbox itself: a path that begins with one slash")
    return path


_chunks = _between(0, _MAX_CHUNKS)

_READERS: dict[str, Callable[[str | None], Any]] = {
    "status": _between(200, 599),
    "code": _text,
    "message": _text,
    "retry_after": _text,
    "redirect": _own_path,
    "html": _flag,
    "delay": _seconds,
    "first_token_delay": _seconds,
    "token_delay": _seconds,
    "pings": _flag,
    "disconnect": _flag,
    "reset": _flag,
    "cut_after": _chunks,
    "stall_after": _chunks,
    "malformed_after": _chunks,
    "hole_after": _chunks,
    "bad_framing_after": _chunks,
    "error_in_200": _between(0, _MAX_CHUNKS, default=0),
    "wrong_content_length": _flag,
    "truncate_json": _flag,
    "empty_choices": _flag,
    "no_usage": _flag,
    "no_finish": _flag,
    "no_done": _flag,
    "split": _between(1, 65_536),
    "crlf": _flag,
    "comments": _flag,
    "extra_fields": _flag,
    "echo_request": _flag,
    "words": _between(1, _MAX_WORDS),
    "cached_tokens": _between(0, 10_000_000),
    "cache_write_tokens": _between(0, 10_000_000),
    "refusal": _flag,
    "content_filter": _flag,
}
