"""Every failure the gateway knows, with what follows from it; nothing else decides that.

The number is the HTTP status that a caller is answered with.

LLMError                        500
├── RequestError                400  the caller's doing, or addressed to the caller alone
│   ├── InvalidRequest          400  a field is missing, wrong or impossible
│   ├── Unauthenticated         401  no key, a wrong one, a revoked one
│   ├── PermissionDenied        403  a good key, not for this
│   ├── UnknownModel            404  no such model, alias, use case or tier
│   ├── ThreadNotFound          404  no thread goes on from the answer that is named
│   ├── ThreadUnsupported       400  the target cannot go on with a thread
│   ├── RequestTooLarge         413  the body passes the limit
│   ├── HeadersTooLarge         431  too many header lines, or too large ones
│   ├── UrlTooLong              414  the URL passes the limit
│   ├── IdempotencyKeyReused    422  the idempotency key belongs to another request
│   ├── Throttled               429  this key or address asks for too much at once
│   ├── RequestTimedOut         408  the body took too long to arrive
│   ├── Overloaded              503  we have no room; try again later
│   └── AccessUnavailable       503  we cannot check the key just now
├── UpstreamError               502  what one attempt met
│   ├── ConnectionFailed        502  no connection: refused, reset before an answer
│   │   ├── NameResolutionFailed 502  DNS
│   │   ├── TLSFailed           502  the handshake
│   │   │   └── CertificateRejected 502  a certificate that is not to be trusted
│   │   └── AddressForbidden    502  the base URL leads to an address settings do not allow
│   ├── ConnectionLost          502  cut while the answer was on its way
│   ├── UpstreamTimeout         504  silence past a limit
│   │   ├── ConnectTimeout      504  no connection in time
│   │   ├── FirstTokenTimeout   504  connected, but no token in time
│   │   ├── IdleTimeout         504  a stream that fell silent
│   │   └── DeadlineCut       504  cut because the request's time was over
│   ├── RateLimited             429  the vendor asks for patience
│   ├── QuotaExhausted          502  the account has no money or quota left
│   ├── CredentialRejected      502  the vendor refuses our key, or there is none to send
│   ├── UpstreamOverloaded      503  the vendor has no room (its 503 or 529)
│   ├── ServerFailed            502  the vendor failed (its other 5xx)
│   ├── ModelNotFound           502  the vendor does not know the model
│   ├── EndpointNotFound        502  the vendor has no such endpoint
│   ├── ContextTooLong          400  the prompt does not fit the model's window
│   ├── ContentFiltered         400  refused by the vendor's policy
│   ├── RequestRejected         400  or 404: the vendor's other 4xx, whose reason is the caller's
│   ├── UnsupportedRequest      400  this target's wire format cannot say what was asked
│   ├── BreakerOpen             503  not asked: its circuit breaker is open
│   ├── ProviderBusy            503  not asked: all its connections are in use
│   ├── MalformedAnswer         502  not an answer: HTML, empty, cut or broken JSON
│   ├── TruncatedStream         502  a stream that ended without a finish
│   └── AnswerTooLarge          502  past a cap
└── RoutingError                502  the whole chain
    ├── NoTargetAvailable       503  the route has nothing to try
    ├── AllTargetsFailed        502  or 504 where the last one timed out; lists the attempts
    │   └── AllTargetsRateLimited 429  every vendor asks for patience
    └── DeadlineExceeded        504  time ran out
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Final

from .types import AttemptSummary
from .vendor_details import VendorDetails


class LLMError(Exception):
    """The root. `str(error)` is a sentence for the caller, free of secrets and of prompts.

    `code` is stable and meant for programs. `retry_after` is in seconds, None where unknown;
    `attempts` are the attempts that led here, `upstream_headers` those of the vendor's headers that
    are handed on to callers (`upstream_headers`).
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
    """The request cannot be served as it is."""

    code = "request_error"
    http_status = 400


class InvalidRequest(RequestError):
    """A field is missing, wrong or impossible. `field` names it, as a path (`messages.0.role`)."""

    code = "invalid_request"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Unauthenticated(RequestError):
    """No key, a wrong one or a revoked one."""

    code = "unauthenticated"
    http_status = 401


class PermissionDenied(RequestError):
    """The key is good, but not for this."""

    code = "permission_denied"
    http_status = 403


class UnknownModel(RequestError):
    """No such model, alias, use case or tier; the message names what exists."""

    code = "unknown_model"
    http_status = 404

    def __init__(self, message: str, *, known: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.known = tuple(known)


class ThreadNotFound(RequestError):
    """No thread goes on from the answer that is named. The code is Anthropic's own: clients send
    the whole conversation again."""

    code = "thread_not_found"
    http_status = 404


class ThreadUnsupported(RequestError):
    """The target cannot go on with a thread, and its last turn alone would be answered wrongly. The
    code is Anthropic's own: clients go on without threads."""

    code = "thread_unsupported_request"


class RequestTooLarge(RequestError):
    """The body passes the limit."""

    code = "request_too_large"
    http_status = 413


class HeadersTooLarge(RequestError):
    """The request has too many header lines, or too large ones."""

    code = "headers_too_large"
    http_status = 431


class UrlTooLong(RequestError):
    """The request's URL is too long."""

    code = "url_too_long"
    http_status = 414


class IdempotencyKeyReused(RequestError):
    """The idempotency key belongs to another request, which has its answer."""

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
    """The gateway has no room for one more request, or is shutting down."""

    code = "overloaded"
    http_status = 503


class AccessUnavailable(RequestError):
    """The key cannot be checked just now, because the database is away."""

    code = "access_unavailable"
    http_status = 503


class UpstreamError(LLMError):
    """The failure of one attempt at a target, with its consequences.

    `retryable_here`: the same target may answer if asked again. `retryable_elsewhere`: another
    target may. `prefers_elsewhere`: another one is asked first, unless waiting here answers sooner.
    `needs_larger_window`: only a model with a larger context window may. `counts_against_breaker`:
    it says something about what requests share: the target, its model or its credential. It is
    False for a failure that a caller may have provoked. `disables_credential`: what it says is
    about the provider's credential, for all its models. `billed`: the vendor may charge for it.
    `status` is the vendor's HTTP status, None if there was none; `details` are the vendor's own
    words and codes.
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
    """No connection, or it was reset before any answer."""

    code = "connection_failed"
    retryable_here = True


class NameResolutionFailed(ConnectionFailed):
    """The host's name has no address."""

    code = "name_resolution_failed"
    retryable_here = False


class TLSFailed(ConnectionFailed):
    """No TLS: the handshake failed."""

    code = "tls_failed"
    retryable_here = False


class CertificateRejected(TLSFailed):
    """The provider's certificate is expired, for another name or of an unknown authority."""

    code = "certificate_rejected"


class AddressForbidden(ConnectionFailed):
    """The base URL leads to an address that settings do not allow. Other processes may have other
    settings, so it says nothing about the target."""

    code = "address_forbidden"
    retryable_here = False
    counts_against_breaker = False


class ConnectionLost(UpstreamError):
    """The connection broke while the answer was on its way."""

    code = "connection_lost"
    retryable_here = True
    billed = True


class UpstreamTimeout(UpstreamError):
    """Silence past a limit."""

    code = "upstream_timeout"
    http_status = 504
    billed = True


class ConnectTimeout(UpstreamTimeout):
    """No connection within the limit."""

    code = "connect_timeout"
    billed = False


class FirstTokenTimeout(UpstreamTimeout):
    """Connected, but no first token within the limit."""

    code = "first_token_timeout"


class IdleTimeout(UpstreamTimeout):
    """The stream fell silent for longer than the limit."""

    code = "idle_timeout"


class DeadlineCut(UpstreamTimeout):
    """The deadline of the whole request ended the attempt, or the attempt's share of it, which
    leaves time for other targets; no limit of the target's own did."""

    code = "cut_by_deadline"


class RateLimited(UpstreamError):
    """The vendor asks for patience."""

    code = "rate_limited"
    http_status = 429
    retryable_here = True
    prefers_elsewhere = True


class QuotaExhausted(UpstreamError):
    """The account at the vendor has no money or quota left."""

    code = "quota_exhausted"
    disables_credential = True


class CredentialRejected(UpstreamError):
    """The vendor does not take our key, or there is none to send. Never a 401 to the caller."""

    code = "credential_rejected"
    disables_credential = True


class UpstreamOverloaded(UpstreamError):
    """The vendor has no room (503, 529)."""

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
    """The prompt does not fit the model's window; a larger one may hold it."""

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
    """The vendor finds the request wrong; its reason is the caller's to read.

    It ends the chain if it is about what the caller wrote. If it is about what the gateway wrote,
    or about a feature that this vendor does not offer, `retryable_elsewhere` is set.
    """

    code = "request_rejected"
    http_status = 400
    retryable_elsewhere = False
    counts_against_breaker = False


class UnsupportedRequest(UpstreamError):
    """The target's wire format cannot say what was asked (`n` of 3, a tool of another vendor)."""

    code = "unsupported_request"
    http_status = 400
    counts_against_breaker = False


class BreakerOpen(UpstreamError):
    """The target was not asked: it has failed too often, and its circuit breaker is open, or its
    provider refuses our credential. `cause` is the code of the failure that opened the breaker."""

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
    """The provider was not asked: all our connections to it are in use, and the queue for them is
    full or too slow for this request."""

    code = "provider_busy"
    http_status = 503
    counts_against_breaker = False


class MalformedAnswer(UpstreamError):
    """The response is not an answer: HTML, no choices, broken JSON, an error inside a 200."""

    code = "malformed_answer"
    retryable_here = True
    billed = True


class TruncatedStream(UpstreamError):
    """The stream ended without a finish."""

    code = "truncated_stream"
    retryable_here = True
    billed = True


class AnswerTooLarge(UpstreamError):
    """The answer passes a cap."""

    code = "answer_too_large"
    billed = True


class RoutingError(LLMError):
    """The whole chain failed."""

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
    """The route has nothing to try: every target is inactive, open or without a key."""

    code = "no_target_available"
    http_status = 503


class AllTargetsFailed(RoutingError):
    """Every target was tried. `attempts` says which and why; `last` is the last failure."""

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
    """Every target limits our rate. `retry_after` is the shortest wait that one asked for."""

    code = "all_targets_rate_limited"
    http_status = 429


class DeadlineExceeded(RoutingError):
    """Time ran out before an answer came."""

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
