"""Callers over raw sockets, which read and disconnect at chosen times."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from llm_routing import close_routers
from llm_routing.conf import get_settings

from .conftest import Gateway

SECONDS = 90


class Caller:
    """One request on a separate socket with a small buffer."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.received = b""

    async def read(self, size: int = 65536) -> bytes:
        """Returns the received data; empty at the end."""
        loop = asyncio.get_running_loop()
        piece = await asyncio.wait_for(loop.sock_recv(self._socket, size), SECONDS)
        self.received += piece
        return piece

    async def read_until(self, words: bytes) -> None:
        """Reads until the text has arrived."""
        while words not in self.received:
            assert await self.read(), self.received[-2000:]

    def leave(self) -> None:
        """Closes the socket."""
        self._socket.close()


@asynccontextmanager
async def calling(
    gateway: Gateway, text: str, path: str = "/api/llm/complete", *, stream: bool = True
) -> AsyncIterator[Caller]:
    """Yields a caller that has sent a request and read nothing."""
    body = json.dumps(body_of(path, text, stream=stream)).encode()
    address = urlsplit(gateway.url)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {gateway.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.socket() as connection:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (address.hostname, address.port))
        await loop.sock_sendall(connection, head.encode() + body)
        yield Caller(connection)


def body_of(path: str, text: str, *, stream: bool) -> Mapping[str, Any]:
    """A request to the debugging route in the endpoint's format."""
    if path == "/api/llm/complete":
        return {"messages": text, "use_case": "debugging", "stream": stream}
    messages = [{"role": "user", "content": text}]
    return {"model": "debugging", "max_tokens": 100_000, "messages": messages, "stream": stream}


async def until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Waits, and fails where it takes long."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def configure(monkeypatch: pytest.MonkeyPatch, **settings: float) -> None:
    """Other settings from now on, with a new router."""
    for name, value in settings.items():
        monkeypatch.setenv(f"LLM_{name.upper()}", str(value))
    get_settings.cache_clear()
    await close_routers()
