"""Connections of guarded Redis access: event loops, cancelled calls and dropped connections."""

import asyncio
from random import Random

from redis.asyncio import Redis

from llm_routing.backends.redis.connection import RedisConnection
from llm_routing.backends.redis.guard import GuardedRedis, RedisCalls, RedisUnavailable
from llm_routing.system.redis_address import RedisAddress

from .guards import Clock, ask, say
from .servers import MortalRedis


async def test_all_users_of_a_loop_share_one_connection(
    mortal: MortalRedis, guarded: GuardedRedis
) -> None:
    words = [str(number) for number in range(200)]
    assert await asyncio.gather(*(say(guarded, word) for word in words)) == words
    async with Redis.from_url(mortal.url) as witness:
        assert len(await witness.client_list()) == 2


async def test_closing_during_calls_does_not_count_against_redis(
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


async def test_calls_on_a_dropped_connection_fail_although_there_is_a_new_one(
    mortal: MortalRedis, clock: Clock
) -> None:
    made: list[RedisConnection] = []

    def connect(address: RedisAddress) -> RedisConnection:
        made.append(RedisConnection(address))
        return made[-1]

    guarded = GuardedRedis(mortal.url, clock=clock, rng=Random(1), connect=connect)
    assert await ask(guarded)
    mortal.freeze()
    waiting = [asyncio.create_task(ask(guarded)) for _ in range(3)]
    await asyncio.sleep(0)
    made[0].drop(TimeoutError())
    # A call in the same turn of the loop, before the others learn of the end, gets a new one.
    next_call = guarded.run("return 1", [], [])
    next_call.send(None)
    assert len(made) == 2
    assert await asyncio.gather(*waiting) == [False] * 3
    assert guarded.calls == RedisCalls(failed=3, is_paused=True)
    next_call.close()
    mortal.thaw()
    await guarded.aclose()


async def test_cancelled_calls_do_not_take_the_replies_of_others(guarded: GuardedRedis) -> None:
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


async def test_a_connection_that_redis_closed_while_idle_costs_no_call(
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


async def test_scripts_are_sent_again_after_redis_lost_them(
    mortal: MortalRedis, guarded: GuardedRedis
) -> None:
    assert await say(guarded, "a") == "a"
    async with Redis.from_url(mortal.url) as witness:
        await witness.script_flush()
    assert await say(guarded, "b") == "b"
    assert guarded.calls == RedisCalls()


async def test_event_loops_have_their_own_connections_and_share_the_pause(
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
