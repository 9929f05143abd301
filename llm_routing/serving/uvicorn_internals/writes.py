"""Access to uvicorn's transports: one write for a whole response, and dropping a connection.

uvicorn writes the head and the body of a response separately, each a system call and a packet, and
checks every header with two regular expressions. It also keeps the connection of a caller that does
not read its response.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any

from .versions import HTTPTOOLS, UTILS

_NAME = re.compile(r"[a-z0-9-]+")
_FRAMING = ("connection", "content-length", "transfer-encoding")
"""Headers that change how uvicorn writes a response."""

_status_lines: dict[int, bytes] = {}
"""uvicorn's first lines of responses; empty until `enable` is called."""


def enable() -> None:
    """Writes whole responses from now on, if httptools parses the requests. HTTP/2 is not
    supported: other streams write to the same transport in between."""
    _status_lines.update(import_module(HTTPTOOLS).STATUS_LINE)


def disable() -> None:
    """Leaves all writes to uvicorn."""
    _status_lines.clear()


def write_response(
    send: Callable[..., Any], status: int, headers: Mapping[str, str], body: bytes
) -> bool:
    """Writes a whole response and completes the request, as uvicorn's `send` does with a message
    for the head and one for the body. Returns False, without a write, if only `send` can do it:
    under other servers, and for what is rare."""
    cycle: Any = getattr(send, "__self__", None)
    if (
        type(cycle).__module__ != HTTPTOOLS
        or status not in _status_lines
        or cycle.disconnected
        or cycle.response_started
        or cycle.flow.write_paused
        or not cycle.keep_alive
        or cycle.scope["method"] == "HEAD"
    ):
        return False
    try:
        lines = [_start_of_line(name) + value for name, value in headers.items()]
        lines.append(f"content-length: {len(body)}\r\n\r\n")
        head = "\r\n".join(lines).encode("latin-1")
        server_lines = _server_lines(tuple(cycle.default_headers))
    except ValueError:
        return False
    if not "".join(headers.values()).isprintable():
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    if cycle.access_log:
        _log_access(cycle, status)
    cycle.transport.write(b"".join((_status_lines[status], server_lines, head, body)))
    cycle.message_event.set()
    cycle.on_response()
    return True


def _log_access(cycle: Any, status: int) -> None:
    """Logs the request as uvicorn does: its formatter expects these arguments."""
    utils, scope = import_module(UTILS), cycle.scope
    cycle.access_logger.info(
        '%s - "%s %s HTTP/%s" %d',
        utils.get_client_addr(scope),
        scope["method"],
        utils.get_path_with_query_string(scope),
        scope["http_version"],
        status,
    )


@lru_cache(maxsize=512)
def _start_of_line(name: str) -> str:
    """Returns a header's line up to its value. Raises `ValueError` if uvicorn must write it."""
    name = name.lower()
    if not _NAME.fullmatch(name) or name in _FRAMING:
        raise ValueError(name)
    return f"{name}: "


@lru_cache(maxsize=2)
def _server_lines(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Returns the lines of the headers that the server adds. The date changes once a second."""
    lines = []
    for name, value in headers:
        text = value.decode("latin-1")
        if not text.isprintable():
            raise ValueError(text)
        lines.append(f"{_start_of_line(name.decode())}{text}\r\n")
    return "".join(lines).encode("latin-1")


async def abort(send: Callable[..., Any]) -> None:
    """Drops the connection of a caller that does not read. uvicorn would keep it and its buffer
    until the caller has read everything, and would not stop before."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    abort_transport = getattr(transport, "abort", None)
    if abort_transport is not None:
        abort_transport()
        # The server learns of it before the application goes on.
        await asyncio.sleep(0)
