"""The error that a caller receives when no target is left to try."""

from collections.abc import Sequence

from llm_routing.core.errors import (
    AllTargetsFailed,
    AllTargetsRateLimited,
    BreakerOpen,
    ContentFiltered,
    ContextTooLong,
    DeadlineExceeded,
    LLMError,
    NoTargetAvailable,
    ProviderBusy,
    RateLimited,
    RequestRejected,
    UnsupportedRequest,
    UpstreamError,
)
from llm_routing.core.routing_table import Target
from llm_routing.core.types import AttemptSummary

from .advice import advice

_NOT_CALLED = (BreakerOpen, ProviderBusy)
_OF_THE_REQUEST = (ContentFiltered, ContextTooLong, RequestRejected, UnsupportedRequest)


def final_error(
    summaries: Sequence[AttemptSummary],
    errors: Sequence[UpstreamError],
    targets: Sequence[Target],
    *,
    was_sent: bool,
    is_out_of_time: bool,
) -> LLMError:
    """Returns the error of a chain over `targets` whose attempts failed with `errors`, first to
    last.

    `was_sent`: the request was sent to a provider at least once.
    """
    attempts = tuple(summaries)
    from_targets = [error for error in errors if not isinstance(error, _NOT_CALLED)]
    about_request = _error_about_request(errors, from_targets)
    if about_request is not None:
        about_request.attempts = attempts
        return about_request
    if not errors or is_out_of_time:
        return DeadlineExceeded("Time ran out before an answer arrived.", attempts=attempts)
    last = from_targets[-1] if from_targets else errors[-1]
    tried = "; ".join(
        f"{summary.provider}/{summary.model}: {summary.error_code}" for summary in attempts
    )
    hints = advice(errors, targets)
    waits = [error.retry_after for error in errors if error.retry_after is not None]
    retry_after = min(waits, default=None)
    if all(map(_is_rate_limit, errors)):
        return AllTargetsRateLimited(
            f"Every target limits our rate ({tried}).",
            attempts=attempts,
            last=last,
            retry_after=retry_after,
        )
    if not was_sent:
        return NoTargetAvailable(
            f"No target can be called ({tried}).{hints}", attempts=attempts, retry_after=retry_after
        )
    return AllTargetsFailed(
        f"Every target failed ({tried}).{hints}",
        attempts=attempts,
        last=last,
        retry_after=retry_after,
    )


def _error_about_request(
    errors: Sequence[UpstreamError], from_targets: Sequence[UpstreamError]
) -> UpstreamError | None:
    """Returns the failure that concerns the request itself, if that is what ended the chain."""
    if not errors:
        return None
    if from_targets and not from_targets[-1].retryable_elsewhere:
        return from_targets[-1]
    # The first vendor's rejection is returned: the other targets were only substitutes.
    rejected = next((error for error in from_targets if isinstance(error, RequestRejected)), None)
    if rejected is not None and all(isinstance(error, _OF_THE_REQUEST) for error in from_targets):
        return rejected
    if all(isinstance(error, _OF_THE_REQUEST) for error in errors):
        return errors[-1]
    return None


def _is_rate_limit(error: UpstreamError) -> bool:
    """Returns whether a target limits our rate: by this response, or by an earlier one that opened
    its breaker."""
    return isinstance(error, RateLimited) or (
        isinstance(error, BreakerOpen) and error.cause == RateLimited.code
    )
