"""Caches that processes share, with answers that are easy to recognize where they are stored."""

from pathlib import Path
from random import Random

from llm_routing.backends.clock import SystemClock
from llm_routing.backends.files import FileCache, Retention
from llm_routing.backends.redis.answers import RedisCache
from llm_routing.backends.redis.guard import GuardedRedis
from llm_routing.core.cached_answer import CachedAnswer
from llm_routing.core.caching.ports import CacheHit, Lease, LeaseUnavailable
from llm_routing.core.ports import Clock
from llm_routing.core.types import Usage

ANSWER = CachedAnswer("p", "m", '{"text":"Grüße"}'.encode(), Usage(3, 4), ("seed",))
KEY = "0" * 64


class Reversed:
    """A cipher whose effect is easy to see."""

    def encrypt(self, clear_text: str, name: str) -> str:
        return clear_text[::-1]

    def decrypt(self, token: str, name: str) -> str:
        return token[::-1]


def file_cache(directory: Path, retention: Retention | None = None) -> FileCache:
    return FileCache(directory, cipher=Reversed(), clock=SystemClock(), retention=retention)


def redis_cache(url: str, clock: Clock | None = None) -> RedisCache:
    clock = clock or SystemClock()
    return RedisCache(GuardedRedis(url, clock=clock, rng=Random(1)), cipher=Reversed(), clock=clock)


def leased(claimed: CacheHit | Lease | LeaseUnavailable) -> Lease:
    assert not isinstance(claimed, CacheHit | LeaseUnavailable)
    return claimed
