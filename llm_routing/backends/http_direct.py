"""Requests written straight to a pooled connection of aiohttp's: a sixth of what its client costs.

aiohttp's connector finds or makes the connection, its parser reads the answer. What is left out is
what no request of ours has: redirects, cookies, forms, traces, compression. Bodies are sent at one
go, so large ones go by the client, as does what goes by a proxy.
"""

import asyncio
from collections.abc import Mapping

import aiohttp
from aiohttp import hdrs
from aiohttp.client_exceptions import ConnectionTimeoutError
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import BaseConnector, Connection
from multidict import CIMultiDictProxy
from yarl import URL

MAX_HEADS = 100
_LINE_END = b"\r\n"
_SCHEMES = ("http", "https")


class Direction:
    """Where requests go: one method and URL, over one connector. Kept for all that go there."""

    def __init__(
        self, connector: BaseConnector, method: str, url: str, headers: Mapping[str, str]
    ) -> None:
        """`headers` are sent with every request that has none of the same name. Raises
        `ValueError` for what is no URL over HTTP."""
        parsed = URL(url)
        if parsed.scheme not in _SCHEMES:
            raise ValueError("This is not a URL over HTTP.")
        self._connector = connector
        # What the connector asks: the key of the connection, and how to make a new one.
        self._template = request = ClientRequest(
            method, parsed, headers=headers, loop=asyncio.get_running_loop()
        )
        self._request_line = f"{request.method} {parsed.raw_path_qs} HTTP/1.1\r\n"
        self._heads: dict[tuple[tuple[str, str], ...], bytes] = {}
        self._lines = {
            name.lower(): f"{name}: {value}\r\n"
            for name, value in request.headers.items()
            if name not in (hdrs.CONTENT_TYPE, hdrs.CONTENT_LENGTH)
        }
        self._has_body = request.method not in ClientRequest.GET_METHODS

    async def send(
        self, headers: Mapping[str, str], body: bytes, limits: aiohttp.ClientTimeout
    ) -> "DirectResponse":
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
            connection = await self._connector.connect(self._template, [], limits)
        except TimeoutError as error:
            raise ConnectionTimeoutError("Connection timeout") from error
        try:
            protocol = connection.protocol
            assert protocol is not None
            protocol.set_response_params(read_until_eof=True)
            transport = protocol.transport
            if transport is None or transport.is_closing():
                raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
            transport.write(data)
            while True:
                message, content = await protocol.read()
                if not 100 <= message.code <= 199 or message.code == 101:
                    break
        except BaseException:
            connection.close()
            raise
        return DirectResponse(message.code, message.headers, content, connection)

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


class DirectResponse:
    """An answer, as `aiohttp.ClientResponse` is one. Its connection goes back to its pool as soon
    as all of the body has come."""

    __slots__ = ("_connection", "content", "headers", "status")

    def __init__(
        self,
        status: int,
        headers: "CIMultiDictProxy[str]",
        content: aiohttp.StreamReader,
        connection: Connection,
    ) -> None:
        self.status = status
        self.headers = headers
        self.content = content
        self._connection: Connection | None = connection
        content.on_eof(self._release)

    def close(self) -> None:
        """Drops the connection, unless all has come."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self.content.set_exception(aiohttp.ClientConnectionError("Connection closed"))
            connection.close()

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()
