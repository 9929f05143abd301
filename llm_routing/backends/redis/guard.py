"""Redis access on the request path: every call of ours goes through `GuardedRedis`.

A Redis that is slow, full, wrong or away costs a call a tenth of a second at most, and the next
ones nothing: it is left alone for a while, then one call finds out.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha1
from random import Random
from typing import Any, Protocol

from llm_routing.core.breaker import Breaker, BreakerPermit, BreakerRules, Rejected
from llm_routing.core.ports import Clock
from llm_routing.core.timers import running_loop
from llm_routing.system.redis_address import RedisKind, parse_redis_url

from .cluster import ClusterLine
from .connection import RedisLine
from .trouble import ADVICE, RedisTrouble, trouble_of

logger = logging.getLogger(__name__)

RULES = BreakerRules(window_calls=1, minimum_calls=1, open_time=0.5, max_open_time=10.0)
"""One failure is enough; the pauses grow from half a second to ten."""
MOST_SLOW = 8
"""Slow answers in a row after which Redis is left alone: each of a request's calls may be one."""


class RedisUnavailable(Exception):
    """Redis was not asked, or did not answer in time or in order. The request goes on without."""


@dataclass(frozen=True, slots=True)
class RedisCalls:
    """Counts of calls since the process began: `failed`, or `skipped` during a pause (`is_paused`:
    now). `reasons` counts failures by reason, `forged` the forged values in Redis."""

    failed: int = 0
    skipped: int = 0
    is_paused: bool = False
    forged: int = 0
    reasons: Mapping[RedisTrouble, int] = field(default_factory=dict, compare=False)


class Line(Protocol):
    """A way to Redis from one event loop. Once it is lost it is of no more use."""

    is_lost: bool
    is_closed: bool
    slow_in_a_row: int

    def ask(self, *command: str | bytes | int) -> Awaitable[Any]:
        """Returns the pending reply."""

    def lose(self, error: BaseException) -> None:
        """Gives a connection up that is of no use as it is."""

    async def aclose(self) -> None:
        """Closes it."""


class GuardedRedis:
    """One Redis for all that a process keeps there, with a limit to each call and a circuit breaker
    over all of them. One way to it from each event loop, for all users there; for any thread."""

    def __init__(self, url: str, *, clock: Clock, rng: Random) -> None:
        # Only a process with a Redis holds its client in memory, and from the start: imported by a
        # first call, it would stop the event loop.
        import redis.asyncio.connection

        self._address = parse_redis_url(url)
        self._error_of_a_call = redis.exceptions.ResponseError
        self._no_script = redis.exceptions.NoScriptError
        self._digests: dict[str, str] = {}
        self._clock = clock
        self._lock = threading.Lock()
        self._breaker = Breaker(RULES, rng)
        self._failed = self._skipped = self._forged = 0
        self._reasons: dict[RedisTrouble, int] = {}
        self._trouble: RedisTrouble | None = None
        self._troubled_since = 0.0
        self._lines: dict[asyncio.AbstractEventLoop, Line] = {}

    @property
    def calls(self) -> RedisCalls:
        """The outcomes of the calls so far."""
        with self._lock:
            is_paused = self._breaker.opening(self._clock.monotonic()) is not None
            return RedisCalls(
                self._failed, self._skipped, is_paused, self._forged, dict(self._reasons)
            )

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Runs a Lua script and returns its result. Raises `RedisUnavailable` after 0.1 s."""
        # The permit first: without one no connection is opened. While the breaker is closed a
        # success says nothing new, so there only a call that fails needs a permit.
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
                if not self._is_unknown_script(error):
                    raise
                result = await line.ask("EVAL", script, len(keys), *keys, *arguments)
        except Exception as error:  # noqa: BLE001  # whatever Redis is up to, the request goes on
            trouble = trouble_of(error)
            if trouble is RedisTrouble.WRONG_TYPE:
                await self._remove(line, keys, permit)
            else:
                self._fail(permit or BreakerPermit(self._breaker, generation), line, trouble)
                if isinstance(error, self._error_of_a_call):
                    # Another connection may lead to another server: after a failover, say.
                    line.lose(ConnectionError(trouble))
            raise RedisUnavailable(trouble) from None
        except BaseException:
            if permit is not None:
                with self._lock:
                    permit.release()
            raise
        if line.slow_in_a_row and (permit is not None or line.slow_in_a_row >= MOST_SLOW):
            self._fail(permit or BreakerPermit(self._breaker, generation), line, RedisTrouble.SLOW)
        elif permit is not None:
            self._succeed(permit)
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

    def _is_unknown_script(self, error: Exception) -> bool:
        # The library's own client gives the error a class, and takes its first word away.
        return isinstance(error, self._no_script) or str(error).startswith("NOSCRIPT")

    async def _remove(self, line: Line, keys: Sequence[str], permit: BreakerPermit | None) -> None:
        """Removes what somebody put under our names. It says nothing against Redis itself."""
        if permit is not None:
            self._succeed(permit)
        with self._lock:
            self._count(RedisTrouble.WRONG_TYPE)
        self.count_forged(1)
        with suppress(Exception):
            await line.ask("DEL", *keys)

    def _admit(self) -> BreakerPermit:
        with self._lock:
            admitted = self._breaker.admit(self._clock.monotonic())
            if isinstance(admitted, Rejected):
                self._skipped += 1
                raise RedisUnavailable(admitted.cause)
            return admitted

    def _succeed(self, permit: BreakerPermit) -> None:
        with self._lock:
            now = self._clock.monotonic()
            permit.succeed(now)
            is_over = self._trouble is not None and self._breaker.is_closed
            if is_over:
                self._trouble = None
        if is_over:
            logger.warning("Redis is used again after %.0f s.", now - self._troubled_since)

    def _fail(self, permit: BreakerPermit, line: Line, trouble: RedisTrouble) -> None:
        with self._lock:
            if line.is_closed:
                # By one of us, which says nothing about Redis.
                permit.release()
                return
            self._count(trouble)
            now = self._clock.monotonic()
            permit.fail(now, trouble)
            # The first of an outage, or another reason; not each of the pauses.
            is_news = self._trouble is not trouble and not self._breaker.is_closed
            if self._trouble is None:
                self._troubled_since = now
            if is_news:
                self._trouble = trouble
        if is_news:
            logger.warning(
                "Redis is left alone, and asked from time to time: %s (%s).",
                ADVICE[trouble],
                trouble,
            )

    def _count(self, trouble: RedisTrouble) -> None:
        self._failed += 1
        self._reasons[trouble] = self._reasons.get(trouble, 0) + 1

    def _line(self) -> Line:
        loop = running_loop()
        line = self._lines.get(loop)
        if line is None or line.is_lost:
            for other in [other for other in list(self._lines) if other.is_closed()]:
                self._lines.pop(other, None)
            is_cluster = self._address.kind is RedisKind.CLUSTER
            line = self._lines[loop] = (
                ClusterLine(self._address) if is_cluster else RedisLine(self._address)
            )
        return line
