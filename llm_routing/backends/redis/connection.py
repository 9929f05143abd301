"""One connection to Redis for all calls of an event loop: pipelined, and answered in order.

A client library takes a connection from a pool for each call, at several times the cost of the
call. https://redis.io/docs/latest/develop/using-commands/pipelining/,
https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

from llm_routing.system.redis_address import REDIS_PORT, RedisAddress, RedisKind

from .sentinel import find_master

CALL_SECONDS = 0.1
TICKS = 10
SLOW_TICKS = 5
"""Ticks after which a reply counts as slow. `TICKS` of them are `CALL_SECONDS`."""
MAX_REPLY_BYTES = 16 * 1024 * 1024
_MORE: Final = object()


class UnexpectedReply(ConnectionError):
    """The server violates the protocol, or sends more than a reply of ours can hold."""


class RedisConnection(asyncio.Protocol):
    """A connection for commands that Redis answers at once; a blocking command would block all
    callers. It opens when it is created, and cannot be used again once it `is_lost`.

    It is dropped if a call is not answered within `CALL_SECONDS`. The time is counted in ticks of a
    timer, so a stall of our own event loop (a thousand requests at once) counts as one tick, not as
    a silent Redis. `slow_in_a_row` counts slow replies since the last one that was in time.
    """

    def __init__(self, address: RedisAddress) -> None:
        # Imported here, so that processes without Redis do not load the libraries.
        from hiredis import Reader, pack_command
        from redis.exceptions import ResponseError

        self.slow_in_a_row = 0
        self._unread = 0
        self.is_lost = self.is_closed = False
        self._loop = asyncio.get_running_loop()
        self._pack = pack_command
        self._reader = Reader(replyError=ResponseError, notEnoughData=_MORE)
        self._waiting: deque[tuple[int, asyncio.Future[Any]]] = deque()
        self._handshakes: list[bytes] = []
        self._handshakes_left = 0
        self._is_open = False
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._tick_count = 0
        self._timer: asyncio.TimerHandle | None = None
        options = address.options
        if password := options.get("password"):
            name = [options["username"]] if options.get("username") else []
            self._handshake("AUTH", *name, password)
        if database := options.get("db"):
            self._handshake("SELECT", database)
        self._opening = self._loop.create_task(self._open(address))

    def execute(self, *command: str | bytes | int) -> "asyncio.Future[Any]":
        """Returns the pending reply, which raises `redis.exceptions.ResponseError` if the call
        fails, and `ConnectionError` or `TimeoutError` if the connection is lost."""
        pending = self._loop.create_future()
        if self.is_lost:
            pending.set_exception(ConnectionError("lost"))
            return pending
        # Before the call is queued: a command that cannot be packed raises an error.
        packed = self._packed(command)
        self._waiting.append((self._tick_count, pending))
        self._unsent.append(packed)
        if self._is_open and len(self._unsent) == 1:
            # Calls of the same turn of the loop are sent together.
            self._loop.call_soon(self._send)
        if self._timer is None:
            self._timer = self._loop.call_later(CALL_SECONDS / TICKS, self._tick)
        return pending

    async def aclose(self) -> None:
        """Closes the connection. Pending calls fail."""
        self.is_closed = True
        self.drop(ConnectionError("closed"))
        with suppress(asyncio.CancelledError):
            await self._opening
        # uvloop does not report the end of a connection whose opening was cancelled.
        if self._transport is not None and not self._opening.cancelled():
            await self._closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        # uvloop's transports are not subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        if self.is_lost:
            self._transport.abort()
        elif self._handshakes:
            self._transport.write(b"".join(self._handshakes))
        else:
            self._begin()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            self._reader.feed(data)
            self._unread += len(data)
            while (reply := self._reader.gets()) is not _MORE:
                self._unread = 0
                self._resolve_next(reply)
            if self._unread > MAX_REPLY_BYTES:
                raise UnexpectedReply("a reply is longer than any that we expect")
        except Exception as error:  # noqa: BLE001  # the peer is not Redis
            self.drop(error)

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.drop(error or ConnectionError("closed by Redis"))
        if not self._closed.done():
            self._closed.set_result(None)

    async def _open(self, address: RedisAddress) -> None:
        options = address.options
        try:
            if path := options.get("path"):
                await self._loop.create_unix_connection(lambda: self, path)
            else:
                host, port = options.get("host", "localhost"), options.get("port", REDIS_PORT)
                if address.kind is RedisKind.SENTINEL:
                    host, port = await find_master(address)
                await self._loop.create_connection(
                    lambda: self, host, port, ssl=_certificates(options)
                )
        except Exception as error:  # noqa: BLE001  # pending calls get the error
            self.drop(error)

    def _resolve_next(self, reply: Any) -> None:
        if not self._waiting:
            raise UnexpectedReply("an unsolicited reply")
        sent_at, pending = self._waiting.popleft()
        self.slow_in_a_row = (
            self.slow_in_a_row + 1 if self._tick_count - sent_at > SLOW_TICKS else 0
        )
        if pending.done():
            # The caller was cancelled.
            return
        if isinstance(reply, Exception):
            pending.set_exception(reply)
        else:
            pending.set_result(reply)

    def _handshake(self, *command: str | int) -> None:
        """Sends a command before all calls, which wait until it has succeeded."""

        def on_reply(pending: "asyncio.Future[Any]") -> None:
            self._handshakes_left -= 1
            if (error := pending.exception()) is not None:
                self.drop(error)
            elif not self._handshakes_left:
                self._begin()

        pending = self._loop.create_future()
        pending.add_done_callback(on_reply)
        self._handshakes_left += 1
        self._handshakes.append(self._packed(command))
        self._waiting.append((self._tick_count, pending))

    def _packed(self, command: tuple[str | bytes | int, ...]) -> bytes:
        packed: bytes = self._pack(command)  # type: ignore[arg-type]  # their stub takes a single string
        return packed

    def _begin(self) -> None:
        self._is_open = True
        self._send()

    def _send(self) -> None:
        if self._transport is not None and self._unsent:
            self._transport.write(b"".join(self._unsent))
            self._unsent.clear()

    def _tick(self) -> None:
        self._tick_count += 1
        self._timer = None
        if not self._waiting:
            return
        if self._tick_count - self._waiting[0][0] >= TICKS:
            self.drop(TimeoutError("Redis is silent."))
        else:
            self._timer = self._loop.call_later(CALL_SECONDS / TICKS, self._tick)

    def drop(self, error: BaseException) -> None:
        """Closes the connection at once. Pending calls fail with `error`."""
        if self.is_lost:
            return
        self.is_lost = True
        self._opening.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            _, pending = self._waiting.popleft()
            if not pending.done():
                pending.set_exception(error)


def _certificates(options: Mapping[str, Any]) -> ssl.SSLContext | None:
    """Returns the TLS context of the URL; None without TLS."""
    from redis.asyncio.connection import SSLConnection

    if options.get("connection_class") is not SSLConnection:
        return None
    names = {name: value for name, value in options.items() if name.startswith("ssl_")}
    return SSLConnection(**names).ssl_context.get()
