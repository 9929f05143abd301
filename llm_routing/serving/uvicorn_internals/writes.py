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
_CONTROL = re.compile(r"[\0-\x08\n-\x1f\x7f]")
"""The characters that uvicorn rejects in the value of a header."""
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})
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
    server_lines = _server_lines(tuple(cycle.default_headers))
    own_lines = _lines(headers)
    if server_lines is None or own_lines is None:
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    if cycle.access_log:
        _log_access(cycle, status)
    cycle.transport.write(
        b"%b%b%bcontent-length: %d\r\n\r\n%b"
        % (_status_lines[status], server_lines, own_lines, len(body), body)
    )
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


def _lines(headers: Mapping[str, str]) -> bytes | None:
    """Returns the lines of a head. Returns None if uvicorn must judge or know a header."""
    template = _template(tuple(headers))
    values = list(headers.values())
    text = "".join(values)
    if template is None or _CONTROL.search(text):
        return None
    lines = template.copy()
    lines[1::2] = values
    try:
        return "".join(lines).encode("latin-1")
    except UnicodeEncodeError:
        return None


@lru_cache(maxsize=256)
def _template(names: tuple[str, ...]) -> list[str] | None:
    """Returns the parts of a head, with an empty one for each value. Responses of one kind share
    them; that is cheaper than to check and to format each line."""
    lower = [name.lower() for name in names]
    if not all(map(_NAME.fullmatch, lower)) or not _FRAMING.isdisjoint(lower):
        return None
    parts: list[str] = []
    for name in lower:
        parts += (f"\r\n{name}: " if parts else f"{name}: ", "")
    return [*parts, "\r\n"] if parts else []


@lru_cache(maxsize=2)
def _server_lines(headers: tuple[tuple[bytes, bytes], ...]) -> bytes | None:
    """Returns the lines of the headers that the server adds. The date changes once a second."""
    return _lines({name.decode(): value.decode("latin-1") for name, value in headers})


async def abort(send: Callable[..., Any]) -> None:
    """Drops the connection of a caller that does not read. uvicorn would keep it and its buffer
    until the caller has read everything, and would not stop before."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    abort_transport = getattr(transport, "abort", None)
    if abort_transport is not None:
        abort_transport()
        # The server learns of it before the application goes on.
        await asyncio.sleep(0)
