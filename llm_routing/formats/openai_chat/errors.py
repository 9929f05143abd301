"""Maps errors of OpenAI-format vendors to ours, and writes ours in OpenAI's envelope.

Sources: https://platform.openai.com/docs/guides/error-codes, https://openrouter.ai/docs/api/errors,
https://api-docs.deepseek.com/quick_start/error_codes,
https://docs.mistral.ai/resources/error-glossary
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
from llm_routing.core.vendor_details import Basis, VendorDetails
from llm_routing.formats.error_attribution import counts_for_any_request, with_status
from llm_routing.formats.names import OPENAI_CHAT
from llm_routing.formats.vendor_messages import is_about_a_model, vendor_reason, without_quotes

from .read_error import VendorErrorBody, read_error

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
    498: UpstreamOverloaded,
    503: UpstreamOverloaded,
    504: UpstreamTimeout,
    524: UpstreamTimeout,
    529: UpstreamOverloaded,
}

# The meanings of codes and types, independent of the status. Names of several vendors; Google's
# reasons:
# https://docs.cloud.google.com/service-infrastructure/docs/service-management/reference/rpc/google.api#errorreason
_ERRORS_BY_NAME: Final[Mapping[str, type[UpstreamError]]] = {
    "context_length_exceeded": ContextTooLong,
    "exceed_context_size_error": ContextTooLong,
    "content_filter": ContentFiltered,
    "content_policy_violation": ContentFiltered,
    "responsibleaipolicyviolation": ContentFiltered,
    "insufficient_quota": QuotaExhausted,
    "billing_hard_limit_reached": QuotaExhausted,
    "billing_not_active": QuotaExhausted,
    "billing_disabled": QuotaExhausted,
    "invalid_api_key": CredentialRejected,
    "account_deactivated": CredentialRejected,
    "access_terminated": CredentialRejected,
    "unauthenticated": CredentialRejected,
    "api_key_invalid": CredentialRejected,
    "api_key_service_blocked": CredentialRejected,
    "api_key_ip_address_blocked": CredentialRejected,
    "consumer_invalid": CredentialRejected,
    "consumer_suspended": CredentialRejected,
    "service_disabled": CredentialRejected,
    "model_not_found": ModelNotFound,
    "unknown_model": ModelNotFound,
    "invalid_model": ModelNotFound,
    "overloaded_error": UpstreamOverloaded,
}

# The status that an error inside a 200 or inside a stream stands for.
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

# Phrases of messages, in answers with a 4xx status or 500.
_ERRORS_BY_PHRASE: Final[tuple[tuple[re.Pattern[str], type[UpstreamError]], ...]] = (
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
    (
        re.compile(
            r"(?:incorrect|invalid) api key|api key not valid"
            r"|api key (?:was reported as leaked|has expired|expired)"
        ),
        CredentialRejected,
    ),
    (
        re.compile(
            r"model\b.{0,120}(?:does not exist|not found|is not a valid model)"
            r"|model not exist|invalid model|is not a valid model"
            r"|(?:does not have|no) access to (?:the |this )?model\b"
        ),
        ModelNotFound,
    ),
)

_MESSAGES: Final[Mapping[type[UpstreamError], str]] = {
    ContentFiltered: "The provider's policy rejects this content",
    ContextTooLong: "The request is too long for the model",
    EndpointNotFound: "The provider has no such endpoint",
    CredentialRejected: "The provider rejected our key",
    MalformedAnswer: "The provider answered with an error",
    ModelNotFound: "The provider does not know the model",
    QuotaExhausted: "The account at the provider has no quota left",
    RateLimited: "The provider limits our rate",
    RequestRejected: "The provider rejected the request as invalid",
    ServerFailed: "The provider failed",
    UpstreamOverloaded: "The provider is overloaded",
    UpstreamTimeout: "The provider timed out",
}


# Responses of servers to an unknown path; they never quote the caller.
_NO_SUCH_PATH: Final = ("", "not found", "404 not found", "404 page not found", "page not found")


def map_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """Returns the failure that a non-2xx answer means, with the vendor's own reason."""
    try:
        value = decode(body)
    except ValueError:
        # A proxy's page: nothing in it is meant for a caller.
        value = None
    error = read_error(value)
    return _failure(_kind(status, error), error, status, status, _retry_after(headers))


def error_in_answer(value: Any) -> UpstreamError:
    """Returns the failure that an error inside a 200 or inside a stream means; `MalformedAnswer` if
    the error does not say."""
    body = read_error(value)
    status = body.status or next(
        (_STATUS_BY_NAME[name] for name in body.names if name in _STATUS_BY_NAME), 0
    )
    return _failure(_kind(status, body), body, status, 200, None)


@dataclass(frozen=True, slots=True)
class _Kind:
    """The class of an error, what decided it, and the matched phrase."""

    error_class: type[UpstreamError]
    basis: Basis = Basis.STATUS
    phrase: str = ""


def _kind(status: int, body: VendorErrorBody) -> _Kind:
    if body.was_moderated:
        return _Kind(ContentFiltered, Basis.CODE)
    for name in body.names:
        if name in _ERRORS_BY_NAME:
            return _Kind(_ERRORS_BY_NAME[name], Basis.CODE)
    for name in body.relayed_names:
        if name in _ERRORS_BY_NAME:
            return _Kind(_ERRORS_BY_NAME[name], Basis.MESSAGE)
    if status in (400, 403, 404, 413, 422, 500):
        words = without_quotes(body.reason)
        for pattern, error_class in _ERRORS_BY_PHRASE:
            if found := pattern.search(words):
                return _Kind(error_class, Basis.MESSAGE, found.group())
    if status == 403 and is_about_a_model(body.reason):
        return _Kind(ModelNotFound, Basis.MESSAGE)
    if status == 404 and _is_about_the_path(body):
        return _Kind(EndpointNotFound)
    if status in _ERRORS_BY_STATUS:
        return _Kind(_ERRORS_BY_STATUS[status])
    if status == 0:
        return _Kind(MalformedAnswer)
    # A conflict or a redirect says nothing against the request.
    return _Kind(RequestRejected if 400 <= status < 500 and status != 409 else ServerFailed)


def _is_about_the_path(body: VendorErrorBody) -> bool:
    words = body.reason.lower().strip(" .")
    return words in _NO_SUCH_PATH or words.startswith("invalid url (")


def _failure(
    kind: _Kind, body: VendorErrorBody, meant: int, status: int, retry_after: float | None
) -> UpstreamError:
    """Returns the error of `kind`. `meant` is the status that the error stands for, `status` that
    of the HTTP answer."""
    reason = vendor_reason(body.reason)
    ending = f": {reason}" if reason else "."
    error = kind.error_class(
        f"{_MESSAGES[kind.error_class]} ({status}){ending}",
        status=status,
        retry_after=retry_after,
        details=VendorDetails(
            OPENAI_CHAT,
            meant,
            kind.basis,
            type=body.type,
            code=body.code,
            param=body.param,
            reason=body.reason,
            phrase="" if body.is_relayed else kind.phrase,
        ),
    )
    is_of_another = body.is_relayed and error.disables_credential
    error.counts_against_breaker = not is_of_another and counts_for_any_request(
        kind.error_class, meant, kind.basis, body.reason.lower()
    )
    return with_status(error, meant)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds in `retry-after-ms` (OpenAI, Azure; more precise) or `retry-after`."""
    try:
        seconds = float(headers.get("retry-after-ms", "")) / 1000
    except ValueError:
        return parse_retry_after(headers.get("retry-after"))
    return parse_retry_after(str(seconds))


# OpenAI's own codes where they exist, else ours.
_CODES: Final[Mapping[str, str]] = {
    "unauthenticated": "invalid_api_key",
    "unknown_model": "model_not_found",
    "context_too_long": "context_length_exceeded",
    "content_filtered": "content_policy_violation",
    "rate_limited": "rate_limit_exceeded",
    "all_targets_rate_limited": "rate_limit_exceeded",
}
_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


def error_body(error: LLMError, request_id: str) -> dict[str, Any]:
    """Returns OpenAI's envelope. `attempts` lists the targets that were tried and why they failed.
    The `type`, `code` and `param` of a vendor of this format are kept, because clients act on
    them."""
    status = error.http_status
    kind = "invalid_request_error" if status < 500 else "server_error"
    details = error.details if isinstance(error, UpstreamError) and status < 500 else None
    own = details if details is not None and details.format == OPENAI_CHAT else None
    field = error.field if isinstance(error, InvalidRequest) else None
    body: dict[str, Any] = {
        "message": error.message,
        "type": (own and own.type) or _TYPES.get(status, kind),
        "param": field or (details and details.param) or None,
        "code": (own and own.code) or _CODES.get(error.code, error.code),
        "request_id": request_id,
    }
    if error.attempts:
        body["attempts"] = [
            {"target": f"{attempt.provider}/{attempt.model}", "reason": attempt.error_code}
            for attempt in error.attempts
        ]
    return {"error": body}


def write_error(error: LLMError, request_id: str) -> bytes:
    """Returns the body of an error for callers."""
    return encode(error_body(error, request_id))
