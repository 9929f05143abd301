"""Access to uvicorn's transports: one write for a whole response, and dropping a connection.

uvicorn writes the head and the body of a response separately, each a system call and a packet. It
also keeps the connection of a caller that does not read its response.
"""

import asyncio
from collections.abc import Callable
from typing import Any

_joined_modules: set[str] = set()
"""The protocol modules whose writes can be joined; empty until `enable` is called. HTTP/2 is not
supported: other streams write to the same transport in between."""


def enable(*modules: str) -> None:
    """Joins the writes of these protocol modules of uvicorn from now on."""
    _joined_modules.update(modules)


def disable() -> None:
    """Leaves all writes to uvicorn."""
    _joined_modules.clear()


def join_writes(send: Callable[..., Any]) -> "JoinedWrites | None":
    """Has uvicorn write the head and the body that `send` gets next in one piece. Returns None for
    other servers, and for a HEAD request, whose response has no body. End it with `restore`."""
    cycle: Any = getattr(send, "__self__", None)
    if type(cycle).__module__ not in _joined_modules or cycle.scope["method"] == "HEAD":
        return None
    return JoinedWrites(cycle)


async def abort(send: Callable[..., Any]) -> None:
    """Drops the connection of a caller that does not read. uvicorn would keep it and its buffer
    until the caller has read everything, and would not stop before."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    abort_transport = getattr(transport, "abort", None)
    if abort_transport is not None:
        abort_transport()
        # The server learns of it before the application goes on.
        await asyncio.sleep(0)


class JoinedWrites:
    """Takes the place of a transport: holds the first write back and sends it with the second."""

    __slots__ = ("_cycle", "_head", "_transport")

    def __init__(self, cycle: Any) -> None:
        self._cycle = cycle
        self._transport: asyncio.Transport = cycle.transport
        self._head: bytes | None = None
        cycle.transport = self

    def __getattr__(self, name: str) -> Any:
        self._flush()
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """See `asyncio.WriteTransport`."""
        if self._head is None:
            self._head = data
        else:
            # Not later: once uvicorn has the whole response, it may write the next one.
            self._transport.write(self._head + data)
            self._head = b""

    def restore(self) -> None:
        """Restores the transport and writes the held data."""
        self._cycle.transport = self._transport
        self._flush()

    def _flush(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""
