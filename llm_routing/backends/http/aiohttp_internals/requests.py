"""Requests that are written straight to a connection: a sixth of the CPU of aiohttp's client.

They have no redirects, cookies, forms, traces or compression, and their bodies are sent at once.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Protocol

import aiohttp
from aiohttp import hdrs
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from llm_routing.backends.http.connection_use import ConnectionUse
from llm_routing.backends.http.responses import NOT_HTTP, ClientResponse, Response
from llm_routing.core.errors import MalformedAnswer

from .connections import TrackedConnection
from .reader import IncomingResponse

MAX_HEADS = 100
_LINE_END = b"\r\n"
_SCHEMES = ("http", "https")


class Connections(Protocol):
    """The connections to one destination."""

    def take_idle(self, use: ConnectionUse) -> Connection | None:
        """Returns an idle connection, if there is one."""

    async def connect(
        self, request: ClientRequest, connect_timeout: float, use: ConnectionUse
    ) -> Connection:
        """Returns a connection for a request. Raises as aiohttp's connector does."""

    def give_back(self, connection: Connection, can_serve_again: bool) -> None:
        """Takes a connection back whose response is complete, or that is to be closed."""


class PreparedRequest:
    """A method and URL, prepared once for all requests to it."""

    def __init__(
        self, connections: Connections, method: str, url: str, headers: Mapping[str, str]
    ) -> None:
        """`headers` are sent unless a request has its own of the same names. Raises `ValueError`
        if `url` is not an HTTP URL."""
        parsed = URL(url)
        if parsed.scheme not in _SCHEMES:
            raise ValueError("This is not an HTTP URL.")
        self._loop = asyncio.get_running_loop()
        self._connections = connections
        # The connector reads from it which connections fit, and how to make a new one.
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
        self,
        headers: Mapping[str, str],
        body: bytes,
        connect_timeout: float,
        use: ConnectionUse,
    ) -> Response:
        """Returns the response once its head was received. Raises `aiohttp.ClientError`,
        `OSError`, `ValueError`, `MalformedAnswer`."""
        fields = tuple(headers.items())
        head = self._heads.get(fields)
        if head is None:
            head = self._make_head(fields)
        if body or self._has_body:
            data = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        else:
            data = head + _LINE_END
        connection = self._connections.take_idle(use)
        if connection is None:
            try:
                connection = await self._connections.connect(self._template, connect_timeout, use)
            except TimeoutError as error:
                raise aiohttp.ConnectionTimeoutError("Connection timeout") from error
        # Once there is an `incoming`, it gives the connection back, exactly once: another request
        # may have acquired it by the time that this one is cancelled.
        close = connection.close
        try:
            use.sent = 0
            protocol = use.connection
            assert isinstance(protocol, TrackedConnection)
            transport = protocol.transport
            if transport is None or transport.is_closing():
                raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
            give_back = partial(self._connections.give_back, connection)
            incoming = IncomingResponse(self._loop, transport, give_back)
            close = incoming.close
            if protocol.expect(incoming):
                # The requests of one turn of the loop are written together: waking a peer that
                # sleeps costs more than the write itself.
                self._loop.call_soon(write_request, transport, data, use)
            while not (incoming.status or incoming.is_complete):
                await incoming.more()
            if incoming.status:
                return incoming
            # The response is left to aiohttp.
            while True:
                message, content = await protocol.read()
                if not 100 <= message.code <= 199 or message.code == 101:
                    break
        except HttpProcessingError as error:
            close()
            raise MalformedAnswer(NOT_HTTP) from error
        except BaseException:
            close()
            raise
        content.on_eof(connection.release)
        return ParsedByAiohttp(message.code, message.headers, content, connection.close)

    def _make_head(self, fields: tuple[tuple[str, str], ...]) -> bytes:
        """Returns the head up to Content-Length, which is the only line that differs between most
        requests: nearly all have the headers of their target and no others."""
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


def write_request(transport: asyncio.Transport, data: bytes, use: ConnectionUse) -> None:
    """Writes a request, unless its connection is closing."""
    if not transport.is_closing():
        use.sent = len(data)
        transport.write(data)


class ParsedByAiohttp(ClientResponse):
    """A response that `reader` left to aiohttp's parser."""

    __slots__ = ()

    def whole(self, max_bytes: int) -> bytes | None:
        """See `Response`."""
        content = self._content
        if content.is_eof() and content.total_bytes <= max_bytes and content.exception() is None:
            return content.read_nowait()
        return None

    def close(self) -> None:
        """See `Response`."""
        if not self._content.is_eof():
            self._content.set_exception(aiohttp.ClientConnectionError("Connection closed"))
        self._close()
