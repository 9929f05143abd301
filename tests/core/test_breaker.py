"""The circuit breaker: opening, open time, probes, closing."""

from dataclasses import replace
from random import Random

import pytest

from llm_routing.core.breaker import (
    MAX_DOUBLINGS,
    Breaker,
    BreakerState,
)

from .breaker_calls import RULES, admitted, due, fail, new, opened, refused, succeed


def test_it_starts_closed_and_closes_again_after_a_successful_probe() -> None:
    breaker = new()
    seen = [breaker.is_closed]
    fail(breaker, 0, 4)
    seen.append(breaker.is_closed)
    probe = admitted(breaker, due(breaker, 0))
    seen.append(breaker.is_closed)
    probe.succeed(due(breaker, 0))
    assert [*seen, breaker.is_closed] == [True, False, False, True]


def test_it_opens_at_the_failure_rate_after_the_minimum_of_calls() -> None:
    breaker = new()
    fail(breaker, 0, 3)
    assert breaker.status(0).state is BreakerState.CLOSED
    fail(breaker, 0)
    status = breaker.status(0)
    assert (status.state, status.cause, status.openings) == (
        BreakerState.OPEN,
        "server_failed",
        1,
    )


def test_it_stays_closed_below_the_rate_and_opens_on_the_failure_that_reaches_it() -> None:
    breaker = new()
    succeed(breaker, 0, 4)
    fail(breaker, 0, 3)
    assert breaker.status(0).state is BreakerState.CLOSED
    assert (breaker.status(0).calls, breaker.status(0).failures) == (7, 3)
    fail(breaker, 0)
    assert breaker.status(0).state is BreakerState.OPEN


def test_a_success_never_opens_it() -> None:
    breaker = new()
    fail(breaker, 0, 3)
    succeed(breaker, 0)
    assert breaker.status(0).state is BreakerState.CLOSED


def test_calls_older_than_the_window_are_forgotten() -> None:
    breaker = new()
    fail(breaker, 0, 3)
    fail(breaker, 60)
    assert breaker.status(60).state is BreakerState.CLOSED
    assert (breaker.status(60).calls, breaker.status(60).failures) == (1, 1)
    assert breaker.status(120).calls == 0


def test_the_window_holds_a_limited_number_of_calls() -> None:
    breaker = new(window_calls=5, minimum_calls=5, failure_rate=1.0)
    fail(breaker, 0, 4)
    succeed(breaker, 0)
    fail(breaker, 0, 4)
    assert breaker.status(0).calls == 5
    assert breaker.status(0).state is BreakerState.CLOSED
    fail(breaker, 0)
    assert breaker.status(0).state is BreakerState.OPEN


def test_a_full_window_is_enough_if_the_minimum_is_larger() -> None:
    breaker = new(window_calls=3, minimum_calls=50)
    fail(breaker, 0, 3)
    assert breaker.status(0).state is BreakerState.OPEN


def test_while_open_it_rejects_with_retry_after_and_cause() -> None:
    breaker = opened()
    refusal = refused(breaker, 1)
    assert refusal.cause == "server_failed"
    assert refusal.retry_after == pytest.approx(due(breaker, 0) - 1)
    assert 8 <= due(breaker, 0) <= 12


@pytest.mark.parametrize(("open_time", "spread"), [(1, 0.2), (10, 2), (90, 2)])
def test_the_jitter_of_the_open_time_is_at_most_two_seconds(
    open_time: float, spread: float
) -> None:
    ends = set()
    for seed in range(20):
        breaker = Breaker(replace(RULES, open_time=open_time), Random(seed))
        fail(breaker, 0, 4)
        ends.add(due(breaker, 0))
    assert len(ends) == 20
    assert all(open_time - spread <= end <= open_time + spread for end in ends)


def test_exactly_the_configured_number_of_probes_is_admitted() -> None:
    breaker = opened(probes=3)
    now = due(breaker, 0)
    probes = [admitted(breaker, now) for _ in range(3)]
    assert breaker.status(now).state is BreakerState.HALF_OPEN
    refusal = refused(breaker, now)
    assert refusal.cause == "server_failed"
    assert refusal.retry_after > 0
    for probe in probes[:2]:
        probe.succeed(now)
        assert breaker.status(now).state is BreakerState.HALF_OPEN
        # A successful probe does not make room for another.
        refused(breaker, now)
    probes[2].succeed(now)
    assert breaker.status(now).state is BreakerState.CLOSED
    assert breaker.status(now).cause == ""
    admitted(breaker, now)


def test_a_failed_probe_reopens_it_for_twice_as_long() -> None:
    breaker = opened(max_open_time=1e9)
    now = 0.0
    for turn in range(1, 6):
        now = due(breaker, now)
        admitted(breaker, now).fail(now, "connection_failed")
        status = breaker.status(now)
        assert status.state is BreakerState.OPEN
        assert status.cause == "connection_failed"
        assert 8 * 2**turn <= status.retry_after <= 12 * 2**turn
        assert status.opened_for == pytest.approx(now)
    assert breaker.status(now).openings == 6


def test_the_open_time_is_capped_however_often_probes_fail() -> None:
    breaker = opened()
    now = 0.0
    for _ in range(MAX_DOUBLINGS + 1100):
        now = due(breaker, now)
        admitted(breaker, now).fail(now, "server_failed")
        assert breaker.status(now).retry_after <= 100 + 1e-6
    assert breaker.status(now).retry_after == pytest.approx(100)


def test_a_failed_probe_reopens_it_for_the_same_time_without_doubling() -> None:
    breaker = opened(failed_probes_double=False)
    now = 0.0
    for _ in range(6):
        now = due(breaker, now)
        admitted(breaker, now).fail(now, "connection_failed")
        assert 8 <= breaker.status(now).retry_after <= 12


def flapping(breaker: Breaker, now: float, *, up: float, times: int) -> tuple[float, list[float]]:
    """Returns the time after so many openings that each ended with a successful probe, and their
    lengths."""
    lengths = []
    for _ in range(times):
        fail(breaker, now, 4)
        lengths.append(breaker.status(now).retry_after)
        now = due(breaker, now)
        succeed(breaker, now)
        now += up
    return now, lengths


def test_each_opening_of_a_flapping_target_is_longer() -> None:
    _, lengths = flapping(new(), 0, up=3, times=8)
    for length, doublings in zip(lengths, [0, 0, 1, 2, 3, 4, 4, 4], strict=True):
        assert min(8 * 2**doublings, 100) <= round(length, 6) <= min(12 * 2**doublings, 100)


def test_earlier_openings_are_forgiven_slowly() -> None:
    breaker = new()
    now, lengths = flapping(breaker, 0, up=3, times=5)
    assert lengths[-1] >= 8 * 2**3
    # Of five openings, two are cancelled by two windows, and the first of three does not count.
    now += 2 * 60
    _, lengths = flapping(breaker, now, up=3, times=1)
    assert 8 * 2**2 <= lengths[0] <= 12 * 2**2
    breaker.reset()
    _, lengths = flapping(breaker, now + 1000, up=3, times=1)
    assert lengths[0] <= 12


def test_the_longest_flapping_is_forgiven_within_max_doublings_windows() -> None:
    breaker = new()
    now, _ = flapping(breaker, 0, up=3, times=100)
    now += 60 * (RULES.max_doublings + 1)
    _, lengths = flapping(breaker, now, up=3, times=1)
    assert lengths[0] <= 12


def test_after_closing_it_starts_with_the_short_open_time_again() -> None:
    breaker = opened()
    now = due(breaker, 0)
    admitted(breaker, now).fail(now, "server_failed")
    now = due(breaker, now)
    succeed(breaker, now)
    assert breaker.status(now).calls == 0
    fail(breaker, now, 4)
    assert 8 <= breaker.status(now).retry_after <= 12
    assert breaker.status(now).opened_for == 0


def test_a_cancelled_probe_makes_room_for_another() -> None:
    breaker = opened()
    now = due(breaker, 0)
    first = admitted(breaker, now)
    refused(breaker, now)
    first.release()
    second = admitted(breaker, now)
    refused(breaker, now)
    first.release()
    refused(breaker, now)
    second.succeed(now)
    assert breaker.status(now).state is BreakerState.CLOSED


def test_only_the_first_report_on_a_call_counts() -> None:
    breaker = new()
    permit = admitted(breaker, 0)
    permit.release()
    permit.fail(0, "server_failed")
    permit.succeed(0)
    assert breaker.status(0).calls == 0
    permit = admitted(breaker, 0)
    permit.succeed(0)
    permit.fail(0, "server_failed")
    assert (breaker.status(0).calls, breaker.status(0).failures) == (1, 0)


def test_calls_that_started_before_a_change_of_state_are_ignored() -> None:
    breaker = new()
    late = [admitted(breaker, 0) for _ in range(3)]
    fail(breaker, 0, 4)
    late[0].succeed(1)
    assert breaker.status(1).state is BreakerState.OPEN
    now = due(breaker, 1)
    probe = admitted(breaker, now)
    late[1].fail(now, "server_failed")
    late[2].release()
    assert breaker.status(now).state is BreakerState.HALF_OPEN
    refused(breaker, now)
    probe.succeed(now)
    assert breaker.status(now).state is BreakerState.CLOSED


def test_the_vendor_s_retry_after_keeps_it_open_at_least_as_long() -> None:
    breaker = new()
    fail(breaker, 0, 1, retry_after=45)
    fail(breaker, 1, 3, retry_after=20)
    assert breaker.status(1).retry_after == pytest.approx(44)


def test_the_vendor_s_retry_after_cannot_keep_it_open_past_the_cap() -> None:
    breaker = new()
    fail(breaker, 0, 4, retry_after=100_000)
    assert breaker.status(0).retry_after == 100


def test_a_short_retry_after_does_not_shorten_the_time() -> None:
    breaker = new()
    fail(breaker, 0, 4, retry_after=0)
    assert breaker.status(0).retry_after >= 8


def test_an_old_retry_after_is_forgotten_once_it_has_closed() -> None:
    breaker = new()
    fail(breaker, 0, 4, retry_after=90)
    breaker.reset()
    fail(breaker, 0, 4)
    assert breaker.status(0).retry_after <= 12


def test_reset_closes_it_and_forgets_its_past() -> None:
    breaker = opened()
    breaker.reset()
    status = breaker.status(0)
    assert (status.state, status.cause, status.calls) == (BreakerState.CLOSED, "", 0)
    assert (status.retry_after, status.opened_for) == (0, 0)
    fail(breaker, 0, 3)
    assert breaker.status(0).state is BreakerState.CLOSED


def test_a_breaker_whose_open_time_is_over_is_shown_as_half_open() -> None:
    breaker = opened()
    assert breaker.status(due(breaker, 0)).state is BreakerState.HALF_OPEN
    assert breaker.status(due(breaker, 0)).retry_after == 0
