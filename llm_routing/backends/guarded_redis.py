"""Redis on the way of a request: every call of ours goes through `GuardedRedis`.

A Redis that is slow, full, wrong or away costs a call a tenth of a second at most, and the next
ones nothing: it is left alone for a while, then one call finds out.
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from random import Random
from typing import Any

from llm_routing.core.breaker import Breaker, BreakerPermit, BreakerRules, Refusal
from llm_routing.core.ports import Clock
from llm_routing.core.running import running_loop

from .redis_line import RedisLine

logger = logging.getLogger(__name__)

RULES = BreakerRules(window_calls=1, minimum_calls=1, open_time=0.5, longest_open_time=10.0)
"""One failure is enough; the pauses grow from half a second to ten."""


class RedisUnavailable(Exception):
    """Redis was not asked, or did not answer in time or in order. The request goes on without."""


@dataclass(frozen=True, slots=True)
class RedisCalls:
    """What became of calls since the process began: `failed`, or `skipped` while Redis was left
    alone, which it is at the moment where `is_paused`; and how many values in it were `forged`."""

    failed: int = 0
    skipped: int = 0
    is_paused: bool = False
    forged: int = 0


class GuardedRedis:
    """One Redis for all that a process keeps there, with a limit to each call and a circuit breaker
    over all of them. One connection of each event loop for all who use it there; for any thread."""

    def __init__(self, url: str, *, clock: Clock, rng: Random) -> None:
        # Only who has a Redis holds its client in memory, and from the start: imported by a first
        # call, it would stop the event loop.
        import redis.asyncio.connection

        self._url = url
        self._error_of_a_call = redis.exceptions.ResponseError
        self._digests: dict[str, str] = {}
        self._clock = clock
        self._lock = threading.Lock()
        self._breaker = Breaker(RULES, rng)
        self._failed = self._skipped = self._forged = 0
        self._lines: dict[asyncio.AbstractEventLoop, RedisLine] = {}

    @property
    def calls(self) -> RedisCalls:
        """What became of the calls so far."""
        with self._lock:
            is_paused = self._breaker.opening(self._clock.monotonic()) is not None
            return RedisCalls(self._failed, self._skipped, is_paused, self._forged)

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """What a Lua script says within a tenth of a second. Raises `RedisUnavailable`."""
        # Leave first: who has none opens no connection. While the breaker is closed a success says
        # nothing new, so there only who fails needs a permit.
        generation = self._breaker.generation
        permit = None if self._breaker.is_closed else self._admit()
        line = self._line()
        digest = self._digests.get(script)
        if digest is None:
            name = sha1(script.encode(), usedforsecurity=False)
            digest = self._digests[script] = name.hexdigest()
        try:
            try:
                result = await line.ask("EVALSHA", digest, len(keys), *keys, *arguments)
            except self._error_of_a_call as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                result = await line.ask("EVAL", script, len(keys), *keys, *arguments)
        except Exception as error:  # noqa: BLE001  # whatever Redis is up to, the request goes on
            self._fail(permit or BreakerPermit(self._breaker, generation), line, error)
            raise RedisUnavailable(type(error).__name__) from None
        except BaseException:
            if permit is not None:
                with self._lock:
                    permit.release()
            raise
        if permit is not None:
            with self._lock:
                permit.succeed(self._clock.monotonic())
        return result

    def count_forged(self, values: int) -> None:
        """Counts values under our names that no process of this installation wrote there."""
        if not values:
            return
        with self._lock:
            is_first, self._forged = not self._forged, self._forged + values
        if is_first:
            logger.warning(
                "Redis holds values under our names that were not written by this installation. "
                "They are ignored; see who else can write to it."
            )

    async def aclose(self) -> None:
        """Closes the connection of the running event loop; the next call opens another."""
        line = self._lines.pop(asyncio.get_running_loop(), None)
        if line is not None:
            await line.aclose()

    def _admit(self) -> BreakerPermit:
        with self._lock:
            admitted = self._breaker.admit(self._clock.monotonic())
            if isinstance(admitted, Refusal):
                self._skipped += 1
                raise RedisUnavailable(admitted.cause)
            return admitted

    def _fail(self, permit: BreakerPermit, line: RedisLine, error: BaseException) -> None:
        with self._lock:
            if line.is_closed:
                # By one of us, which says nothing about Redis.
                permit.release()
                return
            self._failed += 1
            now, decisions = self._clock.monotonic(), self._breaker.decisions
            permit.fail(now, type(error).__name__)
            opening = self._breaker.opening(now)
            is_news = self._breaker.decisions != decisions
        if is_news and opening is not None:
            logger.warning(
                "Redis is left alone for %.1f s: %s", opening.retry_after, type(error).__name__
            )

    def _line(self) -> RedisLine:
        loop = running_loop()
        line = self._lines.get(loop)
        if line is None or line.is_lost:
            for other in [other for other in list(self._lines) if other.is_closed()]:
                self._lines.pop(other, None)
            line = self._lines[loop] = RedisLine(self._url)
        return line
