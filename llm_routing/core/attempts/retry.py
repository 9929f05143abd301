"""Decides after a failed attempt: retry, fail over, or give up.

One place for waiting, jitter and Retry-After; the loop that obeys it is in `executor`.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from random import Random

from llm_routing.core.errors import UpstreamError

MAX_ATTEMPTS = 4  # those that reach a provider; a target without a key costs none
RETRIES_BEFORE_NEXT = 1
RETRIES_OF_LAST = 2
MAX_RETRY_AFTER = 60.0
MIN_ATTEMPT_SECONDS = 0.02
"""No attempt begins with less time than this before the deadline: it would be asked in vain."""
BACKOFF_BASE = 0.25
RATE_LIMIT_BACKOFF_BASE = 1.0
"""Seconds over which retries are spread when many callers were told to wait at once."""
MAX_BACKOFF = 8.0

_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")


def parse_retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110 §10.2.3), at most `MAX_RETRY_AFTER`.

    Fractions are accepted, as some vendors send them; a date needs `now`. None for what is
    absent, negative, past or garbage: then nobody knows.
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
    """Seconds before retry number `retry` (from 0): exponential with full jitter, so that callers
    who failed together do not return together (AWS Architecture Blog, "Exponential Backoff And
    Jitter")."""
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
    """The step after `error`.

    A target that may answer if asked again is asked again, once while another one is left and
    twice if none is. While one is left it is not waited for longer than a first backoff, after an
    error that prefers another target not longer than `patience`: by so many seconds this target
    is faster than the next. No wait leaves less than `MIN_ATTEMPT_SECONDS` before the deadline,
    `remaining` seconds away. `may_retry` says whether the budget of retries allows one.
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
