"""Every kind of failure, with its consequences; they are decided here and nowhere else.

The number is the HTTP status of the response to the caller.

LLMError                        500
├── RequestError                400  the caller's fault, or of concern to this caller only
│   ├── InvalidRequest          400  a field is missing, wrong or impossible
│   ├── Unauthenticated         401  the API key is missing, wrong or revoked
│   ├── PermissionDenied        403  the API key does not allow this
│   ├── UnknownModel            404  no such model, alias, use case or tier
│   ├── ThreadNotFound          404  there is no thread with the named answer
│   ├── ThreadUnsupported       400  the target cannot continue a thread
│   ├── RequestTooLarge         413  the body exceeds the limit
│   ├── HeadersTooLarge         431  too many or too large headers
│   ├── UrlTooLong              414  the URL exceeds the limit
│   ├── IdempotencyKeyReused    422  the idempotency key was used for another request
│   ├── Throttled               429  this key or address exceeds a limit of its own
│   ├── RequestTimedOut         408  the body took too long to arrive
│   ├── Overloaded              503  the gateway has no capacity; try again later
│   └── AccessUnavailable       503  the API key cannot be checked just now
├── UpstreamError               502  the failure of one attempt
│   ├── ConnectionFailed        502  no connection: refused, or reset before a response
│   │   ├── NameResolutionFailed 502  DNS
│   │   ├── TLSFailed           502  the handshake failed
│   │   │   └── CertificateRejected 502  the certificate is not trusted
│   │   └── AddressForbidden    502  settings do not allow the address
│   ├── ConnectionLost          502  the connection broke during the response
│   ├── UpstreamTimeout         504  silence beyond a limit
│   │   ├── ConnectTimeout      504  no connection in time
│   │   ├── FirstTokenTimeout   504  connected, but no token in time
│   │   ├── IdleTimeout         504  the stream fell silent
│   │   └── DeadlineCut         504  cut at the deadline of the request
│   ├── RateLimited             429  the vendor limits our rate
│   ├── QuotaExhausted          502  the account has no money or quota left
│   ├── CredentialRejected      502  the vendor rejects our key, or none is configured
│   ├── UpstreamOverloaded      503  the vendor has no capacity (503, 529)
│   ├── ServerFailed            502  the vendor failed (its other 5xx)
│   ├── ModelNotFound           502  the vendor does not know the model
│   ├── EndpointNotFound        502  the vendor has no such endpoint
│   ├── ContextTooLong          400  the prompt does not fit the model's context window
│   ├── ContentFiltered         400  rejected by the vendor's content policy
│   ├── RequestRejected         400  or 404: the vendor's other 4xx
│   ├── UnsupportedRequest      400  the target's wire format cannot express the request
│   ├── BreakerOpen             503  not called: the circuit breaker is open
│   ├── ProviderBusy            503  not called: all connections are in use
│   ├── MalformedAnswer         502  not an answer: HTML, empty or broken JSON
│   ├── TruncatedStream         502  the stream ended without a finish reason
│   └── AnswerTooLarge          502  the answer exceeds a limit
└── RoutingError                502  the request failed as a whole
    ├── NoTargetAvailable       503  the route has no usable target
    ├── AllTargetsFailed        502  or 504 if the last one timed out; lists the attempts
    │   └── AllTargetsRateLimited 429  every target limits our rate
    └── DeadlineExceeded        504  time ran out
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Final

from .types import AttemptSummary
from .vendor_details import VendorDetails


class LLMError(Exception):
    """The base class. `str(error)` is a sentence for the caller, without secrets or prompts.

    `code` is stable and meant for programs. `retry_after` is in seconds, None if unknown;
    `attempts` are the attempts before the error; `upstream_headers` are the vendor's headers that
    are forwarded to callers (`core.upstream_headers`).
    """

    code: ClassVar[str] = "llm_error"
    http_status: int = 500
    attempts: tuple[AttemptSummary, ...] = ()
    upstream_headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class RequestError(LLMError):
    """The request cannot be served."""

    code = "request_error"
    http_status = 400


class InvalidRequest(RequestError):
    """A field is missing, wrong or impossible. `field` names it, as a path (`messages.0.role`)."""

    code = "invalid_request"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Unauthenticated(RequestError):
    """The API key is missing, wrong or revoked."""

    code = "unauthenticated"
    http_status = 401


class PermissionDenied(RequestError):
    """The API key is valid but not allowed to do this."""

    code = "permission_denied"
    http_status = 403


class UnknownModel(RequestError):
    """The model, alias, use case or tier does not exist; the message lists those that do."""

    code = "unknown_model"
    http_status = 404

    def __init__(self, message: str, *, known: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.known = tuple(known)


class ThreadNotFound(RequestError):
    """There is no thread that contains the named answer. The code is Anthropic's own: clients then
    send the whole conversation."""

    code = "thread_not_found"
    http_status = 404


class ThreadUnsupported(RequestError):
    """The target cannot continue a thread, and an answer to its last turn alone would be wrong. The
    code is Anthropic's own: clients then continue without threads."""

    code = "thread_unsupported_request"


class RequestTooLarge(RequestError):
    """The body exceeds the limit."""

    code = "request_too_large"
    http_status = 413


class HeadersTooLarge(RequestError):
    """The request has too many or too large headers."""

    code = "headers_too_large"
    http_status = 431


class UrlTooLong(RequestError):
    """The URL exceeds the limit."""

    code = "url_too_long"
    http_status = 414


class IdempotencyKeyReused(RequestError):
    """The idempotency key was used for a different request."""

    code = "idempotency_key_reused"
    http_status = 422


class Throttled(RequestError):
    """This API key or client address exceeds a limit of its own; others are not affected."""

    code = "throttled"
    http_status = 429


class RequestTimedOut(RequestError):
    """The body took too long to arrive."""

    code = "request_timed_out"
    http_status = 408


class Overloaded(RequestError):
    """The gateway has no capacity for another request, or is shutting down."""

    code = "overloaded"
    http_status = 503


class AccessUnavailable(RequestError):
    """The API key cannot be checked because the database is unavailable."""

    code = "access_unavailable"
    http_status = 503


class UpstreamError(LLMError):
    """The failure of one attempt at a target, with its consequences.

    `retryable_here`: the same target may succeed on a retry. `retryable_elsewhere`: another target
    may succeed. `prefers_elsewhere`: another target is tried first, unless waiting here is faster.
    `needs_larger_window`: only a model with a larger context window may succeed.
    `counts_against_breaker`: it says something about shared state: the target, its model or its
    credential; False for failures that a caller may have provoked. `disables_credential`: it
    concerns the provider's credential and so all its models. `billed`: the vendor may charge for
    it. `status` is the vendor's HTTP status, None if there was none; `details` are the vendor's own
    message and codes.
    """

    code = "upstream_error"
    http_status = 502
    retryable_here: ClassVar[bool] = False
    retryable_elsewhere: bool = True
    prefers_elsewhere: ClassVar[bool] = False
    needs_larger_window: ClassVar[bool] = False
    counts_against_breaker: bool = True
    disables_credential: ClassVar[bool] = False
    billed: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        details: VendorDetails | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.status = status
        self.details = details


class ConnectionFailed(UpstreamError):
    """No connection was established, or it was reset before a response."""

    code = "connection_failed"
    retryable_here = True


class NameResolutionFailed(ConnectionFailed):
    """DNS has no address for the provider's host."""

    code = "name_resolution_failed"
    retryable_here = False


class TLSFailed(ConnectionFailed):
    """The TLS handshake failed."""

    code = "tls_failed"
    retryable_here = False


class CertificateRejected(TLSFailed):
    """The provider's certificate is expired, issued for another name or by an unknown authority."""

    code = "certificate_rejected"


class AddressForbidden(ConnectionFailed):
    """The base URL leads to an address that settings do not allow. Other processes may have other
    settings, so it does not count against the target."""

    code = "address_forbidden"
    retryable_here = False
    counts_against_breaker = False


class ConnectionLost(UpstreamError):
    """The connection broke during the response."""

    code = "connection_lost"
    retryable_here = True
    billed = True


class UpstreamTimeout(UpstreamError):
    """The provider sent nothing within a limit."""

    code = "upstream_timeout"
    http_status = 504
    billed = True


class ConnectTimeout(UpstreamTimeout):
    """No connection was established within the limit."""

    code = "connect_timeout"
    billed = False


class FirstTokenTimeout(UpstreamTimeout):
    """The provider was connected but sent no token within the limit."""

    code = "first_token_timeout"


class IdleTimeout(UpstreamTimeout):
    """The stream was silent for longer than the limit."""

    code = "idle_timeout"


class DeadlineCut(UpstreamTimeout):
    """The attempt ended at the deadline of the whole request, or at its share of the time, which
    leaves some for other targets; not at a limit of the target's own."""

    code = "cut_by_deadline"


class RateLimited(UpstreamError):
    """The vendor limits our rate."""

    code = "rate_limited"
    http_status = 429
    retryable_here = True
    prefers_elsewhere = True


class QuotaExhausted(UpstreamError):
    """The account at the vendor has no money or quota left."""

    code = "quota_exhausted"
    disables_credential = True


class CredentialRejected(UpstreamError):
    """The vendor rejects our key, or none is configured. Never a 401 to the caller."""

    code = "credential_rejected"
    disables_credential = True


class UpstreamOverloaded(UpstreamError):
    """The vendor has no capacity (503, 529)."""

    code = "upstream_overloaded"
    http_status = 503
    retryable_here = True


class ServerFailed(UpstreamError):
    """The vendor failed (other 5xx)."""

    code = "server_failed"
    retryable_here = True


class ModelNotFound(UpstreamError):
    """The vendor does not know the model."""

    code = "model_not_found"


class EndpointNotFound(UpstreamError):
    """The vendor has no such endpoint: its base URL is wrong, or it lacks the operation."""

    code = "endpoint_not_found"
    counts_against_breaker = False


class ContextTooLong(UpstreamError):
    """The prompt does not fit the model's context window; a larger one may hold it."""

    code = "context_too_long"
    http_status = 400
    needs_larger_window = True
    counts_against_breaker = False


class ContentFiltered(UpstreamError):
    """The vendor's policy refuses this content."""

    code = "content_filtered"
    http_status = 400
    retryable_elsewhere = False
    counts_against_breaker = False


class RequestRejected(UpstreamError):
    """The vendor rejects the request as wrong; the caller can read its reason.

    It ends the chain if it concerns the caller's content. If it concerns a part that the gateway
    wrote, or a feature that this vendor does not offer, `retryable_elsewhere` is set.
    """

    code = "request_rejected"
    http_status = 400
    retryable_elsewhere = False
    counts_against_breaker = False


class UnsupportedRequest(UpstreamError):
    """The target's wire format cannot express the request (`n` of 3, another vendor's tool)."""

    code = "unsupported_request"
    http_status = 400
    counts_against_breaker = False


class BreakerOpen(UpstreamError):
    """The target was not called: its circuit breaker is open after failures, or its provider
    rejects our credential. `cause` is the code of the failure that opened the breaker."""

    code = "breaker_open"
    http_status = 503
    counts_against_breaker = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        cause: str = "",
    ) -> None:
        super().__init__(message, status=status, retry_after=retry_after)
        self.cause = cause


class ProviderBusy(UpstreamError):
    """The provider was not called: all our connections to it are in use, and the queue for them is
    full or too slow for this request."""

    code = "provider_busy"
    http_status = 503
    counts_against_breaker = False


class MalformedAnswer(UpstreamError):
    """The response is not an answer: HTML, no choices, broken JSON, or an error with status 200."""

    code = "malformed_answer"
    retryable_here = True
    billed = True


class TruncatedStream(UpstreamError):
    """The stream ended without a finish reason."""

    code = "truncated_stream"
    retryable_here = True
    billed = True


class AnswerTooLarge(UpstreamError):
    """The answer exceeds a limit."""

    code = "answer_too_large"
    billed = True


class RoutingError(LLMError):
    """The request failed as a whole."""

    code = "routing_error"
    http_status = 502

    def __init__(
        self,
        message: str,
        *,
        attempts: Sequence[AttemptSummary] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.attempts = tuple(attempts)


class NoTargetAvailable(RoutingError):
    """The route has no usable target: all are inactive, have an open breaker or lack a key."""

    code = "no_target_available"
    http_status = 503


class AllTargetsFailed(RoutingError):
    """Every target was tried. `attempts` lists the targets and their failures; `last` is the last
    failure."""

    code = "all_targets_failed"

    def __init__(
        self,
        message: str,
        *,
        attempts: Sequence[AttemptSummary],
        last: UpstreamError,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, attempts=attempts, retry_after=retry_after)
        self.last = last
        self.upstream_headers = last.upstream_headers
        if isinstance(last, UpstreamTimeout):
            self.http_status = 504


class AllTargetsRateLimited(AllTargetsFailed):
    """Every target limits our rate. `retry_after` is the shortest wait that a vendor requested."""

    code = "all_targets_rate_limited"
    http_status = 429


class DeadlineExceeded(RoutingError):
    """Time ran out before an answer arrived."""

    code = "deadline_exceeded"
    http_status = 504


def _leaves(root: type[LLMError]) -> dict[str, type[LLMError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_leaves(child))
    return found


ERRORS_BY_CODE: Mapping[str, type[LLMError]] = _leaves(LLMError)

INTERNAL_ERROR: Final = "internal_error"
"""The code of a failure inside the gateway itself."""
