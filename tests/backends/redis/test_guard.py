"""Pauses of guarded Redis access while Redis is slow or unreachable, and their end."""

import asyncio
import logging
from itertools import pairwise
from random import Random

import pytest

from llm_routing.backends.redis.guard import MAX_SLOW_IN_A_ROW, GuardedRedis, RedisCalls
from llm_routing.backends.redis.trouble import RedisTrouble

from .guards import Clock, ask
from .servers import MortalRedis


def trouble(mortal: MortalRedis, kind: str) -> None:
    if kind == "killed":
        mortal.kill()
    else:
        mortal.freeze()


def better(mortal: MortalRedis, kind: str) -> None:
    if kind == "killed":
        mortal.start()
    else:
        mortal.thaw()


@pytest.mark.parametrize("kind", ["killed", "frozen"])
async def test_after_a_failure_redis_is_paused_and_then_tested_by_one_call(
    mortal: MortalRedis, guarded: GuardedRedis, clock: Clock, kind: str
) -> None:
    assert await ask(guarded)
    trouble(mortal, kind)
    assert not await ask(guarded)
    assert guarded.calls == RedisCalls(failed=1, skipped=0, is_paused=True)
    assert not any([await ask(guarded) for _ in range(50)])
    assert guarded.calls == RedisCalls(failed=1, skipped=50, is_paused=True)
    clock.now_is += 0.7
    assert not any(await asyncio.gather(*(ask(guarded) for _ in range(50))))
    assert guarded.calls == RedisCalls(failed=2, skipped=99, is_paused=True)
    better(mortal, kind)
    assert not await ask(guarded)
    clock.now_is += 1.3
    assert await ask(guarded)
    assert guarded.calls == RedisCalls(failed=2, skipped=100, is_paused=False)
    assert all(await asyncio.gather(*(ask(guarded) for _ in range(20))))


async def test_pauses_grow_up_to_a_limit(
    mortal: MortalRedis, guarded: GuardedRedis, clock: Clock
) -> None:
    mortal.kill()
    pauses = []
    for _ in range(9):
        await ask(guarded)
        asked, began = guarded.calls.failed, clock.now_is
        while guarded.calls.failed == asked:
            clock.now_is += 0.05
            await ask(guarded)
        pauses.append(clock.now_is - began)
    assert 0.4 <= pauses[0] <= 0.65
    assert all(1.3 <= after / before <= 3.2 for before, after in pairwise(pauses[:4]))
    assert all(7.9 <= pause <= 10.1 for pause in pauses[5:])


async def test_calls_that_fail_together_cause_one_pause(
    mortal: MortalRedis, guarded: GuardedRedis, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    assert await ask(guarded)
    mortal.freeze()
    with caplog.at_level(logging.WARNING):
        assert not any(await asyncio.gather(*(ask(guarded) for _ in range(20))))
    assert guarded.calls.failed == 20
    assert len(caplog.records) == 1
    mortal.thaw()
    clock.now_is += 0.65
    assert await ask(guarded)


async def test_a_cancelled_probe_is_repeated_by_the_next_call(
    mortal: MortalRedis, guarded: GuardedRedis, clock: Clock
) -> None:
    mortal.freeze()
    assert not await ask(guarded)
    clock.now_is += 1
    asking = asyncio.create_task(ask(guarded))
    await asyncio.sleep(0.02)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert guarded.calls.failed == 1
    mortal.thaw()
    assert await ask(guarded)


async def test_an_outage_and_its_end_are_logged_once(
    mortal: MortalRedis, guarded: GuardedRedis, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    assert await ask(guarded)
    mortal.kill()
    for _ in range(6):
        await ask(guarded)
        clock.now_is += 15
    mortal.start()
    assert await ask(guarded)
    assert await ask(guarded)
    first, last = (record.getMessage() for record in caplog.records)
    assert "see that it runs at the address in REDIS_URL (away)" in first
    assert last == "Redis is used again after 90 s."


class SlowConnection:
    """A connection to a Redis whose replies are all slow, or none."""

    is_lost = is_closed = False

    def __init__(self) -> None:
        self.slow_in_a_row = 0
        self.is_late = True

    async def execute(self, *command: str | bytes | int) -> int:
        self.slow_in_a_row = self.slow_in_a_row + 1 if self.is_late else 0
        return 1

    def drop(self, error: BaseException) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.is_closed = True


async def test_a_redis_that_is_always_slow_is_paused_like_a_dead_one(
    redis_url: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    line = SlowConnection()
    redis = GuardedRedis(redis_url, clock=clock, rng=Random(1), connect=lambda _: line)
    assert sum([await ask(redis) for _ in range(60)]) == MAX_SLOW_IN_A_ROW
    assert redis.calls == RedisCalls(failed=1, skipped=60 - MAX_SLOW_IN_A_ROW, is_paused=True)
    # The one that finds out has its answer, and the others are spared it.
    clock.now_is += 15
    assert sum([await ask(redis) for _ in range(20)]) == 1
    assert redis.calls.reasons == {RedisTrouble.SLOW: 2}
    line.is_late = False
    clock.now_is += 15
    assert all([await ask(redis) for _ in range(20)])
    # One late answer now and then is no reason.
    for number in range(40):
        line.is_late = number % 2 == 0
        assert await ask(redis)
    first, last = (record.getMessage() for record in caplog.records)
    assert "too slowly to help" in first
    assert "used again" in last
    await redis.aclose()
