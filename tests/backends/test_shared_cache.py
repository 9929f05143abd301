"""Caches that processes share: one contract, over files and over a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from llm_routing.core.cached_answer import CachedAnswer
from llm_routing.core.caching.ports import CacheHit, LeaseUnavailable, SharedCache
from tests.conftest import with_path

from .shared_caches import ANSWER, KEY, file_cache, leased, redis_cache

Make = Callable[[], SharedCache]


@pytest.fixture(params=["files", "redis"])
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes the view that another process has of a shared cache."""
    made: list[SharedCache] = []
    url = ""
    if request.param == "redis":
        url = with_path(request.getfixturevalue("redis_url"), "/3")
        async with Redis.from_url(url) as client:
            await client.flushdb()

    def one() -> SharedCache:
        cache: SharedCache = redis_cache(url) if url else file_cache(tmp_path / "answers")
        made.append(cache)
        return cache

    yield one
    for cache in made:
        await cache.aclose()


async def test_one_process_has_the_lease_and_the_others_get_its_answer(make: Make) -> None:
    one, other = make(), make()
    lease = leased(await one.claim(KEY, 60))
    assert await other.claim(KEY, 60) is LeaseUnavailable.BUSY
    assert await one.claim(KEY, 60) is LeaseUnavailable.BUSY
    another = leased(await other.claim("1" * 64, 60))
    await lease.publish(ANSWER, 60)
    for cache in (one, other):
        found = await cache.claim(KEY, 60)
        assert isinstance(found, CacheHit)
        assert found.answer == ANSWER
        assert 0 <= found.age < 60
        assert found.age + found.ttl == pytest.approx(60)
    await another.release()


async def test_a_released_lease_can_be_claimed(make: Make) -> None:
    one, other = make(), make()
    await leased(await one.claim(KEY, 60)).release()
    lease = leased(await other.claim(KEY, 60))
    assert await one.claim(KEY, 60) is LeaseUnavailable.BUSY
    await lease.release()


async def test_one_process_renews_an_answer_that_is_too_old(make: Make) -> None:
    one, other = make(), make()
    await leased(await one.claim(KEY, 60)).publish(ANSWER, 60)
    await asyncio.sleep(0.02)
    lease = leased(await one.claim(KEY, 0.01))
    assert await other.claim(KEY, 0.01) is LeaseUnavailable.BUSY
    assert isinstance(await other.claim(KEY, 60), CacheHit)
    await lease.publish(ANSWER, 60)
    found = await other.claim(KEY, 60)
    assert isinstance(found, CacheHit)
    assert found.age + found.ttl == pytest.approx(60)


async def test_an_answer_expires(make: Make) -> None:
    cache = make()
    await leased(await cache.claim(KEY, 60)).publish(ANSWER, 0.05)
    await asyncio.sleep(0.1)
    await leased(await cache.claim(KEY, 60)).release()


async def test_an_answer_can_be_stored_without_a_lease(make: Make) -> None:
    cache = make()
    await cache.put(KEY, ANSWER, 60)
    found = await make().claim(KEY, 60)
    assert isinstance(found, CacheHit)
    assert found.answer == ANSWER


async def test_an_answer_that_cannot_be_written_releases_the_lease(make: Make) -> None:
    cache = make()
    lease = leased(await cache.claim(KEY, 60))
    await lease.publish(CachedAnswer("p", "m", b"\xff"), 60)
    await leased(await cache.claim(KEY, 60)).release()


async def test_one_of_many_concurrent_claims_gets_the_lease(make: Make) -> None:
    caches = [make() for _ in range(8)]
    claims = await asyncio.gather(*(cache.claim(KEY, 60) for cache in caches * 20))
    leases = [claim for claim in claims if not isinstance(claim, CacheHit | LeaseUnavailable)]
    assert len(leases) == 1
    await leases[0].release()
