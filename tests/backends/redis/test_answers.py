"""Answers that processes share through a real Redis: entries, leases, connections and outages."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis

from llm_routing.backends.clock import SystemClock
from llm_routing.backends.redis import answers as redis_backend
from llm_routing.backends.redis import connection as connections
from llm_routing.backends.redis.answers import RedisCache
from llm_routing.backends.redis.guard import GuardedRedis
from llm_routing.core.caching.ports import CacheHit, LeaseUnavailable
from llm_routing.crypto.in_transit import Sealing
from tests.backends.shared_caches import ANSWER, KEY, leased, redis_cache
from tests.listening import listening

from .guards import Clock


@pytest.fixture
async def cache(url: str, client: "Redis") -> AsyncIterator[RedisCache]:
    cache = redis_cache(url)
    yield cache
    await cache.aclose()


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: b"not JSON",
        lambda entry: b"\x80\x04\x95",
        lambda entry: b"[]",
        lambda entry: b'{"schema":2}',
        lambda entry: json.dumps({**entry, "schema": 1}),
        lambda entry: json.dumps({**entry, "answer": "garbage"}),
        lambda entry: json.dumps({**entry, "answer": 7}),
        lambda entry: json.dumps({"ttl_ms": entry["ttl_ms"]}),
        lambda entry: json.dumps({**entry, "answer": entry["answer"].replace("0" * 64, "1" * 64)}),
    ],
)
async def test_a_wrong_or_old_entry_is_a_miss_and_is_overwritten(
    cache: RedisCache, client: "Redis", change: Callable[[Any], Any]
) -> None:
    await cache.put(KEY, ANSWER, 60)
    (name,) = await client.keys()
    await client.set(name, change(json.loads(await client.get(name) or b"")), ex=60)
    await leased(await cache.claim(KEY, 60)).publish(ANSWER, 60)
    found = await cache.claim(KEY, 60)
    assert isinstance(found, CacheHit)
    assert found.answer == ANSWER


class AtAnotherTime(SystemClock):
    """A clock that is off by some seconds."""

    def __init__(self, seconds: float) -> None:
        self._off = seconds

    def time(self) -> float:
        return super().time() + self._off


def sealed_cache(url: str, kind: str = "answer", seconds: float = 0.0) -> RedisCache:
    guarded = GuardedRedis(url, clock=SystemClock(), rng=Random(1))
    cipher = Sealing([b"k" * 32])
    return RedisCache(guarded, cipher=cipher, clock=AtAnotherTime(seconds), kind=kind)


async def put(cache: RedisCache, key: str, ttl: float) -> None:
    await cache.put(key, ANSWER, ttl)
    await cache.aclose()


@pytest.mark.parametrize(
    ("seconds", "is_served"), [(0, True), (-200, True), (-401, False), (600, False)]
)
async def test_an_entry_restored_after_its_time_is_a_miss(
    url: str, client: "Redis", seconds: float, is_served: bool
) -> None:
    await put(sealed_cache(url, seconds=seconds), KEY, 100)
    (name,) = await client.keys()
    # As new as Redis knows; only the seal remembers the moment.
    await client.pexpire(name, 100_000)
    cache = sealed_cache(url)
    claimed = await cache.claim(KEY, 100)
    assert isinstance(claimed, CacheHit) is is_served
    if not isinstance(claimed, CacheHit):
        await leased(claimed).release()
    await cache.aclose()


async def test_an_entry_with_another_key_or_lifetime_is_a_miss(url: str, client: "Redis") -> None:
    await put(sealed_cache(url), KEY, 60)
    (name,) = await client.keys()
    value = await client.get(name)
    assert isinstance(name, bytes)
    assert isinstance(value, bytes)
    lasting = json.dumps({**json.loads(value), "ttl_ms": 600_000})
    other = name.decode().replace("0" * 64, "1" * 64)
    for kind, key, place, forged in (
        ("answer", "1" * 64, other, value),
        ("replay", KEY, name.decode().replace("answer", "replay"), value),
        ("answer", KEY, name.decode(), lasting),
    ):
        await client.set(place, forged, ex=60)
        cache = sealed_cache(url, kind)
        await leased(await cache.claim(key, 60)).release()
        await cache.aclose()


async def test_every_key_in_redis_expires(cache: RedisCache, client: "Redis") -> None:
    await cache.put(KEY, ANSWER, 60)
    lease = leased(await cache.claim("1" * 64, 60))
    lives = [await client.pttl(name) for name in await client.keys()]
    assert len(lives) == 2
    assert all(0 < life <= 60_000 for life in lives)
    await lease.release()


async def test_a_foreign_lease_without_end_is_taken_over(
    cache: RedisCache, client: "Redis"
) -> None:
    lease = leased(await cache.claim(KEY, 60))
    (name,) = await client.keys()
    assert await cache.claim(KEY, 60) is LeaseUnavailable.BUSY
    for forever in (None, 3600):
        await client.set(name, "somebody", ex=forever)
        await leased(await cache.claim(KEY, 60)).release()
    await lease.release()


async def test_a_lease_lives_as_long_as_its_holder_and_no_longer(
    cache: RedisCache, client: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_backend, "LEASE_SECONDS", 30.0)
    loop = asyncio.get_running_loop()
    real_time, passed = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real_time() + passed)
    lease = leased(await cache.claim(KEY, 60))
    (name,) = await client.keys()
    for _ in range(2):
        await client.pexpire(name, 20_000)
        passed += 10.0
        async with asyncio.timeout(60):
            while await client.pttl(name) <= 20_000:
                await asyncio.sleep(0.05)
    assert await cache.claim(KEY, 60) is LeaseUnavailable.BUSY
    assert isinstance(lease, redis_backend.RedisLease)
    lease.stop_renewing()  # as if its process had died
    await client.pexpire(name, 20_000)
    passed += 30.0
    assert await cache.claim(KEY, 60) is LeaseUnavailable.BUSY
    assert await client.pttl(name) <= 20_000
    await client.pexpire(name, 1)
    async with asyncio.timeout(60):
        while (claimed := await cache.claim(KEY, 60)) is LeaseUnavailable.BUSY:
            await asyncio.sleep(0.05)
    # It can no longer release the lease of another process. Its answer is as good as any.
    await lease.release()
    assert await cache.claim(KEY, 60) is LeaseUnavailable.BUSY
    await lease.publish(ANSWER, 60)
    assert await cache.claim(KEY, 0) is LeaseUnavailable.BUSY
    await leased(claimed).release()


async def test_each_event_loop_has_a_client_of_its_own(url: str, client: "Redis") -> None:
    shared = redis_cache(url)

    async def put_and_find(key: str) -> bool:
        await shared.put(key, ANSWER, 60)
        found = await shared.claim(key, 60)
        await shared.aclose()
        return isinstance(found, CacheHit)

    def elsewhere() -> bool:
        return asyncio.run(put_and_find("1" * 64))

    here, there = await asyncio.gather(put_and_find(KEY), asyncio.to_thread(elsewhere))
    assert here
    assert there


async def test_a_redis_that_refuses_connections_is_paused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"redis://:hunter2@127.0.0.1:{closed.getsockname()[1]}/0"
        cache = redis_cache(url, Clock())
        for _ in range(50):
            assert await cache.claim(KEY, 60) is LeaseUnavailable.UNAVAILABLE
        await cache.put(KEY, ANSWER, 60)
        await cache.aclose()
    assert len(caplog.records) == 1
    assert KEY not in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_redis_that_hangs_delays_one_call() -> None:
    asked = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.read()

    async with listening(silent) as port:
        cache = redis_cache(f"redis://127.0.0.1:{port}/0", Clock())
        for _ in range(50):
            assert await cache.claim(KEY, 60) is LeaseUnavailable.UNAVAILABLE
        assert asked == 1
        await cache.aclose()


async def test_a_redis_that_is_back_is_used_again(
    url: str, client: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    cache = redis_cache(url, clock)
    await cache.put(KEY, ANSWER, 60)
    with monkeypatch.context() as broken:
        broken.setattr(redis_backend, "CLAIM", "this is no script")
        assert await cache.claim(KEY, 60) is LeaseUnavailable.UNAVAILABLE
    assert await cache.claim(KEY, 60) is LeaseUnavailable.UNAVAILABLE
    clock.now_is += 1.0
    assert isinstance(await cache.claim(KEY, 60), CacheHit)
    await cache.aclose()


async def test_cached_answers_survive_the_loss_of_our_scripts(
    cache: RedisCache, client: "Redis"
) -> None:
    await cache.put(KEY, ANSWER, 60)
    await client.script_flush()
    assert isinstance(await cache.claim(KEY, 60), CacheHit)


async def test_a_stall_of_our_own_loop_is_not_blamed_on_redis(cache: RedisCache) -> None:
    await cache.put(KEY, ANSWER, 60)

    async def stall() -> None:
        await asyncio.sleep(0)
        time.sleep(1.5 * connections.CALL_SECONDS)

    found, _ = await asyncio.gather(cache.claim(KEY, 60), stall())
    assert isinstance(found, CacheHit)
