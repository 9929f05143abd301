"""Maps errors of Anthropic-format vendors to ours, and writes ours in Anthropic's envelope.

Source: https://platform.claude.com/docs/en/api/errors
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from llm_routing.core.attempts.retry import parse_retry_after
from llm_routing.core.codec import decode, encode
from llm_routing.core.errors import (
    ContentFiltered,
    ContextTooLong,
    CredentialRejected,
    EndpointNotFound,
    InvalidRequest,
    LLMError,
    ModelNotFound,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ServerFailed,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from llm_routing.core.vendor_details import Basis, VendorDetails
from llm_routing.formats.error_attribution import counts_for_any_request, with_status
from llm_routing.formats.names import ANTHROPIC_MESSAGES
from llm_routing.formats.vendor_messages import (
    is_about_a_model,
    read_name,
    read_text,
    vendor_reason,
    without_quotes,
)

_TYPES_BY_STATUS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# An error inside a 200 has only a type; this is the status that it stands for.
_STATUS_BY_TYPE: Final = {
    **{name: status for status, name in _TYPES_BY_STATUS.items()},
    "api_error": 500,
}
_ERRORS_BY_STATUS: Final[Mapping[int, type[UpstreamError]]] = {
    401: CredentialRejected,
    402: QuotaExhausted,
    403: CredentialRejected,
    404: RequestRejected,
    405: EndpointNotFound,
    408: UpstreamTimeout,
    # The request has too many bytes for this vendor; another one's limit may be higher.
    413: ContextTooLong,
    429: RateLimited,
    503: UpstreamOverloaded,
    504: UpstreamTimeout,
    529: UpstreamOverloaded,
}
# Phrases of messages. All of these come as invalid_request_error.
_ERRORS_BY_PHRASE: Final[tuple[tuple[str, type[UpstreamError]], ...]] = (
    ("prompt is too long", ContextTooLong),
    ("exceed context limit", ContextTooLong),
    ("blocked by content filtering policy", ContentFiltered),
    ("credit balance is too low", QuotaExhausted),
    ("specified api usage limits", QuotaExhausted),
    ("specified workspace api usage limits", QuotaExhausted),
)
# A message about a field begins with its path and a colon.
_PARAM: Final = re.compile(r"([a-z_]+(?:\.[A-Za-z0-9_]+)*): ")
_OF_A_MODEL: Final = "model: "
MAX_UNSUPPORTED_NAMES: Final = 32
"""The maximum number of names read from `details.unsupported`."""


@dataclass(frozen=True, slots=True)
class _Envelope:
    """The fields of an error envelope; empty strings if there is no envelope."""

    type: str = ""
    reason: str = ""
    code: str = ""
    unsupported: tuple[str, ...] = ()


def map_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """Returns the failure that a non-2xx answer means, with the vendor's own reason."""
    try:
        value = decode(body)
    except ValueError:
        # A proxy's page: nothing in it is meant for a caller.
        value = None
    return _failure(status, _read_envelope(value), parse_retry_after(headers.get("retry-after")))


def error_in_answer(value: Mapping[str, Any]) -> UpstreamError:
    """Returns the failure that an error envelope inside a 200 means."""
    envelope = _read_envelope(value)
    return _failure(_STATUS_BY_TYPE.get(envelope.type, 500), envelope, None)


def _read_envelope(value: Any) -> _Envelope:
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        return _Envelope()
    details = error.get("details")
    details = details if isinstance(details, dict) else {}
    named = details.get("unsupported")
    names = map(read_name, named[:MAX_UNSUPPORTED_NAMES] if isinstance(named, list) else ())
    return _Envelope(
        read_name(error.get("type")),
        read_text(error.get("message")),
        read_name(details.get("error_code")),
        tuple(filter(None, names)),
    )


def _failure(status: int, envelope: _Envelope, retry_after: float | None) -> UpstreamError:
    error_class, basis, phrase = _kind(status, envelope)
    words = vendor_reason(envelope.reason)
    param = _PARAM.match(envelope.reason)
    error = error_class(
        f"The provider answered {status}" + (f": {words}" if words else "."),
        status=status,
        retry_after=retry_after,
        details=VendorDetails(
            ANTHROPIC_MESSAGES,
            status,
            basis,
            type=envelope.type,
            code=envelope.code,
            param=read_name(param.group(1)) if param else "",
            reason=envelope.reason,
            phrase=phrase,
            unsupported=envelope.unsupported,
        ),
    )
    error.counts_against_breaker = counts_for_any_request(
        error_class, status, basis, envelope.reason.lower()
    )
    return with_status(error, status)


def _kind(status: int, envelope: _Envelope) -> tuple[type[UpstreamError], Basis, str]:
    """Returns the class of an error, what decided it, and the matched phrase."""
    if envelope.type == "billing_error" or envelope.code.endswith("spend_limit_reached"):
        return QuotaExhausted, Basis.CODE, ""
    if envelope.type == "overloaded_error":
        return UpstreamOverloaded, Basis.CODE, ""
    if 400 <= status < 500 and envelope.code.startswith("thread_"):
        # Clients act on these codes, also if they come with a 409.
        return RequestRejected, Basis.CODE, ""
    if 400 <= status < 500:
        words = without_quotes(envelope.reason)
        for sign, error_class in _ERRORS_BY_PHRASE:
            if sign in words:
                return error_class, Basis.MESSAGE, sign
    if status == 403 and is_about_a_model(envelope.reason):
        return ModelNotFound, Basis.MESSAGE, ""
    if status == 404 and envelope.reason.startswith(_OF_A_MODEL):
        return ModelNotFound, Basis.MESSAGE, _OF_A_MODEL
    if status == 404 and not envelope.type:
        return EndpointNotFound, Basis.STATUS, ""
    if status in _ERRORS_BY_STATUS:
        return _ERRORS_BY_STATUS[status], Basis.STATUS, ""
    # A conflict or a redirect says nothing against the request.
    is_rejected = 400 <= status < 500 and status != 409
    return RequestRejected if is_rejected else ServerFailed, Basis.STATUS, ""


def error_body(error: LLMError, request_id: str) -> dict[str, Any]:
    """Returns the envelope for callers. `details.error_code`, where Anthropic's own SDK looks for a
    code, is the vendor's if it speaks this format, because clients act on it; otherwise it is
    our stable code."""
    status = error.http_status
    kind = "invalid_request_error" if status < 500 else "api_error"
    vendor = error.details if isinstance(error, UpstreamError) and status < 500 else None
    own = vendor if vendor is not None and vendor.format == ANTHROPIC_MESSAGES else None
    details: dict[str, Any] = {"error_code": (own and own.code) or error.code}
    field = error.field if isinstance(error, InvalidRequest) else None
    if field is None and vendor is not None:
        field = vendor.param or None
    if field is not None:
        details["field"] = field
    if own is not None and own.unsupported:
        details["unsupported"] = list(own.unsupported)
    if error.attempts:
        details["attempts"] = [
            {"target": f"{attempt.provider}/{attempt.model}", "error_code": attempt.error_code}
            for attempt in error.attempts
        ]
    return {
        "type": "error",
        "error": {
            "type": (own and own.type) or _TYPES_BY_STATUS.get(status, kind),
            "message": error.message,
            "details": details,
        },
        "request_id": request_id,
    }


def write_error(error: LLMError, request_id: str) -> bytes:
    """Returns the body of an error for callers."""
    return encode(error_body(error, request_id))
