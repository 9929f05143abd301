"""Retry-After, backoff, and the step after a failure."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_routing.core.attempts.retry import (
    BACKOFF_BASE,
    MAX_ATTEMPTS,
    MAX_BACKOFF,
    MAX_RETRY_AFTER,
    MIN_ATTEMPT_SECONDS,
    RATE_LIMIT_BACKOFF_BASE,
    NextStep,
    Step,
    after_failure,
    backoff,
    parse_retry_after,
)
from llm_routing.core.errors import (
    ContentFiltered,
    CredentialRejected,
    RateLimited,
    ServerFailed,
    UpstreamError,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DATE_PIECES = st.sampled_from(
    [
        "Thu,",
        "Jan",
        "JAN",
        "01",
        "32",
        "-1",
        "2026",
        "3000000000",
        "0:0",
        "25:61:61",
        "GMT",
        "+2400",
    ]
)


@given(st.text() | st.lists(DATE_PIECES).map(" ".join))
@example("JAN 3000000000 0:0 0")
def test_any_retry_after_value_gives_bounded_seconds_or_none(value: str) -> None:
    for now in (NOW, None):
        seconds = parse_retry_after(value, now=now)
        assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


@given(st.integers(0, 10**400))
def test_retry_after_seconds_are_capped(seconds: int) -> None:
    try:
        text = str(seconds)
    except ValueError:
        return
    assert parse_retry_after(text) == min(seconds, MAX_RETRY_AFTER)


@given(
    st.integers(-1000, 1000),
    st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours))),
)
def test_a_retry_after_date_gives_the_seconds_until_then(seconds: int, zone: timezone) -> None:
    moment = (NOW + timedelta(seconds=seconds)).astimezone(zone)
    expected = None if seconds < 0 else min(seconds, MAX_RETRY_AFTER)
    assert parse_retry_after(format_datetime(moment), now=NOW) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        (" 2.5 ", 2.5),
        ("3.", 3.0),
        ("-1", None),
        ("+5", None),
        ("1e1", None),
        ("1_0", None),
        ("٣", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("5s", None),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 00:00:30 -0000", 30.0),
        ("Thursday, 01-Jan-26 00:00:30 GMT", 30.0),
        ("Thu Jan  1 00:00:30 2026", 30.0),
        ("Wed, 31 Dec 2025 23:59:59 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2300", MAX_RETRY_AFTER),
    ],
)
def test_retry_after_is_parsed(value: str | None, expected: float | None) -> None:
    assert parse_retry_after(value, now=NOW) == expected


def test_a_retry_after_date_needs_the_current_time() -> None:
    assert parse_retry_after("Thu, 01 Jan 2026 00:00:30 GMT") is None


@given(st.integers(0, 1000), st.randoms(use_true_random=False))
def test_backoff_is_between_zero_and_a_doubling_capped_bound(retry: int, rng: Random) -> None:
    bound = min(MAX_BACKOFF, BACKOFF_BASE * 2**retry)
    assert 0 <= backoff(retry, rng) <= bound


def test_backoff_has_full_jitter() -> None:
    rng = Random(0)
    waits = [backoff(3, rng) for _ in range(1000)]
    assert min(waits) < 0.05
    assert max(waits) > 1.95
    assert sum(waits) / len(waits) == pytest.approx(1.0, abs=0.05)


def step(
    error: UpstreamError,
    *,
    attempts_made: int = 1,
    retries_here: int = 0,
    more_targets: bool = False,
    remaining: float = 100.0,
    may_retry: bool = True,
    patience: float = 0.0,
    rng: Random | None = None,
) -> NextStep:
    return after_failure(
        error,
        attempts_made=attempts_made,
        retries_here=retries_here,
        more_targets=more_targets,
        remaining=remaining,
        rng=rng or Random(0),
        may_retry=may_retry,
        patience=patience,
    )


FLAKY = ServerFailed("x")
FINAL = ContentFiltered("x")
BUSY = RateLimited("x")
KEYLESS = CredentialRejected("x")


@pytest.mark.parametrize(
    ("error", "more_targets", "retries_here", "expected"),
    [
        (FLAKY, True, 0, Step.RETRY_HERE),
        (FLAKY, True, 1, Step.NEXT_TARGET),
        (FLAKY, False, 0, Step.RETRY_HERE),
        (FLAKY, False, 1, Step.RETRY_HERE),
        (FLAKY, False, 2, Step.GIVE_UP),
        (BUSY, True, 0, Step.NEXT_TARGET),
        (BUSY, False, 0, Step.RETRY_HERE),
        (KEYLESS, True, 0, Step.NEXT_TARGET),
        (KEYLESS, False, 0, Step.GIVE_UP),
        (FINAL, True, 0, Step.GIVE_UP),
        (FINAL, False, 0, Step.GIVE_UP),
    ],
)
def test_the_step_after_a_failure(
    error: UpstreamError, more_targets: bool, retries_here: int, expected: Step
) -> None:
    verdict = step(error, more_targets=more_targets, retries_here=retries_here)
    assert verdict.step is expected
    assert (verdict.wait > 0) is (expected is Step.RETRY_HERE)


@pytest.mark.parametrize(
    ("more_targets", "expected"), [(True, Step.NEXT_TARGET), (False, Step.GIVE_UP)]
)
def test_without_a_budget_there_is_no_retry(more_targets: bool, expected: Step) -> None:
    assert step(FLAKY, more_targets=more_targets, may_retry=False) == NextStep(expected)


def test_a_rate_limit_is_waited_for_if_this_target_is_faster_nevertheless() -> None:
    limited = RateLimited("x", retry_after=2.0)
    found = step(limited, more_targets=True, patience=2.1)
    assert found.step is Step.RETRY_HERE
    assert 2.0 <= found.wait <= 2.1
    assert step(limited, more_targets=True, patience=2.0) == NextStep(Step.NEXT_TARGET)


@pytest.mark.parametrize("more_targets", [True, False])
def test_attempts_and_remaining_time_limit_retries(more_targets: bool) -> None:
    def given_up(attempts_made: int, remaining: float) -> bool:
        verdict = step(
            FLAKY, attempts_made=attempts_made, remaining=remaining, more_targets=more_targets
        )
        return verdict == NextStep(Step.GIVE_UP)

    assert not given_up(MAX_ATTEMPTS - 1, 100.0)
    assert given_up(MAX_ATTEMPTS, 100.0)
    assert given_up(1, 0.0)
    assert given_up(1, -1.0)


def test_a_retry_never_waits_less_than_the_vendor_s_retry_after() -> None:
    assert 30 <= step(RateLimited("x", retry_after=30.0)).wait <= 30 + RATE_LIMIT_BACKOFF_BASE
    assert 0 < step(RateLimited("x", retry_after=0.0)).wait <= RATE_LIMIT_BACKOFF_BASE


@pytest.mark.parametrize("retry_after", [None, 0.0, 1.0])
def test_callers_with_the_same_retry_after_are_spread_by_jitter(retry_after: float | None) -> None:
    rng = Random(7)
    error = RateLimited("x", retry_after=retry_after)
    waits = sorted(step(error, rng=rng).wait for _ in range(200))
    assert waits[0] >= (retry_after or 0.0)
    most = max(sum(start <= wait < start + 0.1 for wait in waits) for start in waits)
    assert most < 50, "of two hundred within a tenth of a second"


def test_the_jitter_ends_before_the_deadline() -> None:
    for seed in range(20):
        found = step(RateLimited("x", retry_after=1.0), remaining=1.1, rng=Random(seed))
        assert found.step is Step.RETRY_HERE
        assert 1.0 <= found.wait <= 1.1 - MIN_ATTEMPT_SECONDS


def test_there_is_no_retry_that_would_exceed_the_deadline() -> None:
    assert step(RateLimited("x", retry_after=30.0), remaining=30.0) == NextStep(Step.GIVE_UP)
    assert step(RateLimited("x", retry_after=30.0), remaining=30.1).step is Step.RETRY_HERE


def test_failover_to_another_target_does_not_wait() -> None:
    waiting = RateLimited("x", retry_after=30.0)
    assert step(waiting, more_targets=True) == NextStep(Step.NEXT_TARGET)
