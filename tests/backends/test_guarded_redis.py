"""What our own way to Redis does when Redis is slow, away, back, or wrong."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from redis.asyncio import Redis

from llm_routing.backends.clock import SystemClock
from llm_routing.backends.guarded_redis import GuardedRedis, RedisCalls, RedisUnavailable

from .redis_servers import MortalRedis


class Clock(SystemClock):
    now_is = 1000.0

    def monotonic(self) -> float:
        return self.now_is


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mortal(redis_url: str, tmp_path: Path) -> Iterator[MortalRedis]:
    server = MortalRedis(tmp_path)
    server.start()
    yield server
    server.end()


@pytest.fixture
async def guarded(mortal: MortalRedis, clock: Clock) -> AsyncIterator[GuardedRedis]:
    redis = GuardedRedis(mortal.url, clock=clock, rng=Random(1))
    yield redis
    await redis.aclose()


async def ask(guarded: GuardedRedis) -> bool:
    """Whether Redis answered."""
    try:
        return bool(await guarded.run("return 1", [], []))
    except RedisUnavailable:
        return False


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
async def test_after_a_failure_it_is_left_alone_then_one_call_finds_out(
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


async def test_the_pauses_grow_up_to_a_cap(
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


async def test_calls_that_fail_together_are_one_reason_for_a_pause(
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


async def test_a_script_that_is_wrong_is_a_failure_and_tells_no_argument(
    guarded: GuardedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RedisUnavailable) as caught:
        await guarded.run("return redis.call('HGET', KEYS[1])", ["name"], ["sk-secret"])
    assert "sk-secret" not in caplog.text + str(caught.value)
    assert "ResponseError" in caplog.text


async def say(guarded: GuardedRedis, word: str) -> str:
    said = await guarded.run("return ARGV[1]", [], [word])
    return str(said.decode())


async def test_all_users_of_a_loop_share_one_connection(
    mortal: MortalRedis, guarded: GuardedRedis
) -> None:
    words = [str(number) for number in range(200)]
    assert await asyncio.gather(*(say(guarded, word) for word in words)) == words
    async with Redis.from_url(mortal.url) as witness:
        assert len(await witness.client_list()) == 2


async def test_who_waits_may_close_it_for_all_which_says_nothing_of_redis(
    mortal: MortalRedis, guarded: GuardedRedis
) -> None:
    assert await ask(guarded)
    mortal.freeze()
    waiting = [asyncio.create_task(say(guarded, "x")) for _ in range(3)]
    await asyncio.sleep(0.03)
    await guarded.aclose()
    mortal.thaw()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [RedisUnavailable] * 3
    assert guarded.calls == RedisCalls()
    assert await ask(guarded)


async def test_what_is_lost_counts_though_another_connection_is_there_already(
    mortal: MortalRedis, guarded: GuardedRedis
) -> None:
    assert await ask(guarded)
    line = guarded._line()
    mortal.freeze()
    waiting = [asyncio.create_task(ask(guarded)) for _ in range(3)]
    await asyncio.sleep(0)
    line._lose(TimeoutError())
    assert guarded._line() is not line
    assert await asyncio.gather(*waiting) == [False] * 3
    assert guarded.calls == RedisCalls(failed=3, is_paused=True)
    mortal.thaw()


async def test_those_who_leave_take_nobody_s_answer(guarded: GuardedRedis) -> None:
    rng = Random(7)

    async def one(number: int) -> bool:
        asking = asyncio.create_task(say(guarded, str(number)))
        for _ in range(rng.randrange(6)):
            await asyncio.sleep(0)
        if number % 3 == 0:
            asking.cancel()
        try:
            return await asking == str(number)
        except asyncio.CancelledError:
            return number % 3 == 0

    for _ in range(20):
        assert all(await asyncio.gather(*(one(number) for number in range(60))))
    assert guarded.calls == RedisCalls()


async def test_a_connection_that_redis_has_closed_meanwhile_costs_no_call(
    mortal: MortalRedis, guarded: GuardedRedis
) -> None:
    assert await ask(guarded)
    async with Redis.from_url(mortal.url) as witness:
        await witness.client_kill_filter(_type="normal", skipme=True)
        before = (await witness.info("stats"))["total_connections_received"]
        await asyncio.sleep(0.05)
        assert await ask(guarded)
        await asyncio.sleep(0.05)
        assert await ask(guarded)
        assert (await witness.info("stats"))["total_connections_received"] == before + 1
    assert guarded.calls == RedisCalls()


async def test_a_redis_that_has_forgotten_the_scripts_is_told_them_again(
    mortal: MortalRedis, guarded: GuardedRedis
) -> None:
    assert await say(guarded, "a") == "a"
    async with Redis.from_url(mortal.url) as witness:
        await witness.script_flush()
    assert await say(guarded, "b") == "b"
    assert guarded.calls == RedisCalls()


async def test_a_call_that_is_cancelled_says_nothing_and_the_next_one_finds_out(
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


async def test_each_loop_has_its_own_connections_and_all_know_of_the_pause(
    mortal: MortalRedis, guarded: GuardedRedis
) -> None:
    async def elsewhere() -> bool:
        try:
            return await ask(guarded)
        finally:
            await guarded.aclose()

    assert await ask(guarded)
    assert await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
    mortal.kill()
    assert not await ask(guarded)
    assert not await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
    assert guarded.calls == RedisCalls(failed=1, skipped=1, is_paused=True)
