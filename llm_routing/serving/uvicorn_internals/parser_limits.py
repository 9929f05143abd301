"""Limits that uvicorn's parsers lack: the size of a request's head and the time it may take.

An ASGI application sees a request only once its head is complete, and uvicorn has no setting for
these limits, so `install` extends its protocol classes in place.
"""

import asyncio
import logging
import sys
from abc import abstractmethod
from collections.abc import Callable
from importlib import import_module
from typing import Any

from llm_routing.conf import get_settings
from llm_routing.core.timers import Timer

from . import writes
from .versions import HTTPTOOLS, problems, protocols

logger = logging.getLogger(__name__)

MAX_PIPELINED = 20
"""Requests on one connection that wait for the responses to earlier ones."""

MAX_CHUNKS = 20_000
MIN_CHUNK_BYTES = 64
"""A body may have more chunks if their average size is at least this: each chunk is a call."""

MAX_CHUNKS_H11 = 2_000
MAX_FRAMING_BYTES = 1024 * 1024
"""Maximum bytes around a body, such as chunk extensions, that h11 may have to read."""

_ATTRIBUTE = "_llm_routing_limits"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large"
_BAD = b"HTTP/1.1 400 Bad Request"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout"


def install() -> None:
    """Extends uvicorn, if this process uses it and its release is one of the tested ones."""
    if "uvicorn" not in sys.modules:
        return
    if found := problems():
        logger.warning("uvicorn's parsers stay without limits: %s.", "; ".join(found))
        writes.disable()
        return
    for module, protocol in protocols().items():
        if not hasattr(protocol, _ATTRIBUTE):
            setattr(protocol, _ATTRIBUTE, None)
            _extend(protocol, _HttpToolsLimits if module == HTTPTOOLS else _H11Limits)
    if HTTPTOOLS in protocols():
        writes.enable()


class _UnreadResponse(Timer):
    """A response that is written but not read yet. Drops the connection if the client has read
    nothing of it for `WRITE_TIMEOUT` seconds."""

    __slots__ = ("_left", "_protocol", "_seconds")

    def __init__(self, protocol: Any, left: int) -> None:
        self._protocol = protocol
        self._left = left
        self._seconds = get_settings().write_timeout
        self.start(self._seconds, protocol.loop)

    def on_timeout(self) -> None:
        """Drops the connection, unless the client has read something meanwhile."""
        transport = self._protocol.transport
        left = transport.get_write_buffer_size()
        if left and left >= self._left:
            transport.abort()
        elif left:
            self._left = left
            self.start(self._seconds, self._protocol.loop)


class _Limits(Timer):
    """The limits of one connection. The timer runs while a request's head is awaited."""

    __slots__ = ("_is_waiting", "_loop", "_protocol", "_seconds", "_unread_response")

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._loop: asyncio.AbstractEventLoop = protocol.loop
        self._seconds = get_settings().header_timeout
        self._is_waiting = False
        self._unread_response: _UnreadResponse | None = None
        self.start_waiting()

    def on_response_complete(self) -> None:
        """Starts the limit on reading a response; uvicorn itself waits for the client for ever."""
        if self._unread_response is not None:
            self._unread_response.cancel()
            self._unread_response = None
        if left := self._protocol.transport.get_write_buffer_size():
            self._unread_response = _UnreadResponse(self._protocol, left)

    def start_waiting(self) -> None:
        """Starts the limit on the head of the next request, unless it runs."""
        if not self._is_waiting:
            self._is_waiting = True
            self.start(self._seconds, self._loop)

    def stop_waiting(self) -> None:
        """Ends the limit on the head."""
        if self._is_waiting:
            self._is_waiting = False
            self.cancel()

    def on_timeout(self) -> None:
        """Closes the connection, because the head has not come in time."""
        self._is_waiting = False
        self.close(_TOO_SLOW if self.has_head_begun else None)

    def close(self, status: bytes | None) -> None:
        """Closes the connection, with a response unless another one is being sent."""
        transport = self._protocol.transport
        if transport.is_closing():
            return
        if status is not None and not self.is_responding:
            transport.write(status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        if transport.get_write_buffer_size():
            transport.abort()  # close() would wait until the client has read everything
        else:
            transport.close()

    @property
    def is_responding(self) -> bool:
        """Whether a request of the connection is being served."""
        cycle = self._protocol.cycle
        return cycle is not None and not cycle.response_complete

    @property
    @abstractmethod
    def has_head_begun(self) -> bool:
        """Whether a part of a head has arrived."""

    def before_parsing(self) -> None:
        """Called before received data is parsed."""

    def on_connection_lost(self) -> None:
        """Drops all references to the connection."""
        self.stop_waiting()
        if self._unread_response is not None:
            self._unread_response.cancel()

    @abstractmethod
    def after_parsing(self, size: int) -> None:
        """Called after `size` bytes were parsed."""


class _HttpToolsLimits(_Limits):
    """httptools joins the parts of one line, however long, and reports any number of header and
    trailer lines. So the bytes that complete neither a head nor body data are counted."""

    __slots__ = ("_chunks", "_limit", "_message_bytes", "_scope", "_unread", "has_body_data")

    def __init__(self, protocol: Any) -> None:
        self._limit = get_settings().max_header_bytes
        self._unread = 0
        self._scope: Any = None
        self._chunks = self._message_bytes = 0
        self.has_body_data = False
        super().__init__(protocol)

    @property
    def has_head_begun(self) -> bool:
        """See `_Limits`."""
        scope = self._protocol.scope
        return scope is not None and "method" not in scope

    def before_parsing(self) -> None:
        """See `_Limits`."""
        self.has_body_data = False

    def after_parsing(self, size: int) -> None:
        """See `_Limits`."""
        scope = self._protocol.scope
        if scope is not self._scope or self.has_body_data:
            # The bytes of the new request belong to one read, whose size is bounded.
            self._scope, self._unread = scope, 0
        else:
            self._unread += size
            if self._unread > self._limit:
                self.close(_TOO_LARGE)
                return
        if self.has_head_begun or not self.is_responding:
            self.start_waiting()
        else:
            self.stop_waiting()

    def on_message_begin(self) -> None:
        """Called when a request begins. Raises `ValueError`, which the parser answers with 400."""
        if len(self._protocol.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many pipelined requests")
        self._chunks = self._message_bytes = 0

    def on_body(self, size: int) -> None:
        """Counts body data. Raises `ValueError`, which the parser answers with 400."""
        self.has_body_data = True
        self._chunks += 1
        self._message_bytes += size
        if self._chunks > MAX_CHUNKS and self._message_bytes < self._chunks * MIN_CHUNK_BYTES:
            raise ValueError("too many small chunks")


class _H11Limits(_Limits):
    """h11 limits its buffers itself. Limits the time, and the chunks, which cost h11 far more than
    httptools."""

    __slots__ = ("_body_bytes", "_chunks", "_received")

    def __init__(self, protocol: Any) -> None:
        self._received = self._chunks = self._body_bytes = 0
        super().__init__(protocol)
        next_event = protocol.conn.next_event
        h11 = import_module("h11")

        def counted_event() -> Any:
            event = next_event()
            if isinstance(event, h11.Request):
                self._received = self._chunks = self._body_bytes = 0
            elif isinstance(event, h11.Data):
                self._chunks += 1
                self._body_bytes += len(event.data)
                small = self._body_bytes < self._chunks * MIN_CHUNK_BYTES
                if small and self._chunks > MAX_CHUNKS_H11:
                    self.close(_BAD)
                    return h11.NEED_DATA
            return event

        protocol.conn.next_event = counted_event

    def on_connection_lost(self) -> None:
        """See `_Limits`."""
        super().on_connection_lost()
        vars(self._protocol.conn).pop("next_event", None)

    @property
    def has_head_begun(self) -> bool:
        """See `_Limits`."""
        return bool(self._protocol.conn.trailing_data[0])

    def after_parsing(self, size: int) -> None:
        """See `_Limits`."""
        self._received += size
        if self._received > MAX_FRAMING_BYTES + self._body_bytes * MIN_CHUNK_BYTES:
            self.close(_BAD)
        elif self.is_responding:
            self.stop_waiting()
        else:
            self.start_waiting()


def _extend(protocol: Any, limits_of: Callable[[Any], _Limits]) -> None:
    made, lost, received, completed = (
        protocol.connection_made,
        protocol.connection_lost,
        protocol.data_received,
        protocol.on_response_complete,
    )

    def connection_made(self: Any, transport: asyncio.Transport) -> None:
        made(self, transport)
        setattr(self, _ATTRIBUTE, limits_of(self))

    def connection_lost(self: Any, error: Exception | None) -> None:
        if (limits := getattr(self, _ATTRIBUTE)) is not None:
            limits.on_connection_lost()
            setattr(self, _ATTRIBUTE, None)
        lost(self, error)

    def data_received(self: Any, data: bytes) -> None:
        limits = getattr(self, _ATTRIBUTE)
        if limits is None:  # the connection is older than the extension
            received(self, data)
            return
        limits.before_parsing()
        received(self, data)
        if self.transport.is_closing() or self not in self.connections:
            limits.stop_waiting()  # a web socket has a protocol of its own
        else:
            limits.after_parsing(len(data))

    def on_response_complete(self: Any) -> None:
        if (limits := getattr(self, _ATTRIBUTE)) is not None:
            limits.on_response_complete()
        completed(self)

    protocol.on_response_complete = on_response_complete
    protocol.connection_made = connection_made
    protocol.connection_lost = connection_lost
    protocol.data_received = data_received
    if limits_of is _HttpToolsLimits:
        _extend_callbacks(protocol)


def _extend_callbacks(protocol: Any) -> None:
    on_body, on_message_begin = protocol.on_body, protocol.on_message_begin

    def counted_body(self: Any, body: bytes) -> None:
        if (limits := getattr(self, _ATTRIBUTE)) is not None:
            limits.on_body(len(body))
        on_body(self, body)

    def checked_begin(self: Any) -> None:
        if (limits := getattr(self, _ATTRIBUTE)) is not None:
            limits.on_message_begin()
        on_message_begin(self)

    protocol.on_body = counted_body
    protocol.on_message_begin = checked_begin
