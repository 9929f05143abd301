"""The floor for Python: uvicorn and aiohttp, both bodies parsed, no features at all.

Where it sends requests is in UPSTREAM_PLAIN and UPSTREAM_STREAM, base URLs without a slash.
"""

import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

PLAIN = os.environ.get("UPSTREAM_PLAIN", "")
STREAM = os.environ.get("UPSTREAM_STREAM", "")
HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer sk-upstream"}

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

session: aiohttp.ClientSession | None = None


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Of ASGI."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    body = b""
    more = True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    asked = json.loads(body)
    assert session is not None
    upstream = STREAM if asked.get("stream") else PLAIN
    async with session.post(upstream + scope["path"], data=body, headers=HEADERS) as answer:
        head = [(b"content-type", answer.headers["Content-Type"].encode())]
        if asked.get("stream"):
            await _start(send, answer.status, head)
            async for data in answer.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body"})
        else:
            data = await answer.read()
            json.loads(data)
            head.append((b"content-length", str(len(data)).encode()))
            await _start(send, answer.status, head)
            await send({"type": "http.response.body", "body": data})


async def _start(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _lifespan(receive: Receive, send: Send) -> None:
    global session  # noqa: PLW0603  # one process, one session
    await receive()
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await session.close()
    await send({"type": "lifespan.shutdown.complete"})
