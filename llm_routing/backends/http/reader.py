"""Answers read off a connection with httptools: a fraction of what aiohttp's reader costs.

It reads what nearly every answer is: final, framed by its length or in chunks, not compressed. Any
other one is left to aiohttp, with all the bytes that have come of it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from httptools import HttpParserError, HttpResponseParser

MAX_HEAD_BYTES = 64 * 1024
"""All that may come before a body: the answer's head, and interim answers (1xx) before it, which
could go on without end."""
MAX_BETWEEN = 64 * 1024
"""All that may come between two pieces of a body, and after the last: sizes of chunks, trailers."""
MAX_CHUNK = 64 * 1024
"""More may have come; it waits where it is until it is asked for."""
MAX_WAITING = 2 * MAX_CHUNK
"""If more of a body waits to be read, reading from the provider is paused."""
NO_BODY = (204, 304)


class LeftToAiohttp(Exception):
    """This answer is out of the ordinary; `data` has come of it so far."""

    def __init__(self, incoming: "Incoming", data: bytes) -> None:
        super().__init__("this answer is for aiohttp to read")
        self.incoming = incoming
        self.data = data


class Incoming:
    """One answer as it comes in. `release` is called once, as soon as all of it has come or nobody
    wants the rest, with whether the connection can serve again."""

    __slots__ = (
        "_chunks",
        "_error",
        "_head",
        "_is_complete",
        "_is_paused",
        "_loop",
        "_release",
        "_size",
        "_transport",
        "_waiter",
        "status",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        release: Callable[[bool], None],
    ) -> None:
        self.status = 0
        self._loop = loop
        self._transport = transport
        self._release: Callable[[bool], None] | None = release
        self._head: list[tuple[bytes, bytes]] = []
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._is_complete = self._is_paused = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether nothing is known of the answer: neither its head nor that aiohttp reads it, so
        that it has no status here."""
        return not self.status and not self._is_complete

    def more(self) -> "asyncio.Future[None]":
        """Returns a future that is done when more has been received. Raises `aiohttp.ClientError`,
        `HttpProcessingError` if nothing more can come."""
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        return self._waiter

    @property
    def headers(self) -> Mapping[str, str]:
        """The HTTP headers, by names in lower case; of those that are repeated the last one."""
        return {_name(name): _text(value) for name, value in self._head}

    def whole(self, max_bytes: int) -> bytes | None:
        """The body, where all of it has come and it is no larger."""
        if not self._is_complete or self._size > max_bytes:
            return None
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._size = 0
        return body

    async def next_chunk(self) -> bytes:
        """Returns received body data as soon as there is any, at most `MAX_CHUNK`; empty at the
        end. Raises `aiohttp.ClientError`, `HttpProcessingError`."""
        chunks = self._chunks
        while not chunks:
            if self._is_complete:
                return b""
            await self.more()
        chunk = chunks.popleft()
        if len(chunk) > MAX_CHUNK:
            chunks.appendleft(chunk[MAX_CHUNK:])
            chunk = chunk[:MAX_CHUNK]
        elif chunks:
            several, size = [chunk], len(chunk)
            while chunks and size + len(chunks[0]) <= MAX_CHUNK:
                size += len(chunks[0])
                several.append(chunks.popleft())
            chunk = b"".join(several)
        self._size -= len(chunk)
        if self._is_paused and self._size <= MAX_CHUNK:
            self._resume()
        return chunk

    def close(self) -> None:
        """Nobody reads on. Drops the connection, unless all has come."""
        self._give_back(False)

    def begin(self, status: int, head: list[tuple[bytes, bytes]]) -> None:
        """The head has come."""
        self.status = status
        self._head = head
        self._wake()

    def feed(self, data: bytes) -> None:
        """More of the body has come."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size > MAX_WAITING and not self._is_paused and not self._transport.is_closing():
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def end(self, *, can_serve_again: bool) -> None:
        """All has come; or, without a head, it comes by aiohttp."""
        self._is_complete = True
        if self._is_paused:
            self._resume()
        if self.status:
            self._give_back(can_serve_again)
        self._wake()

    def fail(self, error: Exception) -> None:
        """No more will come, though there should be. The first reason counts."""
        if self._error is None:
            self._error = error
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _resume(self) -> None:
        self._is_paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _give_back(self, can_serve_again: bool) -> None:
        release, self._release = self._release, None
        if release is not None:
            release(can_serve_again)


class AnswerReader:
    """Reads the answers on one connection, one after another. Methods in `on_…` are httptools'."""

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        # Old servers pad the sizes of their chunks.
        self._parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)
        self._between = 0
        self._incoming: Incoming | None = None
        self._unread = bytearray()
        self._head: list[tuple[bytes, bytes]] = []
        self._has_head = self._has_ended = self._is_surplus = self._can_serve_again = False

    def expect(self, incoming: Incoming, *, is_unasked: bool) -> None:
        """The next answer is `incoming`. One that comes unasked is the last."""
        self._incoming = incoming
        self._unread.clear()
        self._head = []
        self._has_head = self._has_ended = False
        self._is_surplus = is_unasked
        self._between = 0

    def feed(self, data: bytes) -> bool:
        """Reads on; False where the connection is of no use any more. Raises `LeftToAiohttp`."""
        incoming = self._incoming
        if incoming is None:
            return False
        if not incoming.status:
            self._unread += data
        self._between += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            if not incoming.status:
                self._incoming = None
                raise LeftToAiohttp(incoming, bytes(self._unread)) from None
            if not self._has_ended:
                incoming.fail(HttpProcessingError(message="The body is broken."))
                return False
            self._is_surplus = True
        if self._has_ended:
            self._incoming = None
            incoming.end(can_serve_again=self._can_serve_again and not self._is_surplus)
        elif not incoming.status and len(self._unread) > MAX_HEAD_BYTES:
            incoming.fail(HttpProcessingError(message="a head without end"))
            return False
        elif incoming.status and self._between > MAX_BETWEEN:
            incoming.fail(HttpProcessingError(message="a trailer without end"))
            return False
        return True

    def lose(self, error: BaseException | None) -> None:
        """The connection is gone."""
        incoming, self._incoming = self._incoming, None
        if incoming is None:
            return
        if incoming.status:
            incoming.fail(aiohttp.ClientPayloadError("The answer is not complete."))
        elif isinstance(error, OSError):
            incoming.fail(aiohttp.ClientOSError(*error.args))
        else:
            incoming.fail(aiohttp.ServerDisconnectedError())

    def on_message_begin(self) -> None:
        """A second answer to one request is none that anybody asked for."""
        if self._has_ended:
            self._is_surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; a trailer nobody looks at."""
        if not self._has_head:
            self._head.append((name, value))

    def on_headers_complete(self) -> None:
        """Raises `ValueError` where the answer is not for us to read."""
        if self._has_head:
            return
        status = self._parser.get_status_code()
        is_framed = False
        for name, value in self._head:
            match name.lower():
                case b"content-length":
                    is_framed = True
                case b"transfer-encoding":
                    is_framed = value.lower() == b"chunked"
                case b"content-encoding":
                    if value.lower() != b"identity":
                        raise ValueError("a compressed body")
        incoming = self._incoming
        if status < 200 or incoming is None or not (is_framed or status in NO_BODY):
            raise ValueError("an interim answer, or one that ends with its connection")
        self._has_head = True
        self._between = 0
        # What has no body and announces one may send it all the same.
        is_odd = status in NO_BODY and is_framed
        self._can_serve_again = self._parser.should_keep_alive() and not is_odd
        self._unread.clear()
        incoming.begin(status, self._head)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._between = 0
        if self._incoming is not None and not self._has_ended:
            self._incoming.feed(data)

    def on_message_complete(self) -> None:
        """The end of the answer. What comes of it waits for the end of the bytes at hand."""
        self._has_ended = True


@lru_cache(maxsize=512)
def _name(name: bytes) -> str:
    """A header's name in lower case. Vendors send the same ones with every answer."""
    return _text(name).lower()


def _text(value: bytes) -> str:
    return value.strip(b" \t").decode("utf-8", "surrogateescape")
