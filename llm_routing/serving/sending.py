"""Answers on their way to the server, as messages of ASGI.

What is particular to uvicorn is here: it writes an answer's head and its body apart, each a system
call and a packet, and keeps a connection whose caller does not read.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse

from .readiness import is_draining

if TYPE_CHECKING:
    from .exchange import ByteStream, EndpointResponse

Send = Callable[[Mapping[str, Any]], Awaitable[None]]

CLOSE = (b"connection", b"close")
"""Sent with every response while the process drains; a server that speaks HTTP/2 leaves it out."""

# Not HTTP/2: there others write to the same transport in between.
_WRITES_APART = frozenset(
    {"uvicorn.protocols.http.httptools_impl", "uvicorn.protocols.http.h11_impl"}
)


async def send_endpoint_response(reply: "EndpointResponse", send: Send) -> None:
    """Sends what an endpoint answers."""
    content, headers = reply.content, reply.headers
    if isinstance(content, bytes):
        await _send_whole(send, reply.status, headers, content)
    else:
        await _start(send, reply.status, headers)
        await _send_parts(content, send)


async def send_response(response: HttpResponseBase, send: Send) -> None:
    """Sends what a view of Django's answers."""
    if isinstance(response, StreamingHttpResponse):
        await _start(send, response.status_code, response.headers)
        await _send_parts(cast("AsyncGenerator[bytes, None]", aiter(response)), send)
    else:
        assert isinstance(response, HttpResponse)
        await _send_whole(send, response.status_code, response.headers, response.content)


def closing_connection(send: Send) -> Send:
    """A `send` for an application that does not know that the process drains: the connection is
    closed after its response."""

    async def send_with_close(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
        await send(message)

    return send_with_close


async def abort(send: Send) -> None:
    """Drops the connection of a caller who does not read. uvicorn would keep it, and what it has
    buffered, until the caller has read that, and would not end before."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    end = getattr(transport, "abort", None)
    if end is not None:
        end()
        # So that the server knows before it hears from us.
        await asyncio.sleep(0)


async def _send_whole(send: Send, status: int, headers: Mapping[str, str], content: bytes) -> None:
    length = {} if "Content-Length" in headers else {"Content-Length": str(len(content))}
    head = _head(status, {**headers, **length})
    body = {"type": "http.response.body", "body": content}
    answer: Any = getattr(send, "__self__", None)
    joins = type(answer).__module__ in _WRITES_APART
    # Where nothing follows the head there is nothing that it could be written with.
    if not joins or not content or answer.scope["method"] == "HEAD":
        await send(head)
        await send(body)
        return
    transport = answer.transport
    answer.transport = joined = _Joined(transport)
    try:
        await send(head)
        await send(body)
    finally:
        answer.transport = transport
        joined.flush()


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    await send(_head(status, headers))


def _head(status: int, headers: Mapping[str, str]) -> Mapping[str, Any]:
    encoded = [(name.encode("ascii"), value.encode("latin1")) for name, value in headers.items()]
    if is_draining():
        encoded.append(CLOSE)
    return {"type": "http.response.start", "status": status, "headers": encoded}


async def _send_parts(stream: "AsyncGenerator[bytes, None] | ByteStream", send: Send) -> None:
    async def send_part(part: bytes) -> None:
        await send({"type": "http.response.body", "body": part, "more_body": True})

    # Our streams have an explicit end, which comes here also when the caller has left.
    async with aclosing(stream) as parts:
        if (keep_alive_by := getattr(parts, "keep_alive_by", None)) is not None:
            keep_alive_by(send_part)
        async for part in parts:
            if part:
                await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


class _Joined:
    """A transport that holds back what is written first, an answer's head, and writes it in one
    piece with what comes next."""

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        self.flush()
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """See `asyncio.WriteTransport`."""
        if self._head is None:
            self._head = data
        else:
            # Now, for as soon as uvicorn knows that this was all it may write the next answer.
            self._transport.write(self._head + data)
            self._head = b""

    def flush(self) -> None:
        """Writes what is held back."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""
