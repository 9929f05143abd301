"""Sends responses to the server, as ASGI messages."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse

from .readiness import is_draining
from .uvicorn_internals.writes import write_response

if TYPE_CHECKING:
    from .exchange import ByteStream, EndpointResponse

Send = Callable[[Mapping[str, Any]], Awaitable[None]]

CLOSE = (b"connection", b"close")
"""Sent with every response while the process drains; a server that speaks HTTP/2 leaves it out."""


def send_endpoint_response(reply: "EndpointResponse", send: Send) -> Coroutine[Any, Any, None]:
    """Sends the response of an endpoint."""
    # Not `async`: a coroutine around a coroutine would cost time for every part of a stream.
    content = reply.content
    if isinstance(content, bytes):
        return _send_whole(send, reply.status, reply.headers, content)
    return _send_parts(send, reply.status, reply.headers, content)


def send_response(response: HttpResponseBase, send: Send) -> Coroutine[Any, Any, None]:
    """Sends the response of a Django view."""
    status, headers = response.status_code, response.headers
    if isinstance(response, StreamingHttpResponse):
        parts = cast("AsyncGenerator[bytes, None]", aiter(response))
        return _send_parts(send, status, headers, parts)
    assert isinstance(response, HttpResponse)
    return _send_whole(send, status, headers, response.content)


def closing_connection(send: Send) -> Send:
    """Returns a `send` for an application that does not know that the process drains: the
    connection closes after its response."""

    async def send_with_close(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
        await send(message)

    return send_with_close


async def _send_whole(send: Send, status: int, headers: Mapping[str, str], content: bytes) -> None:
    if not is_draining() and write_response(send, status, headers, content):
        return
    head = _head(status, headers)
    if "Content-Length" not in headers:
        head["headers"].append((b"Content-Length", b"%d" % len(content)))
    await send(head)
    await send({"type": "http.response.body", "body": content})


def _head(status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    encoded = [(name.encode(), value.encode("latin1")) for name, value in headers.items()]
    if is_draining():
        encoded.append(CLOSE)
    return {"type": "http.response.start", "status": status, "headers": encoded}


async def _send_parts(
    send: Send,
    status: int,
    headers: Mapping[str, str],
    stream: "AsyncGenerator[bytes, None] | ByteStream",
) -> None:
    await send(_head(status, headers))

    async def send_part(part: bytes) -> None:
        await send({"type": "http.response.body", "body": part, "more_body": True})

    # Our streams have an explicit end, which is also reached if the caller has left.
    async with aclosing(stream) as parts:
        if (keep_alive_by := getattr(parts, "keep_alive_by", None)) is not None:
            keep_alive_by(send_part)
        async for part in parts:
            if part:
                await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})
