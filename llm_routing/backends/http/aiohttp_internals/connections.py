"""Connections of aiohttp whose responses `reader` reads where it can."""

import asyncio
import fcntl
import functools
import sys
import termios
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_parser import RawResponseMessage

from llm_routing.backends.http.connection_use import ConnectionState, ConnectionUse
from llm_routing.backends.http.responses import NOT_HTTP, UNDECODABLE
from llm_routing.core.errors import MalformedAnswer

from .reader import MAX_HEAD_BYTES, FallBackToAiohttp, IncomingResponse, ResponseReader

current_use: ContextVar[ConnectionUse] = ContextVar("llm_routing_connection_use")
"""The use for which a connection is acquired from the connector."""


class TrackedConnection(ResponseHandler, ConnectionState):
    """aiohttp's protocol of a connection, with its state."""

    _reader: ResponseReader | None = None

    def expect(self, incoming: IncomingResponse) -> bool:
        """Reads the next response into `incoming`. Returns False if it has begun before the request
        was sent."""
        if self._reader is None:
            self._reader = ResponseReader()
        tail, self._tail = self._tail, b""
        self._reader.expect(incoming, is_unsolicited=bool(tail))
        if tail:
            # An overloaded server may answer before it has a request.
            self.data_received(tail)
        return not tail

    def is_connected(self) -> bool:
        """Returns False also if unsolicited bytes came: they would be taken for a response."""
        transport = self.transport
        is_open = transport is not None and not transport.is_closing()
        return is_open and not self._buffer and not self._tail

    def set_response_params(self, **params: Any) -> None:
        """Has aiohttp read the next response."""
        self._reader = None
        super().set_response_params(**params)

    def feed_data(self, data: tuple[RawResponseMessage, Any], size: int = 0) -> None:
        """Receives a response that aiohttp's parser has read the head of."""
        if data[0].code >= HTTPStatus.OK:
            self.head_bytes = None
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self.is_silent = False
        if self._reader is not None:
            try:
                if not self._reader.feed(data) and self.transport is not None:
                    self.transport.abort()
                return
            except FallBackToAiohttp as fallback:
                data = fallback.data
                self.set_response_params(read_until_eof=True)
                fallback.incoming.end(can_serve_again=False)
        super().data_received(data)
        if self.head_bytes is not None:
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD_BYTES and self.transport is not None:
                self.set_exception(MalformedAnswer(NOT_HTTP))
                self.transport.abort()
        error, payload = self.exception(), self._payload
        if error is not None and payload is not None and payload.exception() is None:
            # aiohttp reports broken framing to those who wait for a head, not to a body's reader.
            payload.set_exception(MalformedAnswer(UNDECODABLE), error)

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""
        self.unacknowledged = unacknowledged_bytes(self.transport)
        super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """See `asyncio.Protocol`."""
        if self._reader is not None:
            self._reader.lose(exc)
        super().connection_lost(exc)


class TrackedConnector(aiohttp.TCPConnector):
    """Binds each connection to the current use, and makes a new one if the use wants one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(_protocol, loop=self._loop)

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # aiohttp's own signature
    ) -> Connection:
        """See `aiohttp.BaseConnector`."""
        use = current_use.get()
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if use.wants_new and isinstance(protocol, TrackedConnection) and protocol.uses:
                connection.close()
                continue
            use.bind(protocol)
            return connection


def _protocol(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return TrackedConnection(loop)


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
