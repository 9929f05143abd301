"""Reads responses with httptools, at a fraction of the cost of aiohttp's parser.

It reads nearly all responses: final, with a length or in chunks, not compressed. For others it
falls back to aiohttp, with all bytes that were received of them.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

import aiohttp
from httptools import HttpParserError, HttpResponseParser

from llm_routing.backends.http.responses import CUT, MAX_CHUNK, NOT_HTTP, UNDECODABLE
from llm_routing.core.errors import ConnectionLost, MalformedAnswer
from llm_routing.core.timers import FutureTimeout

MAX_HEAD_BYTES = 64 * 1024
"""Bytes before a body: the head, and interim responses (1xx) before it, whose number is not
limited."""
MAX_FRAMING_BYTES = 64 * 1024
"""Bytes between two pieces of a body, and after the last one: sizes of chunks, trailers."""
MAX_BUFFERED = 2 * MAX_CHUNK
"""If more of a body waits to be read, reading from the provider is paused."""
NO_BODY = (204, 304)
NO_HEADERS: Final[Mapping[str, str]] = {}


class FallBackToAiohttp(Exception):
    """aiohttp is to read the response `incoming`, of which `data` was received."""

    def __init__(self, incoming: "IncomingResponse", data: bytes) -> None:
        super().__init__("aiohttp reads this response")
        self.incoming = incoming
        self.data = data


class IncomingResponse:
    """A response that is being received. `release` is called once, when it is complete or closed,
    with whether the connection can serve again. It has no status until its head was received, and
    is complete without one if it is left to aiohttp."""

    # Most of these never change, so that they are not set for each response.
    status = 0
    headers: Mapping[str, str] = NO_HEADERS
    is_complete = False
    _size = 0
    _is_paused = False
    _error: Exception | None = None
    _waiter: "asyncio.Future[None] | None" = None
    _next_chunk: "asyncio.Future[bytes] | None" = None
    _timeout: FutureTimeout | None = None

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        release: Callable[[bool], None],
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._release: Callable[[bool], None] | None = release
        self._chunks: deque[bytes] = deque()

    def more(self) -> "asyncio.Future[None]":
        """Returns a future that is done when the head was received, or the response left to
        aiohttp. Raises `aiohttp.ClientError`, `MalformedAnswer` if neither can happen."""
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        return self._waiter

    def whole(self, max_bytes: int) -> bytes | None:
        """See `Response`."""
        if not self.is_complete or self._size > max_bytes:
            return None
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._size = 0
        return body

    def next_chunk(self, within: float | None = None) -> "asyncio.Future[bytes]":
        """See `Response`."""
        self._next_chunk = future = self._loop.create_future()
        if self._chunks or self.is_complete or self._error is not None:
            self.wake()
        elif within is not None:
            if self._timeout is None:
                self._timeout = FutureTimeout(self._loop)
            self._timeout.limit(future, within)
        return future

    def close(self) -> None:
        """See `Response`."""
        if self._release is not None:
            self._give_back(False)

    def feed(self, data: bytes) -> None:
        """Takes a piece of the body. Call `wake` afterwards."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size > MAX_BUFFERED and not self._is_paused and not self._transport.is_closing():
            self._is_paused = True
            self._transport.pause_reading()

    def end(self, *, can_serve_again: bool) -> None:
        """Ends the response; without a head, leaves it to aiohttp."""
        self.is_complete = True
        if self._is_paused:
            self._resume()
        if self.status:
            self._give_back(can_serve_again)
        self.wake()

    def fail(self, error: Exception) -> None:
        """Fails the response, which is not complete. The first error counts."""
        if self._error is None:
            self._error = error
        self.wake()

    def wake(self) -> None:
        """Ends the wait for the head, or for the next chunk if there is one."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
        future = self._next_chunk
        if future is None or future.done():
            return
        if self._chunks:
            chunk = self._chunks.popleft()
            if self._chunks or len(chunk) > MAX_CHUNK:
                chunk = self._resized(chunk)
            self._size -= len(chunk)
            if self._is_paused and self._size <= MAX_CHUNK:
                self._resume()
            future.set_result(chunk)
        elif self._error is not None:
            future.set_exception(self._error)
            # Seen: asyncio is not to log it if the waiting task is cancelled at the same time.
            future.exception()
        elif self.is_complete:
            future.set_result(b"")

    def _resized(self, chunk: bytes) -> bytes:
        """Returns the first chunk with those after it, or a part of it."""
        chunks = self._chunks
        if len(chunk) > MAX_CHUNK:
            chunks.appendleft(chunk[MAX_CHUNK:])
            return chunk[:MAX_CHUNK]
        several, size = [chunk], len(chunk)
        while chunks and size + len(chunks[0]) <= MAX_CHUNK:
            size += len(chunks[0])
            several.append(chunks.popleft())
        return b"".join(several)

    def _resume(self) -> None:
        self._is_paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _give_back(self, can_serve_again: bool) -> None:
        release, self._release = self._release, None
        if release is not None:
            release(can_serve_again)
        if self._timeout is not None:
            self._timeout.cancel()


class ResponseReader:
    """Reads the responses on one connection, one after another. httptools calls the methods
    `on_…`."""

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        # Old servers pad the sizes of chunks.
        self._parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)
        self._framing_bytes = 0
        self._incoming: IncomingResponse | None = None
        self._unread = bytearray()
        self._head: list[tuple[bytes, bytes]] = []
        self._has_head = self._has_ended = self._has_unexpected_data = self._can_serve_again = False

    def expect(self, incoming: IncomingResponse, *, is_unsolicited: bool) -> None:
        """Reads the next response into `incoming`. An unsolicited one is the last on its
        connection."""
        self._incoming = incoming
        self._unread.clear()
        self._head = []
        self._has_head = self._has_ended = False
        self._has_unexpected_data = is_unsolicited
        self._framing_bytes = 0

    def feed(self, data: bytes) -> bool:
        """Reads received data. Returns False if the connection is to be dropped. Raises
        `FallBackToAiohttp`."""
        incoming = self._incoming
        if incoming is None:
            return False
        if not incoming.status:
            self._unread += data
        self._framing_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            if not incoming.status:
                self._incoming = None
                raise FallBackToAiohttp(incoming, bytes(self._unread)) from None
            if not self._has_ended:
                incoming.fail(MalformedAnswer(UNDECODABLE))
                return False
            self._has_unexpected_data = True
        if self._has_ended:
            self._incoming = None
            incoming.end(can_serve_again=self._can_serve_again and not self._has_unexpected_data)
        elif not incoming.status and len(self._unread) > MAX_HEAD_BYTES:
            incoming.fail(MalformedAnswer(NOT_HTTP))
            return False
        elif incoming.status and self._framing_bytes > MAX_FRAMING_BYTES:
            incoming.fail(MalformedAnswer(UNDECODABLE))
            return False
        else:
            incoming.wake()
        return True

    def lose(self, error: BaseException | None) -> None:
        """Fails the current response: the connection is lost, with `error` or without."""
        incoming, self._incoming = self._incoming, None
        if incoming is None:
            return
        if incoming.status:
            incoming.fail(ConnectionLost(CUT))
        elif isinstance(error, OSError):
            incoming.fail(aiohttp.ClientOSError(*error.args))
        else:
            incoming.fail(aiohttp.ServerDisconnectedError())

    def on_message_begin(self) -> None:
        """Notes a second response to one request, which is unsolicited."""
        if self._has_ended:
            self._has_unexpected_data = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header; trailers are ignored."""
        if not self._has_head:
            self._head.append((name, value))

    def on_headers_complete(self) -> None:
        """Raises `ValueError` if aiohttp is to read the response."""
        if self._has_head:
            return
        status = self._parser.get_status_code()
        is_framed = False
        # Of repeated headers the last one counts.
        headers: dict[str, str] = {}
        for original, value in self._head:
            name = _name(original)
            headers[name] = value.strip(b" \t").decode("utf-8", "surrogateescape")
            match name:
                case "content-length":
                    is_framed = True
                case "transfer-encoding":
                    is_framed = value.lower() == b"chunked"
                case "content-encoding":
                    if value.lower() != b"identity":
                        raise ValueError("a compressed body")
        incoming = self._incoming
        if status < 200 or incoming is None or not (is_framed or status in NO_BODY):
            raise ValueError("an interim response, or one that ends with its connection")
        self._has_head = True
        self._framing_bytes = 0
        # A response that announces a body it must not have may send it nevertheless.
        is_odd = status in NO_BODY and is_framed
        self._can_serve_again = self._parser.should_keep_alive() and not is_odd
        self._unread.clear()
        incoming.status, incoming.headers = status, headers

    def on_body(self, data: bytes) -> None:
        """Takes a piece of the body."""
        self._framing_bytes = 0
        if self._incoming is not None and not self._has_ended:
            self._incoming.feed(data)

    def on_message_complete(self) -> None:
        """Notes the end of the response. `feed` acts on it after the data at hand."""
        self._has_ended = True


@lru_cache(maxsize=512)
def _name(name: bytes) -> str:
    """Returns a header's name in lower case. Vendors send the same ones each time."""
    return name.strip(b" \t").decode("utf-8", "surrogateescape").lower()
