"""Calls through the guard of a Redis, and a clock that a test sets."""

from llm_routing.backends.clock import SystemClock
from llm_routing.backends.redis.guard import GuardedRedis, RedisUnavailable


class Clock(SystemClock):
    """A clock that stands still until a test moves it."""

    now_is = 1000.0

    def monotonic(self) -> float:
        return self.now_is


async def ask(guarded: GuardedRedis) -> bool:
    """Whether Redis answered."""
    try:
        return bool(await guarded.run("return 1", [], []))
    except RedisUnavailable:
        return False


async def say(guarded: GuardedRedis, word: str) -> str:
    said = await guarded.run("return ARGV[1]", [], [word])
    return str(said.decode())
