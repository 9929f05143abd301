"""The circuit breaker: slow calls, forced calls and openings of other processes."""

import pytest

from llm_routing.core.breaker import (
    SLOW_CALLS,
    BreakerPermit,
    BreakerState,
    NoBreakers,
    Opening,
)
from llm_routing.core.errors import ServerFailed

from .breaker_calls import admitted, due, fail, new, opened, refused, succeed
from .fakes import target


def test_it_opens_at_the_rate_of_slow_calls_and_reports_that_cause() -> None:
    breaker = new(slow_call_time=2, slow_call_rate=0.75)
    succeed(breaker, 0, 1, seconds=2)
    succeed(breaker, 0, 2, seconds=2.1)
    assert breaker.status(0).slow_calls == 2
    assert breaker.status(0).state is BreakerState.CLOSED
    succeed(breaker, 0, 1, seconds=30)
    assert breaker.status(0).state is BreakerState.OPEN
    assert breaker.status(0).cause == refused(breaker, 0).cause == SLOW_CALLS
    assert breaker.status(0).slow_calls == 0


def test_a_quick_call_or_a_failure_does_not_open_it_for_slowness() -> None:
    breaker = new(slow_call_time=2, slow_call_rate=0.5)
    succeed(breaker, 0, 3, seconds=3)
    succeed(breaker, 0, 1, seconds=1)
    fail(breaker, 0)
    assert breaker.status(0).state is BreakerState.CLOSED


def test_slow_calls_expire_and_are_displaced_by_newer_ones() -> None:
    breaker = new(slow_call_time=2, slow_call_rate=1.0, window_calls=3, minimum_calls=3)
    succeed(breaker, 0, 2, seconds=3)
    succeed(breaker, 1)
    assert breaker.status(1).slow_calls == 2
    succeed(breaker, 1)
    assert breaker.status(1).slow_calls == 1
    assert breaker.status(60).slow_calls == 0


def test_without_a_slow_call_time_no_call_is_slow() -> None:
    breaker = new(slow_call_rate=0.1)
    succeed(breaker, 0, 20, seconds=1e9)
    assert breaker.status(0).state is BreakerState.CLOSED


def test_a_slow_probe_reopens_it_for_twice_as_long() -> None:
    breaker = opened(slow_call_time=2)
    now = due(breaker, 0)
    admitted(breaker, now).succeed(now, 3)
    assert breaker.status(now).cause == SLOW_CALLS
    assert 16 <= breaker.status(now).retry_after <= 24


def test_forced_calls_are_always_admitted_and_a_success_closes_it() -> None:
    breaker = opened(probes=2)
    calls = []
    for _ in range(5):
        permit = breaker.admit(1, force=True)
        assert isinstance(permit, BreakerPermit)
        calls.append(permit)
    refused(breaker, 1)
    calls[0].succeed(1)
    calls[1].release()
    refused(breaker, 1)
    calls[2].succeed(1)
    assert breaker.status(1).state is BreakerState.CLOSED
    calls[3].fail(1, "server_failed")
    assert breaker.status(1).calls == 0


def test_a_failed_forced_call_keeps_it_open_without_extending_the_time() -> None:
    breaker = opened(slow_call_time=2)
    until = due(breaker, 0)
    for seconds in (3.0, None):
        permit = breaker.admit(1, force=True)
        assert isinstance(permit, BreakerPermit)
        if seconds is None:
            permit.fail(1, "server_failed")
        else:
            permit.succeed(1, seconds)
        assert due(breaker, 1) == pytest.approx(until)
    assert breaker.status(1).openings == 1
    now = until
    admitted(breaker, now).fail(now, "server_failed")
    assert 16 <= breaker.status(now).retry_after <= 24


def test_retry_after_of_a_failed_forced_call_is_respected() -> None:
    breaker = opened()
    decisions = breaker.decisions
    for seconds, expected in ((50.0, 50.0), (1e9, 100.0)):
        permit = breaker.admit(1, force=True)
        assert isinstance(permit, BreakerPermit)
        permit.fail(1, "rate_limited", seconds)
        assert breaker.status(1).retry_after == pytest.approx(expected)
    assert breaker.decisions == decisions + 2


def test_a_forced_call_during_a_probe_is_admitted() -> None:
    breaker = opened()
    now = due(breaker, 0)
    probe = admitted(breaker, now)
    more = breaker.admit(now, force=True)
    assert isinstance(more, BreakerPermit)
    more.release()
    refused(breaker, now)
    probe.succeed(now)
    assert breaker.status(now).state is BreakerState.CLOSED
    assert isinstance(breaker.admit(now, force=True), BreakerPermit)


def test_another_process_can_adopt_an_opening() -> None:
    one, other = opened(), new()
    now = due(one, 0)
    admitted(one, now).fail(now, "connection_failed")
    opening = one.opening(now)
    assert opening == Opening("connection_failed", now, one.status(now).retry_after, 2)
    fail(other, 500, 3)
    other.adopt(500, opening)
    assert other.decisions == 0
    status = other.status(500)
    assert (status.state, status.cause) == (BreakerState.OPEN, "connection_failed")
    assert status.retry_after == pytest.approx(opening.retry_after)
    assert status.opened_for == pytest.approx(opening.opened_for)
    assert status.openings == 1
    other.adopt(500, opening)
    assert other.status(500).openings == 1
    now = due(other, 500)
    assert other.is_due(now)
    assert not other.is_due(now - 0.01)
    admitted(other, now).fail(now, "server_failed")
    assert 32 <= other.status(now).retry_after <= 48
    other.adopt(now, None)
    assert other.decisions == 1
    assert other.status(now).state is BreakerState.CLOSED
    assert other.opening(now) is None


def test_probes_that_succeeded_in_another_process_count() -> None:
    one, other = opened(probes=2), opened(probes=2)
    now = due(one, 0)
    assert one.opening(0) == Opening("server_failed", 0, now, 1, proven=0)
    admitted(one, now).succeed(now)
    opening = one.opening(now)
    assert opening is not None
    assert opening.proven == 1
    other.adopt(500, opening)
    assert other.is_due(500)
    succeed(other, 500)
    assert other.is_closed


async def test_without_breakers_every_call_is_admitted() -> None:
    breakers = NoBreakers()
    for _ in range(100):
        permit = await breakers.admit(target("a"))
        permit.fail(ServerFailed("No."))
    permit = await breakers.admit(target("a"))
    permit.succeed()
    permit.release()
