"""One connection to Redis for all calls of an event loop: sent as they come, answered in order.

redis-py opens it, writes and reads it. Its pool would give each call a connection of its own, which
costs several times what the call does.
https://redis.io/docs/latest/develop/using-commands/pipelining/
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

IDLE_SECONDS = 1.0
"""After so long a silence the server may have closed the connection."""
_NOTHING: Final = object()


class _Call:
    """A call on its way: what was `said`, and how to wake who waits for it."""

    __slots__ = ("said", "woken")

    def __init__(self) -> None:
        self.said: Any = _NOTHING
        self.woken: asyncio.Future[None] | None = None

    def wake(self) -> bool:
        """Whether there is somebody to be woken."""
        woken = self.woken
        if woken is None or woken.done():
            return False
        woken.set_result(None)
        return True


class RedisLine:
    """A connection, for scripts and whatever else Redis answers at once; a call that blocks would
    block all. Once lost it is of no more use.

    It has no task of its own: one of those who wait reads for the others too, until its own answer
    is there; then another does. Whoever leaves has left its place, and the answer goes to nobody.
    """

    def __init__(self, url: str) -> None:
        from redis.asyncio import ConnectionPool
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        pool = ConnectionPool.from_url(
            url,
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
        )
        self._connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]  # theirs
        self._opening = asyncio.Lock()
        self._waiting: deque[_Call] = deque()
        self._is_open = self._is_read = False
        self._used_at = 0.0
        self.is_lost = False

    async def ask(self, *command: str | bytes | float) -> Any:
        """What Redis says. Raises `redis.RedisError`, `OSError`."""
        if not self._is_open:
            async with self._opening:
                await self._open()
        self._used_at = asyncio.get_running_loop().time()
        packed, call = self._connection.pack_command(*command), _Call()
        # Nothing comes between its place here and that on the wire.
        self._waiting.append(call)
        await self._connection.send_packed_command(packed, check_health=False)
        while call.said is _NOTHING:
            if self._is_read:
                await self._wait(call)
            else:
                await self._read(call)
        if isinstance(call.said, Exception):
            raise call.said
        return call.said

    async def is_spoilt(self) -> bool:
        """Whether the server has closed it in a long silence."""
        from redis.exceptions import RedisError

        silence = asyncio.get_running_loop().time() - self._used_at
        if not self._is_open or self._waiting or silence < IDLE_SECONDS:
            return False
        try:
            return await self._connection.can_read()
        except (RedisError, OSError):
            return True

    async def lose(self, error: Exception) -> None:
        """Closes it. Those who wait are told the error."""
        self.is_lost = True
        lost, self._waiting = self._waiting, deque()
        for call in lost:
            call.said = error
            call.wake()
        with suppress(OSError):
            await self._connection.disconnect(nowait=True)

    async def _open(self) -> None:
        if self._is_open:
            return
        if self.is_lost:
            raise ConnectionError("lost")
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call]  # theirs
        except asyncio.CancelledError:
            # Who waits behind this one opens it then.
            await self._connection.disconnect(nowait=True)
            raise
        except Exception as error:
            await self.lose(error)
            raise
        self._is_open = True

    async def _wait(self, call: _Call) -> None:
        """Until the call is answered, or its turn has come to read."""
        call.woken = asyncio.get_running_loop().create_future()
        try:
            await call.woken
        except asyncio.CancelledError:
            call.woken = None
            self._hand_on()
            raise

    async def _read(self, call: _Call) -> None:
        """Reads answers until that of `call` is there."""
        from redis.exceptions import RedisError, ResponseError

        self._is_read = True
        try:
            while call.said is _NOTHING:
                said: Any
                try:
                    said = await self._connection.read_response(disconnect_on_error=False)
                except ResponseError as error:
                    said = error
                first = self._waiting.popleft()
                first.said = said
                first.wake()
        except (RedisError, OSError) as error:
            await self.lose(error)
        finally:
            self._is_read = False
            self._hand_on()

    def _hand_on(self) -> None:
        """Has the next one read, where nobody does."""
        if not self._is_read:
            any(call.wake() for call in self._waiting)
