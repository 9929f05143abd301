"""Timers and timeouts of one event loop, and the cheap look-up of the running loop."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

import pytest

from llm_routing.core import timers
from llm_routing.core.timers import (
    RESOLUTION,
    FutureTimeout,
    StallTimeout,
    Timer,
    forget_running_loop,
    running_loop,
)

from .virtual_time import in_virtual_time


def now() -> float:
    return asyncio.get_running_loop().time()


class Recorder(Timer):
    """Records when it fires."""

    def __init__(self) -> None:
        self.fired_at: list[float] = []

    def fire_in(self, seconds: float) -> None:
        self.start(seconds, asyncio.get_running_loop())

    def on_timeout(self) -> None:
        self.fired_at.append(now())


class TestTimer:
    @in_virtual_time
    async def test_each_timer_fires_once_when_its_time_is_over(self) -> None:
        began, recorders = now(), [Recorder() for _ in range(5)]
        for recorder, seconds in zip(recorders, (3.0, 1.0, 2.0, 60.0, 1.0), strict=True):
            recorder.fire_in(seconds)
        await asyncio.sleep(100)
        fired = [[at - began for at in recorder.fired_at] for recorder in recorders]
        assert fired == [[pytest.approx(seconds)] for seconds in (3.0, 1.0, 2.0, 60.0, 1.0)]

    @in_virtual_time
    async def test_a_cancelled_timer_does_not_fire_and_others_still_do(self) -> None:
        began, cancelled, other = now(), Recorder(), Recorder()
        cancelled.fire_in(1.0)
        other.fire_in(2.0)
        cancelled.cancel()
        await asyncio.sleep(10)
        assert cancelled.fired_at == []
        assert [at - began for at in other.fired_at] == [pytest.approx(2.0)]

    @in_virtual_time
    async def test_a_timer_can_be_started_again_when_it_fires(self) -> None:
        class Again(Recorder):
            def on_timeout(self) -> None:
                super().on_timeout()
                if len(self.fired_at) < 3:
                    self.fire_in(1.0)

        began, timer = now(), Again()
        timer.fire_in(1.0)
        await asyncio.sleep(10)
        assert [at - began for at in timer.fired_at] == [pytest.approx(at) for at in (1, 2, 3)]

    @in_virtual_time
    async def test_none_of_many_timers_is_late_by_more_than_the_resolution(self) -> None:
        began, recorders = now(), [Recorder() for _ in range(200)]
        for number, recorder in enumerate(recorders):
            recorder.fire_in(1.0 + number * RESOLUTION / 10)
        await asyncio.sleep(10)
        for number, recorder in enumerate(recorders):
            late = recorder.fired_at[0] - began - 1.0 - number * RESOLUTION / 10
            assert -1e-6 <= late <= RESOLUTION + 1e-6

    def test_timers_of_an_earlier_event_loop_do_not_disturb_the_next(self) -> None:
        async def fire() -> int:
            recorder, never = Recorder(), Recorder()
            never.fire_in(3600.0)
            recorder.fire_in(0.0)
            while not recorder.fired_at:
                await asyncio.sleep(0)
            return len(recorder.fired_at)

        assert [asyncio.run(fire()) for _ in range(2)] == [1, 1]


def reusable(seconds: float) -> AbstractContextManager[None]:
    return StallTimeout().within(seconds)


Limited = Callable[[float], AbstractContextManager[None]]


@pytest.mark.parametrize("limited", [timers.timeout, reusable])
class TestTimeout:
    """Behaviour of both single-use and reusable timeouts."""

    @in_virtual_time
    async def test_a_wait_within_the_limit_is_not_disturbed(self, limited: Limited) -> None:
        with limited(1.0):
            await asyncio.sleep(0.9)
        await asyncio.sleep(60)

    @in_virtual_time
    async def test_a_longer_wait_times_out(self, limited: Limited) -> None:
        began = now()
        with pytest.raises(TimeoutError), limited(1.0):
            await asyncio.sleep(60)
        assert now() - began == pytest.approx(1.0)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    @in_virtual_time
    async def test_a_negative_limit_times_out_at_once(self, limited: Limited) -> None:
        began = now()
        with pytest.raises(TimeoutError), limited(-1.0):
            await asyncio.sleep(60)
        assert now() - began == pytest.approx(0.0)

    @in_virtual_time
    async def test_timeouts_can_be_nested(self, limited: Limited) -> None:
        began = now()

        async def wait() -> None:
            with suppress(TimeoutError), limited(1.0):
                await asyncio.sleep(60)
            await asyncio.sleep(60)

        with pytest.raises(TimeoutError), limited(5.0):
            await wait()
        assert now() - began == pytest.approx(5.0)

    @in_virtual_time
    async def test_an_error_inside_is_passed_on(self, limited: Limited) -> None:
        with pytest.raises(KeyError), limited(1.0):
            raise KeyError

    @pytest.mark.parametrize("seconds", [0.5, 1.0])
    @in_virtual_time
    async def test_cancellation_by_others_is_not_turned_into_a_timeout(
        self, limited: Limited, seconds: float
    ) -> None:
        """Neither before the limit nor in the very moment of it."""

        async def wait() -> None:
            with limited(1.0):
                await asyncio.sleep(60)

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(seconds, waiting.cancel)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert now() == pytest.approx(1000 + seconds)


class TestStallTimeout:
    @in_virtual_time
    async def test_each_wait_has_the_whole_limit(self) -> None:
        timeout = StallTimeout()
        for _ in range(5):
            with timeout.within(1.0):
                await asyncio.sleep(0.9)
        began = now()
        with pytest.raises(TimeoutError), timeout.within(1.0):
            await asyncio.sleep(60)
        assert now() - began == pytest.approx(1.0)
        with timeout.within(1.0):
            await asyncio.sleep(0.9)

    @in_virtual_time
    async def test_a_shorter_limit_can_follow_a_longer_one(self) -> None:
        timeout = StallTimeout()
        with timeout.within(100.0):
            await asyncio.sleep(0)
        began = now()
        with pytest.raises(TimeoutError), timeout.within(2.0):
            await asyncio.sleep(60)
        assert now() - began == pytest.approx(2.0)

    @in_virtual_time
    async def test_time_between_waits_does_not_count(self) -> None:
        timeout = StallTimeout()
        with timeout.within(1.0):
            await asyncio.sleep(0)
        await asyncio.sleep(60)
        with timeout.within(1.0):
            await asyncio.sleep(0.9)

    @in_virtual_time
    async def test_a_wait_that_swallows_its_cancellation_is_not_ended_twice(self) -> None:
        timeout = StallTimeout()
        task = asyncio.current_task()
        assert task is not None
        with timeout.within(1.0), suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        assert task.cancelling() == 0
        with timeout.within(1.0):
            await asyncio.sleep(0.5)


class TestFutureTimeout:
    @in_virtual_time
    async def test_each_future_has_the_whole_limit(self) -> None:
        loop = asyncio.get_running_loop()
        timeout = FutureTimeout(loop)
        for _ in range(5):
            future = loop.create_future()
            timeout.limit(future, 1.0)
            loop.call_later(0.9, future.set_result, None)
            await future
        began, late = now(), loop.create_future()
        timeout.limit(late, 1.0)
        with pytest.raises(TimeoutError):
            await late
        assert now() - began == pytest.approx(1.0)

    @in_virtual_time
    async def test_a_shorter_limit_can_follow_a_longer_one(self) -> None:
        loop = asyncio.get_running_loop()
        timeout = FutureTimeout(loop)
        timeout.limit(loop.create_future(), 100.0)
        began, late = now(), loop.create_future()
        timeout.limit(late, 2.0)
        with pytest.raises(TimeoutError):
            await late
        assert now() - began == pytest.approx(2.0)

    @in_virtual_time
    async def test_nothing_follows_a_future_that_was_done_in_time(self) -> None:
        loop = asyncio.get_running_loop()
        timeout, done = FutureTimeout(loop), loop.create_future()
        timeout.limit(done, 1.0)
        done.set_result(None)
        await asyncio.sleep(60)
        assert done.result() is None


class TestRunningLoop:
    """`running_loop` returns the same as `asyncio.get_running_loop`."""

    @staticmethod
    async def agrees() -> bool:
        return running_loop() is running_loop() is asyncio.get_running_loop()

    def test_one_event_loop_after_another_in_one_thread(self) -> None:
        assert all(asyncio.run(self.agrees()) for _ in range(3))

    def test_it_raises_outside_of_any_event_loop(self) -> None:
        asyncio.run(self.agrees())
        with pytest.raises(RuntimeError):
            running_loop()

    def test_each_thread_has_its_own(self) -> None:
        async def elsewhere() -> bool:
            found: list[bool] = []
            thread = threading.Thread(target=lambda: found.append(asyncio.run(self.agrees())))
            thread.start()
            thread.join()
            return found == [True] and await self.agrees()

        assert asyncio.run(elsewhere())

    def test_forget_running_loop_clears_the_cached_loop(self) -> None:
        async def after_forgetting() -> bool:
            await self.agrees()
            forget_running_loop()
            return await self.agrees()

        assert asyncio.run(after_forgetting())
