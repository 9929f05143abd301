"""Limits that uvicorn's parsers lack: the size of a request's head and the time it may take.

An ASGI application sees a request only once its head is complete, so they cannot be set by one.
uvicorn has no setting for them either, so `install` extends its protocol classes in place. The
attributes this relies on are checked first; with a uvicorn that has others nothing is changed, and
`problems` says why.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from llm_routing.conf import get_settings
from llm_routing.core.timers import Timer

logger = logging.getLogger(__name__)

OLDEST, NEWEST = (0, 30), (0, 54)
"""The releases of uvicorn that the tests have seen work."""

HTTPTOOLS = "uvicorn.protocols.http.httptools_impl"
H11 = "uvicorn.protocols.http.h11_impl"
MOST_PIPELINED = 20
"""Requests that may wait on one connection for the answers to those before them."""

MOST_PIECES = 20_000
SMALL_PIECE = 64
"""A body may come in more pieces only if they have so many bytes on average: each is a call."""

MOST_PIECES_H11 = 2_000
MOST_FRAMING = 1024 * 1024
"""Bytes around a body, such as extensions of chunks, that h11 may have to read."""

_EVERY = ("connection_made", "connection_lost", "data_received", "on_response_complete")
_METHODS = {
    HTTPTOOLS: ("HttpToolsProtocol", (*_EVERY, "on_body", "on_message_begin")),
    H11: ("H11Protocol", _EVERY),
}
_MARK = "_llm_routing_guard"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large"
_BAD = b"HTTP/1.1 400 Bad Request"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout"


def problems() -> Sequence[str]:
    """Why the installed uvicorn cannot be extended; nothing if it can."""
    try:
        version = import_module("uvicorn").__version__
    except ImportError:
        return []
    found = []
    if not OLDEST <= _release(version) <= NEWEST:
        found.append(f"uvicorn {version} is not between {_text(OLDEST)} and {_text(NEWEST)}")
    for module, (name, methods) in _METHODS.items():
        try:
            protocol = getattr(import_module(module), name, None)
        except ImportError:  # without httptools only h11 can serve
            continue
        found += [
            f"{module}.{name} has no {method}"
            for method in methods
            if not callable(getattr(protocol, method, None))
        ]
    return found


def install() -> None:
    """Extends uvicorn, if this process uses it and it is one that is known."""
    if "uvicorn" not in sys.modules:
        return
    if found := problems():
        logger.warning("uvicorn's parsers stay without limits: %s.", "; ".join(found))
        return
    for module, (name, _) in _METHODS.items():
        try:
            protocol = getattr(import_module(module), name)
        except ImportError:
            continue
        if not hasattr(protocol, _MARK):
            setattr(protocol, _MARK, None)
            _extend(protocol, _HttpToolsHead if module == HTTPTOOLS else _H11Head)


def _release(version: str) -> tuple[int, int]:
    parts = version.split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (ValueError, IndexError):
        return 0, 0


def _text(release: tuple[int, int]) -> str:
    return ".".join(map(str, release))


class _Unread(Timer):
    """An answer that is written, and that the client has yet to take. It rings again and again
    while the client takes some of it, and drops the connection if not."""

    __slots__ = ("_left", "_protocol", "_seconds")

    def __init__(self, protocol: Any, left: int) -> None:
        self._protocol = protocol
        self._left = left
        self._seconds = get_settings().write_timeout
        self.start(self._seconds, protocol.loop)

    def on_timeout(self) -> None:
        """Whether the client has taken anything since."""
        transport = self._protocol.transport
        left = transport.get_write_buffer_size()
        if left and left >= self._left:
            transport.abort()
        elif left:
            self._left = left
            self.start(self._seconds, self._protocol.loop)


class _Head(Timer):
    """The head that a connection is waiting for. It rings when that has taken too long."""

    __slots__ = ("_is_set", "_loop", "_protocol", "_seconds", "_unread_answer")

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._loop: asyncio.AbstractEventLoop = protocol.loop
        self._seconds = get_settings().header_timeout
        self._is_set = False
        self._unread_answer: _Unread | None = None
        self.wait()

    def answered(self) -> None:
        """An answer is complete for uvicorn, which then waits for the client without a limit."""
        if self._unread_answer is not None:
            self._unread_answer.cancel()
            self._unread_answer = None
        if left := self._protocol.transport.get_write_buffer_size():
            self._unread_answer = _Unread(self._protocol, left)

    def wait(self) -> None:
        """The client owes us a head from now on, if it does not already."""
        if not self._is_set:
            self._is_set = True
            self.start(self._seconds, self._loop)

    def stop(self) -> None:
        """The client owes nothing."""
        if self._is_set:
            self._is_set = False
            self.cancel()

    def on_timeout(self) -> None:
        """The head has not come."""
        self._is_set = False
        self.end(_TOO_SLOW if self.has_begun else None)

    def end(self, status: bytes | None) -> None:
        """Closes the connection, with an answer if nothing else is being answered."""
        transport = self._protocol.transport
        if transport.is_closing():
            return
        if status is not None and not self.is_answering:
            transport.write(status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        if transport.get_write_buffer_size():
            transport.abort()  # it would stay open until the client has read that
        else:
            transport.close()

    @property
    def is_answering(self) -> bool:
        """Whether a request of the connection is being served."""
        cycle = self._protocol.cycle
        return cycle is not None and not cycle.response_complete

    @property
    def has_begun(self) -> bool:
        """Whether a part of the head has come."""
        raise NotImplementedError

    def before(self) -> None:
        """Data is about to be parsed."""

    def forget(self) -> None:
        """The connection is gone; nothing refers back to it from now on."""
        self.stop()
        if self._unread_answer is not None:
            self._unread_answer.cancel()

    def after(self, size: int) -> None:
        """So many bytes were parsed."""
        raise NotImplementedError


class _HttpToolsHead(_Head):
    """httptools joins what it reads of one line, however long, and gives header and trailer lines
    one by one, however many: what comes without a complete head or body data is counted."""

    __slots__ = ("_limit", "_message_bytes", "_pieces", "_scope", "_unread", "has_body_data")

    def __init__(self, protocol: Any) -> None:
        self._limit = get_settings().max_header_bytes
        self._unread = 0
        self._scope: Any = None
        self._pieces = self._message_bytes = 0
        self.has_body_data = False
        super().__init__(protocol)

    @property
    def has_begun(self) -> bool:
        """See `_Head`."""
        scope = self._protocol.scope
        return scope is not None and "method" not in scope

    def before(self) -> None:
        """See `_Head`."""
        self.has_body_data = False

    def after(self, size: int) -> None:
        """See `_Head`."""
        scope = self._protocol.scope
        if scope is not self._scope or self.has_body_data:
            # What belongs to it is a part of one read, which is bounded by itself.
            self._scope, self._unread = scope, 0
        else:
            self._unread += size
            if self._unread > self._limit:
                self.end(_TOO_LARGE)
                return
        if self.has_begun or not self.is_answering:
            self.wait()
        else:
            self.stop()

    def begin(self) -> None:
        """A request begins. Raises `ValueError`, which the parser answers with 400."""
        if len(self._protocol.pipeline) >= MOST_PIPELINED:
            raise ValueError("too many pipelined requests")
        self._pieces = self._message_bytes = 0

    def take(self, size: int) -> None:
        """So much of a body came. Raises `ValueError`, which the parser answers with 400."""
        self.has_body_data = True
        self._pieces += 1
        self._message_bytes += size
        if self._pieces > MOST_PIECES and self._message_bytes < self._pieces * SMALL_PIECE:
            raise ValueError("too many small chunks")


class _H11Head(_Head):
    """h11 limits what it buffers itself; what is left to us is the time, the client's and its own:
    a chunk costs it far more than httptools."""

    __slots__ = ("_body_bytes", "_pieces", "_received")

    def __init__(self, protocol: Any) -> None:
        self._received = self._pieces = self._body_bytes = 0
        super().__init__(protocol)
        next_event = protocol.conn.next_event
        h11 = import_module("h11")

        def counted_event() -> Any:
            event = next_event()
            if isinstance(event, h11.Request):
                self._received = self._pieces = self._body_bytes = 0
            elif isinstance(event, h11.Data):
                self._pieces += 1
                self._body_bytes += len(event.data)
                small = self._body_bytes < self._pieces * SMALL_PIECE
                if small and self._pieces > MOST_PIECES_H11:
                    self.end(_BAD)
                    return h11.NEED_DATA
            return event

        protocol.conn.next_event = counted_event

    def forget(self) -> None:
        """See `_Head`."""
        super().forget()
        vars(self._protocol.conn).pop("next_event", None)

    @property
    def has_begun(self) -> bool:
        """See `_Head`."""
        return bool(self._protocol.conn.trailing_data[0])

    def after(self, size: int) -> None:
        """See `_Head`."""
        self._received += size
        if self._received > MOST_FRAMING + self._body_bytes * SMALL_PIECE:
            self.end(_BAD)
        elif self.is_answering:
            self.stop()
        else:
            self.wait()


def _extend(protocol: Any, head_of: Callable[[Any], _Head]) -> None:
    made, lost, received, completed = (
        protocol.connection_made,
        protocol.connection_lost,
        protocol.data_received,
        protocol.on_response_complete,
    )

    def connection_made(self: Any, transport: asyncio.Transport) -> None:
        made(self, transport)
        setattr(self, _MARK, head_of(self))

    def connection_lost(self: Any, error: Exception | None) -> None:
        if (head := getattr(self, _MARK)) is not None:
            head.forget()
            setattr(self, _MARK, None)
        lost(self, error)

    def data_received(self: Any, data: bytes) -> None:
        head = getattr(self, _MARK)
        if head is None:  # a connection from before the extension
            received(self, data)
            return
        head.before()
        received(self, data)
        if self.transport.is_closing() or self not in self.connections:
            head.stop()  # a web socket has another protocol
        else:
            head.after(len(data))

    def on_response_complete(self: Any) -> None:
        if (head := getattr(self, _MARK)) is not None:
            head.answered()
        completed(self)

    protocol.on_response_complete = on_response_complete
    protocol.connection_made = connection_made
    protocol.connection_lost = connection_lost
    protocol.data_received = data_received
    if head_of is _HttpToolsHead:
        _extend_callbacks(protocol)


def _extend_callbacks(protocol: Any) -> None:
    on_body, on_message_begin = protocol.on_body, protocol.on_message_begin

    def counted_body(self: Any, body: bytes) -> None:
        if (head := getattr(self, _MARK)) is not None:
            head.take(len(body))
        on_body(self, body)

    def checked_begin(self: Any) -> None:
        if (head := getattr(self, _MARK)) is not None:
            head.begin()
        on_message_begin(self)

    protocol.on_body = counted_body
    protocol.on_message_begin = checked_begin
