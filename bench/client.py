"""The smallest HTTP client that can be trusted with time: asyncio and httptools, no features."""

import asyncio
import time
from typing import Self, cast

import httptools

from .targets import WORD

_WORD = WORD.encode()


class LostConnection(Exception):
    """The connection ended before its answer did."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time; counts the marked frames of a paced answer."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._tail = b""
        self.words = 0
        self.first_word_at: float | None = None

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """Connects. Raises OSError."""
        _, protocol = await asyncio.get_running_loop().create_connection(cls, host, port)
        return protocol

    async def ask(self, request: bytes) -> int:
        """Sends a request and waits for the end of its answer; the status. Raises LostConnection.

        Where the wait is cancelled the connection is closed."""
        if self._transport is None or self._transport.is_closing():
            raise LostConnection
        self._answer = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self.words, self._tail, self.first_word_at = 0, b"", None
        self._transport.write(request)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        """Closes at once; a request under way raises LostConnection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol."""
        if self._parser is not None:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserError:
                self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio.Protocol."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LostConnection())

    def on_body(self, body: bytes) -> None:
        """Called by httptools with a piece of the answer, which may start or end within a
        marker."""
        data = self._tail + body
        found = data.count(_WORD)
        if found and self.first_word_at is None:
            self.first_word_at = time.perf_counter()
        self.words += found
        self._tail = data[-len(_WORD) + 1 :]

    def on_message_complete(self) -> None:
        """Of httptools: the answer is whole."""
        if self._answer is not None and self._parser is not None and not self._answer.done():
            self._answer.set_result(self._parser.get_status_code())
