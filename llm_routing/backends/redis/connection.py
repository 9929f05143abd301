"""One connection to Redis for all calls of an event loop: sent as they come, answered in order.

A client's pool gives each call a connection of its own, which costs several times what the call
does. https://redis.io/docs/latest/develop/using-commands/pipelining/,
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
BEATS = 10
SLOW_BEATS = 5
"""Slices of `CALL_SECONDS` after which an answer is slow."""
MAX_REPLY_BYTES = 16 * 1024 * 1024
_MORE: Final = object()


class UnexpectedReply(ConnectionError):
    """The server violates the part of the protocol that this client uses."""


class RedisLine(asyncio.Protocol):
    """A connection, for scripts and whatever else Redis answers at once; a call that blocks would
    block all. It opens when it is made. Once it is lost it is of no more use.

    It is lost when a call is not answered within `CALL_SECONDS`. They are counted in slices of a
    timer, so that a stall of our own event loop (a thousand requests at once) passes for one slice
    and not for a Redis that is silent. `slow_in_a_row` counts answers that came late, until one is
    in time.
    """

    def __init__(self, address: RedisAddress) -> None:
        # Only a process with a Redis holds its clients in memory.
        from hiredis import Reader, pack_command
        from redis.exceptions import ResponseError

        self.slow_in_a_row = 0
        self._unread = 0
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
        options = address.options
        if password := options.get("password"):
            name = [options["username"]] if options.get("username") else []
            self._greet("AUTH", *name, password)
        if database := options.get("db"):
            self._greet("SELECT", database)
        self._opening = self._loop.create_task(self._open(address))

    def ask(self, *command: str | bytes | int) -> "asyncio.Future[Any]":
        """Returns what Redis will say. Raises `redis.exceptions.ResponseError` for an error of the
        call, `ConnectionError` and `TimeoutError` where the connection is lost."""
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
            self._timer = self._loop.call_later(CALL_SECONDS / BEATS, self._pass)
        return answer

    async def aclose(self) -> None:
        """Closes it. Those who wait are told that it is lost."""
        self.is_closed = True
        self.lose(ConnectionError("closed"))
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
            self._unread += len(data)
            while (said := self._reader.gets()) is not _MORE:
                self._unread = 0
                self._hand_out(said)
            if self._unread > MAX_REPLY_BYTES:
                raise UnexpectedReply("a reply is longer than any of ours")
        except Exception as error:  # noqa: BLE001  # what speaks there is no Redis
            self.lose(error)

    def connection_lost(self, error: Exception | None) -> None:
        """Of `asyncio.Protocol`."""
        self.lose(error or ConnectionError("closed by Redis"))
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
        except Exception as error:  # noqa: BLE001  # those who wait are told
            self.lose(error)

    def _hand_out(self, said: Any) -> None:
        if not self._waiting:
            raise UnexpectedReply("an unsolicited reply")
        asked_at, answer = self._waiting.popleft()
        self.slow_in_a_row = self.slow_in_a_row + 1 if self._beat - asked_at > SLOW_BEATS else 0
        if answer.done():
            # The caller was cancelled.
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
                self.lose(error)
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
        if self._beat - self._waiting[0][0] >= BEATS:
            self.lose(TimeoutError("Redis is silent."))
        else:
            self._timer = self._loop.call_later(CALL_SECONDS / BEATS, self._pass)

    def lose(self, error: BaseException) -> None:
        """Gives the connection up. Those who wait are told why."""
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


def _certificates(options: Mapping[str, Any]) -> ssl.SSLContext | None:
    """Returns the TLS context that the URL asks for; None without TLS."""
    from redis.asyncio.connection import SSLConnection

    if options.get("connection_class") is not SSLConnection:
        return None
    names = {name: value for name, value in options.items() if name.startswith("ssl_")}
    return SSLConnection(**names).ssl_context.get()
