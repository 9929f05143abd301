"""Redis on the way of a request: every call of ours goes through `GuardedRedis`.

A Redis that is slow, full, wrong or away costs a request a tenth of a second at most, and the next
ones nothing: it is left alone for a while, then one call finds out.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from llm_routing.core.breaker import Breaker, BreakerPermit, BreakerRules, Refusal
from llm_routing.core.ports import Clock

if TYPE_CHECKING:
    from redis.asyncio import Redis

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_CONNECTIONS = 32
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
    over all of them. One client for each event loop, shared by all who use it; for any thread."""

    def __init__(self, url: str, *, clock: Clock, rng: Random) -> None:
        # Only who has a Redis holds its client in memory, and from the start: imported by a first
        # call, it would stop the event loop.
        import redis.asyncio  # noqa: F401

        self._url = url
        self._scripts: dict[str, Any] = {}
        self._clock = clock
        self._lock = threading.Lock()
        self._breaker = Breaker(RULES, rng)
        self._failed = self._skipped = 0
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Redis] = WeakKeyDictionary()

    @property
    def calls(self) -> RedisCalls:
        """What became of the calls so far."""
        with self._lock:
            is_paused = self._breaker.opening(self._clock.monotonic()) is not None
            return RedisCalls(self._failed, self._skipped, is_paused)

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """What a Lua script says. Raises `RedisUnavailable`."""

        def call(client: "Redis") -> Awaitable[Any]:
            known = self._scripts.get(script)
            if known is None:
                known = self._scripts[script] = client.register_script(script)
            return known(keys=keys, args=arguments, client=client)

        return await self.call(call)

    async def call(self, call: "Callable[[Redis], Awaitable[T]]") -> T:
        """What `call` gives within `CALL_SECONDS`. Raises `RedisUnavailable`."""
        client = self._client()
        permit = self._admit()
        try:
            with _TimeLimit():
                result = await call(client)
        except Exception as error:  # noqa: BLE001  # whatever Redis is up to, the request goes on
            if self._clients.get(asyncio.get_running_loop()) is client:
                self._fail(permit, error)
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
        """Closes the connections of the running event loop; the next call opens new ones."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

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

    def _client(self) -> "Redis":
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            from redis.asyncio import BlockingConnectionPool, Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff

            pool = BlockingConnectionPool.from_url(
                self._url,
                max_connections=MAX_CONNECTIONS,
                timeout=CALL_SECONDS,
                socket_timeout=None,
                socket_connect_timeout=None,
                retry=Retry(NoBackoff(), 0),
            )
            client = self._clients[loop] = Redis.from_pool(pool)
        return client


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
