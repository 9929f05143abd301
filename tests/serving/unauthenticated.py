"""Requests without a valid key, over raw connections and over ASGI."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from llm_routing.asgi import get_asgi_application
from tests.api.conftest import serving

PATHS = [
    "/v1/chat/completions",
    "/v1/models",
    "/api/llm/health",
    "/metrics",
    "/admin/login/",
    "/nowhere",
]
HTTP = ["httptools", "h11"]
WAIT = 90


@asynccontextmanager
async def connected(http: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the application under uvicorn."""
    async with serving(get_asgi_application(), "off", http) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        try:
            yield reader, writer
        finally:
            writer.close()


async def ask(
    path: str, headers: list[tuple[bytes, bytes]], query: bytes = b"", method: str = "POST"
) -> tuple[int, Any]:
    """The status and the content of the application's answer."""
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: Mapping[str, Any]) -> None:
        sent.append(event)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": headers,
    }
    await get_asgi_application()(scope, receive, send)
    return sent[0]["status"], b"".join(event.get("body", b"") for event in sent[1:])


async def flood(writer: asyncio.StreamWriter, data: bytes, limit: int) -> int:
    """Returns how many bytes of repeated `data` the server accepts before it closes."""
    sent = 0
    try:
        while sent < limit:
            writer.write(data)
            await writer.drain()
            sent += len(data)
    except ConnectionError:
        pass
    return sent
