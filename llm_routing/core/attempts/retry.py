"""Decides after a failure: retry, fail over, or give up.

The one place for backoff, jitter and Retry-After; `chain` carries the decision out.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from random import Random

from llm_routing.core.errors import UpstreamError

MAX_ATTEMPTS = 4  # only calls that reach a provider count
RETRIES_BEFORE_NEXT = 1
RETRIES_OF_LAST = 2
MAX_RETRY_AFTER = 60.0
MIN_ATTEMPT_SECONDS = 0.02
"""No attempt starts with less time than this before the deadline."""
BACKOFF_BASE = 0.25
RATE_LIMIT_BACKOFF_BASE = 1.0
"""Seconds over which retries are spread when many callers were rate limited at once."""
MAX_BACKOFF = 8.0

_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")


def parse_retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """Returns the seconds to wait by a Retry-After header (RFC 9110 §10.2.3), at most
    `MAX_RETRY_AFTER`.

    Fractions are accepted because some vendors send them; a date needs `now`. Returns None if the
    value is missing, negative, past or malformed.
    """
    if value is None:
        return None
    text = value.strip()
    seconds = float(text) if _SECONDS.fullmatch(text) else _seconds_until(text, now)
    if seconds is None or seconds < 0:
        return None
    return min(seconds, MAX_RETRY_AFTER)


def _seconds_until(text: str, now: datetime | None) -> float | None:
    if now is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - now).total_seconds()


def backoff(
    retry: int, rng: Random, base: float = BACKOFF_BASE, longest: float = MAX_BACKOFF
) -> float:
    """Returns the seconds before retry number `retry` (from 0): exponential with full jitter, so
    that callers that failed together do not return together (AWS Architecture Blog, "Exponential
    Backoff And Jitter")."""
    return rng.uniform(0.0, min(MAX_BACKOFF, base * 2.0**retry, longest))


class Step(Enum):
    """The next step after a failure."""

    RETRY_HERE = "retry_here"
    NEXT_TARGET = "next_target"
    GIVE_UP = "give_up"


@dataclass(frozen=True, slots=True)
class NextStep:
    """A step, and the seconds to wait before it."""

    step: Step
    wait: float = 0.0


def after_failure(
    error: UpstreamError,
    *,
    attempts_made: int,
    max_attempts: int = MAX_ATTEMPTS,
    retries_here: int,
    more_targets: bool,
    remaining: float,
    rng: Random,
    may_retry: bool = True,
    patience: float = 0.0,
) -> NextStep:
    """Returns the step to take after `error`.

    A target that may succeed on a retry is retried: once if another target is left, else twice. If
    another target is left, the wait is at most a first backoff; after an error that prefers another
    target it is at most `patience`, the number of seconds by which this target is usually faster
    than the next. No wait leaves less than `MIN_ATTEMPT_SECONDS` of the `remaining` seconds before
    the deadline. `may_retry` says whether the retry budget allows a retry.
    """
    if attempts_made >= max_attempts or remaining < MIN_ATTEMPT_SECONDS:
        return NextStep(Step.GIVE_UP)
    goes_on = more_targets and error.retryable_elsewhere
    retries = RETRIES_BEFORE_NEXT if goes_on else RETRIES_OF_LAST
    if may_retry and error.retryable_here and retries_here < retries:
        longest = remaining - MIN_ATTEMPT_SECONDS
        if goes_on:
            longest = min(longest, patience if error.prefers_elsewhere else BACKOFF_BASE)
        # The vendor's time is a minimum, so jitter is added to it.
        least = error.retry_after or 0.0
        was_told = error.retry_after is not None or error.prefers_elsewhere
        if least < longest:
            base = RATE_LIMIT_BACKOFF_BASE if was_told else BACKOFF_BASE
            jitter = backoff(retries_here, rng, base, longest - least)
            return NextStep(Step.RETRY_HERE, least + jitter)
    return NextStep(Step.NEXT_TARGET if goes_on else Step.GIVE_UP)
