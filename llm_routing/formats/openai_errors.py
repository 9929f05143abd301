"""Errors of OpenAI's format: vendors' answers mapped to ours, and ours in OpenAI's envelope.

Sources: https://platform.openai.com/docs/guides/error-codes, https://openrouter.ai/docs/api/errors,
https://api-docs.deepseek.com/quick_start/error_codes, https://docs.mistral.ai/resources/error-glossary
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from llm_routing.core.codec import decode, encode
from llm_routing.core.errors import (
    ContentFiltered,
    ContextTooLong,
    CredentialRejected,
    InvalidRequest,
    LLMError,
    MalformedAnswer,
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

_ERRORS_BY_STATUS: Final[Mapping[int, type[UpstreamError]]] = {
    401: CredentialRejected,
    402: QuotaExhausted,
    403: CredentialRejected,
    404: ModelNotFound,
    408: UpstreamTimeout,
    # By bytes it does not fit here; another vendor's limit may be wider.
    413: ContextTooLong,
    429: RateLimited,
    498: UpstreamOverloaded,
    503: UpstreamOverloaded,
    504: UpstreamTimeout,
    524: UpstreamTimeout,
    529: UpstreamOverloaded,
}

# What codes and types say, whatever the status. The names of several vendors.
_ERRORS_BY_NAME: Final[Mapping[str, type[UpstreamError]]] = {
    "context_length_exceeded": ContextTooLong,
    "exceed_context_size_error": ContextTooLong,
    "content_filter": ContentFiltered,
    "content_policy_violation": ContentFiltered,
    "responsibleaipolicyviolation": ContentFiltered,
    "insufficient_quota": QuotaExhausted,
    "billing_hard_limit_reached": QuotaExhausted,
    "invalid_api_key": CredentialRejected,
    "unauthenticated": CredentialRejected,
    "model_not_found": ModelNotFound,
    "unknown_model": ModelNotFound,
    "invalid_model": ModelNotFound,
    "overloaded_error": UpstreamOverloaded,
}

# The status that an error without one would have had: inside a 200, in the midst of a stream.
_STATUS_BY_NAME: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "invalid_argument": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found": 404,
    "not_found_error": 404,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "resource_exhausted": 429,
    "server_error": 500,
    "api_error": 500,
    "internal": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "internalservererror": 500,
    "unavailable": 503,
    "service_unavailable": 503,
    "deadline_exceeded": 504,
    "timeout": 504,
}

# What only the words tell, in an answer of 4xx or 500.
_ERRORS_BY_WORDS: Final[tuple[tuple[re.Pattern[str], type[UpstreamError]], ...]] = (
    (
        re.compile(
            r"maximum context length|context[_ ]length[_ ]exceeded|(?:prompt|input) is too long"
            r"|exceeds? the (?:model'?s? )?(?:context window|maximum context|available context)"
            r"|maximum prompt length|reduce the length of the (?:messages|prompt|input)"
            r"|input token count.{0,40}exceeds|greater than the context length"
            r"|exceed(?:s|ed)? (?:the )?(?:model )?(?:context|token) limit"
            r"|context (?:size|window) (?:has been )?exceed|too large for model with \d+ maximum"
        ),
        ContextTooLong,
    ),
    (
        re.compile(
            r"content (?:management|filtering) policy|content policy violation"
            r"|requires moderation|flagged (?:by|as|for)|input was flagged"
        ),
        ContentFiltered,
    ),
    (re.compile(r"insufficient (?:balance|credits?|funds|quota)"), QuotaExhausted),
    (re.compile(r"(?:incorrect|invalid) api key|api key not valid"), CredentialRejected),
    (
        re.compile(
            r"model\b.{0,120}(?:does not exist|not found|is not a valid model)"
            r"|model not exist|invalid model|is not a valid model"
            r"|(?:does not have|no) access to (?:the |this )?model\b"
        ),
        ModelNotFound,
    ),
)

_SENTENCES: Final[Mapping[type[UpstreamError], str]] = {
    ContentFiltered: "The provider's policy refuses this content",
    ContextTooLong: "The request is too long for the model",
    CredentialRejected: "The provider did not accept our key",
    MalformedAnswer: "The provider answered with an error",
    ModelNotFound: "The provider does not know the model",
    QuotaExhausted: "The account at the provider has no quota left",
    RateLimited: "The provider limits our rate",
    RequestRejected: "The provider found the request wrong",
    ServerFailed: "The provider failed",
    UpstreamOverloaded: "The provider is overloaded",
    UpstreamTimeout: "The provider timed out",
}


@dataclass(frozen=True, slots=True)
class _Said:
    """What a vendor's error says; names are lower-case. `code` is the status it names itself."""

    reason: str = ""
    names: tuple[str, ...] = ()
    code: int = 0
    was_moderated: bool = False


def map_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """The failure that a non-2xx answer means, with the vendor's own reason."""
    try:
        value = decode(body)
    except ValueError:
        # A proxy's page: nothing in it is meant for a caller.
        value = None
    said = _said(value)
    error_class = _error_class(status, said)
    return _failure(error_class, said, status, _retry_after(headers))


def error_in_answer(value: Any) -> UpstreamError:
    """The failure that an error inside a 200, or in the midst of a stream, means. Without a sign
    of what it is, `MalformedAnswer`."""
    said = _said(value)
    status = said.code or next(
        (_STATUS_BY_NAME[name] for name in said.names if name in _STATUS_BY_NAME), 0
    )
    return _failure(_error_class(status, said), said, 200, None)


def _said(value: Any) -> _Said:
    # Google answers with an array of one.
    value = value[0] if isinstance(value, list) and value else value
    if not isinstance(value, dict):
        return _Said(value if isinstance(value, str) else "")
    # Mistral and FastAPI write the error's fields at the top; Ollama has had a bare string.
    error = value.get("error") or value
    if not isinstance(error, dict):
        return _Said(error if isinstance(error, str) else "")
    metadata = error.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    inner = error.get("innererror")
    inner = inner if isinstance(inner, dict) else {}
    names = (
        error.get("code"),
        error.get("type"),
        error.get("status"),
        inner.get("code"),
        metadata.get("error_type"),
    )
    return _Said(
        reason=_reason(error, metadata),
        names=tuple(name.lower() for name in names if isinstance(name, str)),
        code=_status(error.get("code")),
        was_moderated=bool(metadata.get("reasons") or metadata.get("flagged_input")),
    )


def _reason(error: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    raw = metadata.get("raw")
    if isinstance(raw, str):
        # OpenRouter says "Provider returned error" and hands on what the provider said.
        try:
            inner = _said(decode(raw)).reason
        except ValueError:
            inner = ""
        if inner:
            return inner
    message = error.get("message") or error.get("detail")
    if isinstance(message, dict):
        message = message.get("detail") or message.get("message")
    if isinstance(message, list):
        message = "; ".join(_violation(item) for item in message if isinstance(item, dict))
    return message if isinstance(message, str) else ""


def _violation(item: Mapping[str, Any]) -> str:
    """One of pydantic's complaints, as FastAPI servers list them. Their `input` is left out: it
    repeats the prompt."""
    place = item.get("loc")
    path = ".".join(str(step) for step in place) if isinstance(place, list) else ""
    return f"{path}: {item.get('msg', '')}"


def _status(code: Any) -> int:
    """An HTTP status written as a code, as number or as text; 0 for anything else."""
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        code = int(code)
    return code if isinstance(code, int) and 400 <= code <= 599 else 0


def _error_class(status: int, said: _Said) -> type[UpstreamError]:
    if said.was_moderated:
        return ContentFiltered
    for name in said.names:
        if name in _ERRORS_BY_NAME:
            return _ERRORS_BY_NAME[name]
    if status in (400, 403, 404, 413, 422, 500):
        words = said.reason.lower()
        for pattern, error_class in _ERRORS_BY_WORDS:
            if pattern.search(words):
                return error_class
    if status == 403 and is_about_a_model(said.reason):
        return ModelNotFound
    if status in _ERRORS_BY_STATUS:
        return _ERRORS_BY_STATUS[status]
    if status == 0:
        return MalformedAnswer
    # A conflict or a redirect of theirs says nothing against the request.
    return RequestRejected if 400 <= status < 500 and status != 409 else ServerFailed


def _failure(
    error_class: type[UpstreamError], said: _Said, status: int, retry_after: float | None
) -> UpstreamError:
    reason = vendor_reason(said.reason)
    ending = f": {reason}" if reason else "."
    message = f"{_SENTENCES[error_class]} ({status}){ending}"
    return error_class(message, status=status, retry_after=retry_after)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, by `retry-after-ms` (OpenAI, Azure: the finer one) or by `retry-after`."""
    try:
        seconds = float(headers.get("retry-after-ms", "")) / 1000
    except ValueError:
        return parse_retry_after(headers.get("retry-after"))
    return parse_retry_after(str(seconds))


# OpenAI's own codes where it has one for the same thing; else ours.
_CODES: Final[Mapping[str, str]] = {
    "unauthenticated": "invalid_api_key",
    "unknown_model": "model_not_found",
    "context_too_long": "context_length_exceeded",
    "content_filtered": "content_policy_violation",
    "rate_limited": "rate_limit_exceeded",
}
_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


def error_body(error: LLMError, request_id: str) -> dict[str, Any]:
    """OpenAI's envelope. `attempts` lists what was tried, by target and reason."""
    status = error.http_status
    kind = "invalid_request_error" if status < 500 else "server_error"
    body: dict[str, Any] = {
        "message": error.message,
        "type": _TYPES.get(status, kind),
        "param": error.field if isinstance(error, InvalidRequest) else None,
        "code": _CODES.get(error.code, error.code),
        "request_id": request_id,
    }
    if error.attempts:
        body["attempts"] = [
            {"target": f"{attempt.provider}/{attempt.model}", "reason": attempt.error_code}
            for attempt in error.attempts
        ]
    return {"error": body}


def render_error(error: LLMError, request_id: str) -> bytes:
    """The body of an error for callers."""
    return encode(error_body(error, request_id))
