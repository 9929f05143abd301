"""Requests written straight to a connection that aiohttp made: a sixth of what its client costs.

What is left out is what no request of ours has: redirects, cookies, forms, traces, compression.
Bodies are sent at one go, so large ones go by the client, as does what goes by a proxy.
"""

import asyncio
import fcntl
import sys
import termios
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import aiohttp
from aiohttp import hdrs
from aiohttp.client_exceptions import ConnectionTimeoutError
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from yarl import URL

from llm_routing.core.ports import no_op

from .reader import MAX_CHUNK, Incoming

MAX_HEADS = 100
_LINE_END = b"\r\n"
_SCHEMES = ("http", "https")


class DirectConnection:
    """A connection whose answers can be read here. It knows how often it has served, whether it has
    answered this time, where aiohttp reads, how many bytes have come without the head of the
    answer (None once it is there), and how much the provider had not acknowledged when it closed.
    """

    uses = 0
    is_silent = True
    head_bytes: int | None = None
    unacknowledged = 0

    def expect(self, incoming: Incoming) -> bool:
        """The next answer is `incoming`. False where it has begun before anything was asked."""
        raise NotImplementedError


class Use:
    """One use of a connection, as far as it matters to whether the request may be sent again.

    `sent` is how many bytes of the request were written, None where aiohttp's client writes.
    """

    __slots__ = ("_connection", "_on_connected", "sent", "wants_new")

    def __init__(self, *, wants_new: bool, on_connected: Callable[[], None]) -> None:
        self.wants_new = wants_new
        self._on_connected = on_connected
        self.sent: int | None = None
        self._connection: DirectConnection | None = None

    def of(self, connection: object) -> None:
        """The connection that was found."""
        # The use outlives the request in contexts of the connection's callbacks.
        on_connected, self._on_connected = self._on_connected, no_op
        on_connected()
        if isinstance(connection, DirectConnection):
            self._connection = connection
            connection.uses += 1
            connection.is_silent = True
            connection.head_bytes = 0
            connection.unacknowledged = 0

    @property
    def was_stale(self) -> bool:
        """Whether the connection had served before and brought no byte this time: then it was
        most likely closed while it was idle."""
        connection = self._connection
        return connection is not None and connection.uses > 1 and connection.is_silent

    @property
    def is_unread(self) -> bool:
        """Whether nobody can have read a byte of the request: none was written, or the provider
        closed the connection and its system had acknowledged none."""
        connection, sent = self._connection, self.sent
        return connection is not None and sent is not None and connection.unacknowledged >= sent


def unacknowledged_bytes(transport: asyncio.BaseTransport | None) -> int:
    """Returns the number of written bytes that the peer's kernel has not acknowledged; 0 if this
    platform does not tell. https://man7.org/linux/man-pages/man7/tcp.7.html (SIOCOUTQ)"""
    raw = None if transport is None else transport.get_extra_info("socket")
    if raw is None or sys.platform != "linux":
        return 0
    try:
        found = fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(found, sys.byteorder)


class Connections(Protocol):
    """Those to one destination."""

    async def connect(
        self,
        request: ClientRequest,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # aiohttp's own
        use: Use,
    ) -> Connection:
        """One for a request. Raises as aiohttp's connector does."""

    def give_back(self, connection: Connection, can_serve_again: bool) -> None:
        """The request has its answer; or, where the connection cannot serve again, it ends."""


class Response(Protocol):
    """An answer whose head has come."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """By names in lower case."""

    def whole(self, max_bytes: int) -> bytes | None:
        """The body, where all of it has come and it is no larger."""

    async def next_chunk(self) -> bytes:
        """Returns received body data as soon as there is any; empty at the end. Raises
        `aiohttp.ClientError`, `HttpProcessingError`."""

    def close(self) -> None:
        """Stops reading."""


class Direction:
    """A method and URL, prepared once for all requests to it."""

    def __init__(
        self, connections: Connections, method: str, url: str, headers: Mapping[str, str]
    ) -> None:
        """`headers` are sent with every request that has none of the same name. Raises
        `ValueError` for what is no URL over HTTP."""
        parsed = URL(url)
        if parsed.scheme not in _SCHEMES:
            raise ValueError("This is not a URL over HTTP.")
        self._loop = asyncio.get_running_loop()
        self._connections = connections
        # What the connector asks: the key of the connection, and how to make a new one.
        self._template = request = ClientRequest(method, parsed, headers=headers, loop=self._loop)
        self._request_line = f"{request.method} {parsed.raw_path_qs} HTTP/1.1\r\n"
        self._heads: dict[tuple[tuple[str, str], ...], bytes] = {}
        self._lines = {
            name.lower(): f"{name}: {value}\r\n"
            for name, value in request.headers.items()
            if name not in (hdrs.CONTENT_TYPE, hdrs.CONTENT_LENGTH)
        }
        self._has_body = request.method not in ClientRequest.GET_METHODS

    async def send(
        self, headers: Mapping[str, str], body: bytes, limits: aiohttp.ClientTimeout, use: Use
    ) -> Response:
        """The answer, once its head has come. Raises as `aiohttp.ClientSession.request` does."""
        fields = tuple(headers.items())
        head = self._heads.get(fields)
        if head is None:
            head = self._keep_head(fields)
        if body or self._has_body:
            data = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        else:
            data = head + _LINE_END
        try:
            connection = await self._connections.connect(self._template, limits, use)
        except TimeoutError as error:
            raise ConnectionTimeoutError("Connection timeout") from error
        # From here on it is for `incoming` to give it back, once: it may be another request's by
        # the time that this one hears of a cancellation.
        close = connection.close
        try:
            use.sent = 0
            protocol = connection.protocol
            assert protocol is not None
            assert isinstance(protocol, DirectConnection)
            transport = protocol.transport
            if transport is None or transport.is_closing():
                raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
            give_back = partial(self._connections.give_back, connection)
            incoming = Incoming(self._loop, transport, give_back)
            close = incoming.close
            if protocol.expect(incoming):
                # After all that is asked in this turn of the loop, in one go: whoever reads it
                # sleeps, and to wake him takes longer than the write.
                self._loop.call_soon(_write, transport, data, use)
            while incoming.is_awaited:
                await incoming.more()
            if incoming.status:
                return incoming
            while True:
                message, content = await protocol.read()
                if not 100 <= message.code <= 199 or message.code == 101:
                    break
        except BaseException:
            close()
            raise
        content.on_eof(connection.release)
        return AiohttpResponse(message.code, message.headers, content, connection.close)

    def _keep_head(self, fields: tuple[tuple[str, str], ...]) -> bytes:
        """All before Content-Length, which is the only line that differs from one request to the
        next: nearly all have the headers of their target and nothing else."""
        lines, own = [self._request_line], self._lines.copy()
        for name, value in fields:
            own.pop(name.lower(), None)
            lines.append(f"{name}: {value}\r\n")
        lines += own.values()
        head = "".join(lines).encode()
        if head.count(b"\r") != len(lines) or head.count(b"\n") != len(lines) or b"\0" in head:
            raise ValueError("A header must not hold an end of line.")
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        self._heads[fields] = head
        return head


def _write(transport: asyncio.Transport, data: bytes, use: Use) -> None:
    if not transport.is_closing():
        use.sent = len(data)
        transport.write(data)


class AiohttpResponse:
    """An answer that aiohttp reads. Its connection goes back to its pool as soon as all of the body
    has come; before, `close` drops it."""

    __slots__ = ("_content", "_drop", "_headers", "status")

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        content: aiohttp.StreamReader,
        drop: Callable[[], None],
    ) -> None:
        self.status = status
        self._headers = headers
        self._content = content
        self._drop = drop

    @property
    def headers(self) -> Mapping[str, str]:
        """See `Response`."""
        return {name.lower(): value for name, value in self._headers.items()}

    def whole(self, max_bytes: int) -> bytes | None:
        """See `Response`."""
        content = self._content
        if content.is_eof() and content.total_bytes <= max_bytes and content.exception() is None:
            return content.read_nowait()
        return None

    async def next_chunk(self) -> bytes:
        """See `Response`."""
        return await self._content.read(MAX_CHUNK)

    def close(self) -> None:
        """See `Response`."""
        if not self._content.is_eof():
            self._content.set_exception(aiohttp.ClientConnectionError("Connection closed"))
        self._drop()
