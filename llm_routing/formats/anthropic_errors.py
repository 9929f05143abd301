"""Errors of Anthropic Messages: the vendor's mapped to ours, and ours in its envelope.

Source: https://platform.claude.com/docs/en/api/errors
"""

from collections.abc import Mapping
from typing import Any, Final

from llm_routing.core.codec import decode, encode
from llm_routing.core.errors import (
    ContentFiltered,
    ContextTooLong,
    CredentialRejected,
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
from llm_routing.core.retry import parse_retry_after

from .reasons import is_about_a_model, vendor_reason

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
# An error inside a 200 has a type alone; the status it would have had otherwise.
_STATUS_BY_TYPE: Final = {
    **{name: status for status, name in _TYPES_BY_STATUS.items()},
    "api_error": 500,
}
_ERRORS_BY_STATUS: Final[Mapping[int, type[UpstreamError]]] = {
    401: CredentialRejected,
    402: QuotaExhausted,
    403: CredentialRejected,
    404: ModelNotFound,
    408: UpstreamTimeout,
    # By bytes it does not fit here; another vendor's limit may be wider.
    413: ContextTooLong,
    429: RateLimited,
    503: UpstreamOverloaded,
    504: UpstreamTimeout,
    529: UpstreamOverloaded,
}
# What only the words tell. The first three come as invalid_request_error.
_ERRORS_BY_WORDS: Final[tuple[tuple[str, type[UpstreamError]], ...]] = (
    ("prompt is too long", ContextTooLong),
    ("exceed context limit", ContextTooLong),
    ("blocked by content filtering policy", ContentFiltered),
    ("credit balance is too low", QuotaExhausted),
    ("specified api usage limits", QuotaExhausted),
)


def map_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """The failure that a non-2xx answer means, with the vendor's own reason."""
    try:
        value = decode(body)
    except ValueError:
        # A proxy's page: nothing in it is meant for a caller.
        value = None
    kind, reason, code = _said(value)
    return _failure(status, kind, reason, code, parse_retry_after(headers.get("retry-after")))


def error_in_answer(value: Mapping[str, Any]) -> UpstreamError:
    """The failure that an error envelope inside a 200 means."""
    kind, reason, code = _said(value)
    return _failure(_STATUS_BY_TYPE.get(kind, 500), kind, reason, code, None)


def _said(value: Any) -> tuple[str, str, str]:
    """The type, the message and the code of an error envelope; empty where there is none."""
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        return "", "", ""
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    kind, reason = error.get("type"), error.get("message")
    return (
        kind if isinstance(kind, str) else "",
        reason if isinstance(reason, str) else "",
        code if isinstance(code, str) else "",
    )


def _failure(
    status: int, kind: str, reason: str, code: str, retry_after: float | None
) -> UpstreamError:
    error_class = _error_class(status, kind, reason.lower(), code)
    words = vendor_reason(reason)
    message = f"The provider answered {status}" + (f": {words}" if words else ".")
    return error_class(message, status=status, retry_after=retry_after)


def _error_class(status: int, kind: str, words: str, code: str) -> type[UpstreamError]:
    if kind == "billing_error" or code.endswith("spend_limit_reached"):
        return QuotaExhausted
    if kind == "overloaded_error":
        return UpstreamOverloaded
    if 400 <= status < 500:
        for sign, error_class in _ERRORS_BY_WORDS:
            if sign in words:
                return error_class
    if status == 403 and is_about_a_model(words):
        return ModelNotFound
    if status in _ERRORS_BY_STATUS:
        return _ERRORS_BY_STATUS[status]
    # A conflict or a redirect of theirs says nothing against the request.
    return RequestRejected if 400 <= status < 500 and status != 409 else ServerFailed


def error_body(error: LLMError, request_id: str) -> dict[str, Any]:
    """The envelope for callers. `details.error_code` is the stable code of the error, where
    Anthropic's own SDK looks for one."""
    status = error.http_status
    kind = "invalid_request_error" if status < 500 else "api_error"
    details: dict[str, Any] = {"error_code": error.code}
    if isinstance(error, InvalidRequest) and error.field is not None:
        details["field"] = error.field
    if error.attempts:
        details["attempts"] = [
            {"target": f"{attempt.provider}/{attempt.model}", "error_code": attempt.error_code}
            for attempt in error.attempts
        ]
    return {
        "type": "error",
        "error": {
            "type": _TYPES_BY_STATUS.get(status, kind),
            "message": error.message,
            "details": details,
        },
        "request_id": request_id,
    }


def render_error(error: LLMError, request_id: str) -> bytes:
    """The body of an error for callers."""
    return encode(error_body(error, request_id))
