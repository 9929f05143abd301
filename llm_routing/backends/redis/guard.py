"""Redis access on the request path: all calls go through `GuardedRedis`.

A Redis that is slow, full, misconfigured or unreachable costs one call a tenth of a second at most,
and the next ones nothing: after a failure no call is made for a while, then a single one tests it.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha1
from random import Random
from typing import Any, Protocol

from llm_routing.core.breaker import Breaker, BreakerPermit, BreakerRules, Rejected
from llm_routing.core.ports import Clock
from llm_routing.core.timers import running_loop
from llm_routing.system.redis_address import RedisAddress, RedisKind, parse_redis_url

from .cluster import ClusterConnection
from .connection import RedisConnection
from .trouble import ADVICE, RedisTrouble, trouble_of

logger = logging.getLogger(__name__)

RULES = BreakerRules(window_calls=1, minimum_calls=1, open_time=0.5, max_open_time=10.0)
"""One failure pauses Redis, for half a second at first and ten at most."""
MAX_SLOW_IN_A_ROW = 8
"""Slow replies in a row that pause Redis. A request makes several calls, which may all be slow."""


class RedisUnavailable(Exception):
    """Redis was not called, or gave no valid reply in time. The request continues without it."""


@dataclass(frozen=True, slots=True)
class RedisCalls:
    """Counts since the start of the process: calls that `failed`, calls `skipped` during a pause,
    failures by `reasons`, and `forged` values. `is_paused` is the current state."""

    failed: int = 0
    skipped: int = 0
    is_paused: bool = False
    forged: int = 0
    reasons: Mapping[RedisTrouble, int] = field(default_factory=dict, compare=False)


class Link(Protocol):
    """A connection to Redis from one event loop. It cannot be used again once it `is_lost`."""

    is_lost: bool
    is_closed: bool
    slow_in_a_row: int

    def execute(self, *command: str | bytes | int) -> Awaitable[Any]:
        """Returns the pending reply."""

    def drop(self, error: BaseException) -> None:
        """Closes the connection at once; pending calls fail with `error`."""

    async def aclose(self) -> None:
        """Closes the connection; pending calls fail."""


class GuardedRedis:
    """The Redis of a process: a time limit for each call, and one circuit breaker for all of them.
    Each event loop has one connection, which all its users share. Usable from any thread."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        rng: Random,
        connect: "Callable[[RedisAddress], Link] | None" = None,
    ) -> None:
        # Imported here, so that processes without Redis do not load the library; and not in the
        # first call, because the import would block the event loop.
        import redis.asyncio.connection

        self._address = parse_redis_url(url)
        self._connect = connect or _connect
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
        self._connections: dict[asyncio.AbstractEventLoop, Link] = {}

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
        # The permit comes first: without one no connection is opened. While the breaker is closed,
        # a success changes nothing, so only a failed call needs a permit.
        generation = self._breaker.generation
        permit = None if self._breaker.is_closed else self._admit()
        connection = self._connection()
        digest = self._digests.get(script)
        if digest is None:
            name = sha1(script.encode(), usedforsecurity=False)
            digest = self._digests[script] = name.hexdigest()
        try:
            try:
                result = await connection.execute("EVALSHA", digest, len(keys), *keys, *arguments)
            except self._error_of_a_call as error:
                if not self._is_unknown_script(error):
                    raise
                result = await connection.execute("EVAL", script, len(keys), *keys, *arguments)
        except Exception as error:  # noqa: BLE001  # the request continues without Redis
            trouble = trouble_of(error)
            if trouble is RedisTrouble.WRONG_TYPE:
                await self._remove(connection, keys, permit)
            else:
                self._fail(permit or BreakerPermit(self._breaker, generation), connection, trouble)
                if isinstance(error, self._error_of_a_call):
                    # A new connection may lead to another server, for example after a failover.
                    connection.drop(ConnectionError(trouble))
            raise RedisUnavailable(trouble) from None
        except BaseException:
            if permit is not None:
                with self._lock:
                    permit.release()
            raise
        if connection.slow_in_a_row and (
            permit is not None or connection.slow_in_a_row >= MAX_SLOW_IN_A_ROW
        ):
            self._fail(
                permit or BreakerPermit(self._breaker, generation), connection, RedisTrouble.SLOW
            )
        elif permit is not None:
            self._succeed(permit)
        return result

    def count_forged(self, values: int) -> None:
        """Counts values under our keys that no process of this installation wrote."""
        if not values:
            return
        with self._lock:
            is_first, self._forged = not self._forged, self._forged + values
        if is_first:
            logger.warning(
                "Redis holds values under our keys that were not written by this installation. "
                "They are ignored; check who else can write to it."
            )

    async def aclose(self) -> None:
        """Closes the connection of the running event loop; the next call opens another."""
        connection = self._connections.pop(asyncio.get_running_loop(), None)
        if connection is not None:
            await connection.aclose()

    def _is_unknown_script(self, error: Exception) -> bool:
        # The library's own client has a class for the error, and removes its first word.
        return isinstance(error, self._no_script) or str(error).startswith("NOSCRIPT")

    async def _remove(
        self, connection: Link, keys: Sequence[str], permit: BreakerPermit | None
    ) -> None:
        """Deletes keys of ours that hold another type of value. Redis itself works."""
        if permit is not None:
            self._succeed(permit)
        with self._lock:
            self._count(RedisTrouble.WRONG_TYPE)
        self.count_forged(1)
        with suppress(Exception):
            await connection.execute("DEL", *keys)

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

    def _fail(self, permit: BreakerPermit, connection: Link, trouble: RedisTrouble) -> None:
        with self._lock:
            if connection.is_closed:
                # We closed it ourselves, so Redis did not fail.
                permit.release()
                return
            self._count(trouble)
            now = self._clock.monotonic()
            permit.fail(now, trouble)
            # Logged for the first failure of an outage and for a new reason, not for each pause.
            is_new = self._trouble is not trouble and not self._breaker.is_closed
            if self._trouble is None:
                self._troubled_since = now
            if is_new:
                self._trouble = trouble
        if is_new:
            logger.warning(
                "Redis is not used, and tested from time to time: %s (%s).",
                ADVICE[trouble],
                trouble,
            )

    def _count(self, trouble: RedisTrouble) -> None:
        self._failed += 1
        self._reasons[trouble] = self._reasons.get(trouble, 0) + 1

    def _connection(self) -> Link:
        loop = running_loop()
        connection = self._connections.get(loop)
        if connection is None or connection.is_lost:
            for other in [other for other in list(self._connections) if other.is_closed()]:
                self._connections.pop(other, None)
            connection = self._connections[loop] = self._connect(self._address)
        return connection


def _connect(address: RedisAddress) -> Link:
    if address.kind is RedisKind.CLUSTER:
        return ClusterConnection(address)
    return RedisConnection(address)
