"""Redis databases and servers that a test has to itself, and clients of them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import pytest
from redis.asyncio import Redis

from llm_routing.backends.redis.guard import GuardedRedis
from tests.conftest import with_path

from .guards import Clock
from .servers import MortalRedis
from .workers import Workers


@pytest.fixture
async def url(redis_url: str) -> str:
    """A Redis database of this test alone."""
    url = with_path(redis_url, "/6")
    async with Redis.from_url(url) as client:
        await client.flushdb()
    return url


@pytest.fixture
async def client(url: str) -> AsyncIterator["Redis"]:
    async with Redis.from_url(url) as client:
        yield client


@pytest.fixture
def mortal(redis_url: str, tmp_path: Path) -> Iterator[MortalRedis]:
    server = MortalRedis(tmp_path)
    server.start()
    yield server
    server.end()


@pytest.fixture
async def worker() -> AsyncIterator[Workers]:
    workers = Workers()
    yield workers
    for breakers in workers.redis:
        await breakers.aclose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def guarded(mortal: MortalRedis, clock: Clock) -> AsyncIterator[GuardedRedis]:
    redis = GuardedRedis(mortal.url, clock=clock, rng=Random(1))
    yield redis
    await redis.aclose()
