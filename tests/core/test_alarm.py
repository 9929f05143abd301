"""Alarms of one event loop: each rings at its moment, once, and what was cleared does not."""

import asyncio
from contextlib import suppress

import pytest

from llm_routing.core.timers import COARSE, Alarm, TimeLimit

from .virtual_time import in_virtual_time


def now() -> float:
    return asyncio.get_running_loop().time()


class Bell(Alarm):
    """Notes when it rings."""

    def __init__(self) -> None:
        self.rung: list[float] = []

    def ring_in(self, seconds: float) -> None:
        self.set(seconds, asyncio.get_running_loop())

    def ring(self) -> None:
        self.rung.append(now())


@in_virtual_time
async def test_each_alarm_rings_at_its_moment_and_once() -> None:
    began, bells = now(), [Bell() for _ in range(5)]
    for bell, seconds in zip(bells, (3.0, 1.0, 2.0, 60.0, 1.0), strict=True):
        bell.ring_in(seconds)
    await asyncio.sleep(100)
    rung = [[at - began for at in bell.rung] for bell in bells]
    assert rung == [[pytest.approx(seconds)] for seconds in (3.0, 1.0, 2.0, 60.0, 1.0)]


@in_virtual_time
async def test_a_cleared_alarm_does_not_ring_and_keeps_no_other_from_it() -> None:
    began, cleared, bell = now(), Bell(), Bell()
    cleared.ring_in(1.0)
    bell.ring_in(2.0)
    cleared.clear()
    await asyncio.sleep(10)
    assert cleared.rung == []
    assert [at - began for at in bell.rung] == [pytest.approx(2.0)]


@in_virtual_time
async def test_an_alarm_may_be_set_anew_as_it_rings() -> None:
    class Again(Bell):
        def ring(self) -> None:
            super().ring()
            if len(self.rung) < 3:
                self.ring_in(1.0)

    began, bell = now(), Again()
    bell.ring_in(1.0)
    await asyncio.sleep(10)
    assert [at - began for at in bell.rung] == [pytest.approx(at) for at in (1.0, 2.0, 3.0)]


@in_virtual_time
async def test_of_a_crowd_none_rings_late_by_more_than_the_pace_of_looking() -> None:
    began, bells = now(), [Bell() for _ in range(200)]
    for number, bell in enumerate(bells):
        bell.ring_in(1.0 + number * COARSE / 10)
    await asyncio.sleep(10)
    for number, bell in enumerate(bells):
        late = bell.rung[0] - began - 1.0 - number * COARSE / 10
        assert -1e-6 <= late <= COARSE + 1e-6


def test_every_event_loop_has_alarms_of_its_own() -> None:
    async def ring() -> int:
        bell, never = Bell(), Bell()
        never.ring_in(3600.0)
        bell.ring_in(0.0)
        await asyncio.sleep(0.05)
        return len(bell.rung)

    assert [asyncio.run(ring()) for _ in range(2)] == [1, 1]


def test_who_sets_an_alarm_says_what_it_is_for() -> None:
    with pytest.raises(NotImplementedError):
        Alarm().ring()


@in_virtual_time
async def test_a_wait_within_its_limit_is_let_be() -> None:
    with TimeLimit(1.0):
        await asyncio.sleep(0.9)
    await asyncio.sleep(60)


@in_virtual_time
async def test_a_wait_past_its_limit_times_out() -> None:
    began = now()
    with pytest.raises(TimeoutError), TimeLimit(1.0):
        await asyncio.sleep(60)
    assert now() - began == pytest.approx(1.0)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@in_virtual_time
async def test_no_time_at_all_is_over_at_once() -> None:
    began = now()
    with pytest.raises(TimeoutError), TimeLimit(-1.0):
        await asyncio.sleep(60)
    assert now() - began == pytest.approx(0.0)


@in_virtual_time
async def test_the_inner_of_two_limits_is_the_one_that_ends() -> None:
    began = now()

    async def wait() -> None:
        with suppress(TimeoutError), TimeLimit(1.0):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError), TimeLimit(5.0):
        await wait()
    assert now() - began == pytest.approx(5.0)


@in_virtual_time
async def test_another_s_cancellation_stays_one() -> None:
    async def wait() -> None:
        with TimeLimit(1.0):
            await asyncio.sleep(60)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0.5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@in_virtual_time
async def test_a_failure_within_the_limit_is_not_hidden() -> None:
    with pytest.raises(KeyError), TimeLimit(1.0):
        raise KeyError


@in_virtual_time
async def test_cancelled_by_another_at_the_moment_of_the_limit_is_cancelled() -> None:
    async def wait() -> None:
        with TimeLimit(1.0):
            await asyncio.sleep(60)

    waiting = asyncio.create_task(wait())
    asyncio.get_running_loop().call_later(1.0, waiting.cancel)
    with pytest.raises(asyncio.CancelledError):
        await waiting
