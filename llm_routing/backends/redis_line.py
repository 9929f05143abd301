"""One connection to Redis for all calls of an event loop: sent as they come, answered in order.

A client's pool gives each call a connection of its own, which costs several times what the call
does. https://redis.io/docs/latest/develop/using-commands/pipelining/,
https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

import asyncio
import ssl
from collections import deque
from contextlib import suppress
from typing import Any, Final, cast

CALL_SECONDS = 0.1
_BEATS = 10
_MORE: Final = object()


class RedisLine(asyncio.Protocol):
    """A connection, for scripts and whatever else Redis answers at once; a call that blocks would
    block all. It opens when it is made. Once it is lost it is of no more use.

    It is lost when a call is not answered within `CALL_SECONDS`. They are counted in slices of a
    timer, so that a stall of our own event loop (a thousand requests at once) passes for one slice
    and not for a Redis that is silent.
    """

    def __init__(self, url: str) -> None:
        # Only who has a Redis holds its clients in memory.
        from hiredis import Reader, pack_command
        from redis.asyncio.connection import parse_url
        from redis.exceptions import ResponseError

        self.is_lost = self.is_closed = False
        self._loop = asyncio.get_running_loop()
        self._pack = pack_command
        self._reader = Reader(replyError=ResponseError, notEnoughData=_MORE)
        self._waiting: deque[tuple[int, asyncio.Future[Any]]] = deque()
        self._greetings: list[bytes] = []
        self._greetings_left = 0
        self._is_open = False
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._beat = 0
        self._timer: asyncio.TimerHandle | None = None
        options: dict[str, Any] = {**parse_url(url)}
        if password := options.get("password"):
            name = [options["username"]] if options.get("username") else []
            self._greet("AUTH", *name, password)
        if database := options.get("db"):
            self._greet("SELECT", database)
        self._opening = self._loop.create_task(self._open(options))

    def ask(self, *command: str | bytes | int) -> "asyncio.Future[Any]":
        """What Redis will say. Raises `redis.exceptions.ResponseError` for an error of the call,
        `ConnectionError` and `TimeoutError` where the connection is lost."""
        answer = self._loop.create_future()
        if self.is_lost:
            answer.set_exception(ConnectionError("lost"))
            return answer
        # First, for what cannot be packed has no place in the queue.
        packed = self._packed(command)
        self._waiting.append((self._beat, answer))
        self._unsent.append(packed)
        if self._is_open and len(self._unsent) == 1:
            # What is asked in the same turn of the loop is sent at once.
            self._loop.call_soon(self._send)
        if self._timer is None:
            self._timer = self._loop.call_later(CALL_SECONDS / _BEATS, self._pass)
        return answer

    async def aclose(self) -> None:
        """Closes it. Those who wait are told that it is lost."""
        self.is_closed = True
        self._lose(ConnectionError("closed"))
        with suppress(asyncio.CancelledError):
            await self._opening
        # uvloop does not report the end of a connection whose opening was cancelled.
        if self._transport is not None and not self._opening.cancelled():
            await self._closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of `asyncio.Protocol`."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        if self.is_lost:
            self._transport.abort()
        elif self._greetings:
            self._transport.write(b"".join(self._greetings))
        else:
            self._begin()

    def data_received(self, data: bytes) -> None:
        """Of `asyncio.Protocol`."""
        try:
            self._reader.feed(data)
            while (said := self._reader.gets()) is not _MORE:
                self._hand_out(said)
        except Exception as error:  # noqa: BLE001  # what speaks there is no Redis
            self._lose(error)

    def connection_lost(self, error: Exception | None) -> None:
        """Of `asyncio.Protocol`."""
        self._lose(error or ConnectionError("closed by Redis"))
        if not self._closed.done():
            self._closed.set_result(None)

    async def _open(self, options: dict[str, Any]) -> None:
        try:
            if path := options.get("path"):
                await self._loop.create_unix_connection(lambda: self, path)
            else:
                host, port = options.get("host", "localhost"), options.get("port", 6379)
                await self._loop.create_connection(
                    lambda: self, host, port, ssl=_certificates(options)
                )
        except Exception as error:  # noqa: BLE001  # those who wait are told
            self._lose(error)

    def _hand_out(self, said: Any) -> None:
        _, answer = self._waiting.popleft()
        if answer.done():
            # Who asked has left.
            return
        if isinstance(said, Exception):
            answer.set_exception(said)
        else:
            answer.set_result(said)

    def _greet(self, *command: str | int) -> None:
        """Has this said first. Nobody's call is sent before it is answered well."""

        def said(answer: "asyncio.Future[Any]") -> None:
            self._greetings_left -= 1
            if (error := answer.exception()) is not None:
                self._lose(error)
            elif not self._greetings_left:
                self._begin()

        answer = self._loop.create_future()
        answer.add_done_callback(said)
        self._greetings_left += 1
        self._greetings.append(self._packed(command))
        self._waiting.append((self._beat, answer))

    def _packed(self, command: tuple[str | bytes | int, ...]) -> bytes:
        packed: bytes = self._pack(command)  # type: ignore[arg-type]  # their stub knows one word
        return packed

    def _begin(self) -> None:
        self._is_open = True
        self._send()

    def _send(self) -> None:
        if self._transport is not None and self._unsent:
            self._transport.write(b"".join(self._unsent))
            self._unsent.clear()

    def _pass(self) -> None:
        self._beat += 1
        self._timer = None
        if not self._waiting:
            return
        if self._beat - self._waiting[0][0] >= _BEATS:
            self._lose(TimeoutError("Redis is silent."))
        else:
            self._timer = self._loop.call_later(CALL_SECONDS / _BEATS, self._pass)

    def _lose(self, error: BaseException) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        self._opening.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            _, answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(error)


def _certificates(options: dict[str, Any]) -> ssl.SSLContext | None:
    """How to check the server's certificate, as the URL says; None without TLS."""
    from redis.asyncio.connection import SSLConnection

    if options.get("connection_class") is not SSLConnection:
        return None
    names = {name: value for name, value in options.items() if name.startswith("ssl_")}
    return SSLConnection(**names).ssl_context.get()
