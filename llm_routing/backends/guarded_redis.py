"""Redis on the way of a request: every call of ours goes through `GuardedRedis`.

A Redis that is slow, full, wrong or away costs a request a tenth of a second at most, and the next
ones nothing: it is left alone for a while, then one call finds out.
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from random import Random
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

from llm_routing.core.breaker import Breaker, BreakerPermit, BreakerRules, Refusal
from llm_routing.core.ports import Clock

from .redis_line import RedisLine

logger = logging.getLogger(__name__)

CALL_SECONDS = 0.1
RULES = BreakerRules(window_calls=1, minimum_calls=1, open_time=0.5, longest_open_time=10.0)
"""One failure is enough; the pauses grow from half a second to ten."""
_SLICES = 10


class RedisUnavailable(Exception):
    """Redis was not asked, or did not answer in time or in order. The request goes on without."""


@dataclass(frozen=True, slots=True)
class RedisCalls:
    """What became of calls since the process began: `failed`, or `skipped` while Redis was left
    alone, which it is at the moment where `is_paused`."""

    failed: int = 0
    skipped: int = 0
    is_paused: bool = False


class GuardedRedis:
    """One Redis for all that a process keeps there, with a limit to each call and a circuit breaker
    over all of them. One connection of each event loop for all who use it there; for any thread."""

    def __init__(self, url: str, *, clock: Clock, rng: Random) -> None:
        # Only who has a Redis holds its client in memory, and from the start: imported by a first
        # call, it would stop the event loop.
        import redis.asyncio

        self._url = url
        self._unknown_script = redis.exceptions.NoScriptError
        self._digests: dict[str, str] = {}
        self._clock = clock
        self._lock = threading.Lock()
        self._breaker = Breaker(RULES, rng)
        self._failed = self._skipped = 0
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, RedisLine] = WeakKeyDictionary()

    @property
    def calls(self) -> RedisCalls:
        """What became of the calls so far."""
        with self._lock:
            is_paused = self._breaker.opening(self._clock.monotonic()) is not None
            return RedisCalls(self._failed, self._skipped, is_paused)

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """What a Lua script says within `CALL_SECONDS`. Raises `RedisUnavailable`."""
        line = self._line()
        permit = self._admit()
        try:
            with _TimeLimit():
                if await line.is_spoilt():
                    await line.lose(ConnectionError("closed"))
                    line = self._line()
                result = await self._ask(line, script, keys, arguments)
        except Exception as error:  # noqa: BLE001  # whatever Redis is up to, the request goes on
            if self._lines.get(asyncio.get_running_loop()) is line:
                self._fail(permit, error)
                if isinstance(error, TimeoutError):
                    # It may never say anything again on this connection.
                    await line.lose(error)
            # Else somebody has closed it meanwhile, which says nothing about Redis.
            raise RedisUnavailable(type(error).__name__) from None
        else:
            with self._lock:
                permit.succeed(self._clock.monotonic())
            return result
        finally:
            with self._lock:
                permit.release()

    async def aclose(self) -> None:
        """Closes the connection of the running event loop; the next call opens another."""
        line = self._lines.pop(asyncio.get_running_loop(), None)
        if line is not None:
            await line.lose(ConnectionError("closed"))

    async def _ask(
        self, line: RedisLine, script: str, keys: Sequence[str], arguments: Sequence[Any]
    ) -> Any:
        digest = self._digests.get(script)
        if digest is None:
            name = sha1(script.encode(), usedforsecurity=False)
            digest = self._digests[script] = name.hexdigest()
        try:
            return await line.ask("EVALSHA", digest, len(keys), *keys, *arguments)
        except self._unknown_script:
            return await line.ask("EVAL", script, len(keys), *keys, *arguments)

    def _admit(self) -> BreakerPermit:
        with self._lock:
            admitted = self._breaker.admit(self._clock.monotonic())
            if isinstance(admitted, Refusal):
                self._skipped += 1
                raise RedisUnavailable(admitted.cause)
            return admitted

    def _fail(self, permit: BreakerPermit, error: Exception) -> None:
        with self._lock:
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
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None or line.is_lost:
            line = self._lines[loop] = RedisLine(self._url)
        return line


class _TimeLimit:
    """A wait of at most `CALL_SECONDS`, after which `TimeoutError` is raised.

    They are counted in slices, so that a stall of our own event loop (a thousand requests at once)
    passes for one slice and not for a Redis that is silent.
    """

    __slots__ = ("_cancelling", "_left", "_loop", "_task", "_timer")

    def __enter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._left = _SLICES
        self._timer = self._loop.call_later(CALL_SECONDS / _SLICES, self._pass)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        # Where somebody else has cancelled as well, it is theirs.
        if (
            not self._left
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error

    def _pass(self) -> None:
        self._left -= 1
        if self._left:
            self._timer = self._loop.call_later(CALL_SECONDS / _SLICES, self._pass)
        else:
            self._task.cancel()
