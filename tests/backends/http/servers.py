"""Scripted servers and requests for the tests of the HTTP transport."""

import asyncio
import ipaddress
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from llm_routing.backends.http.transport import AiohttpTransport
from llm_routing.core.ports import UpstreamResponse
from tests.listening import listening

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)

UpstreamT = TypeVar("UpstreamT", bound="Upstream")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Upstream:
    """A scripted server that counts connections and records requests."""

    def __init__(self, answer: bytes, *, then_close: bool = False, hold: bool = False) -> None:
        self.answer = answer
        self.then_close = then_close
        self.hold = hold
        self.connections = 0
        self.requests: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.requests.append(await read_request(reader))
                writer.write(self.answer)
                await writer.drain()
                if self.hold:
                    await reader.read()
                if self.then_close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class Fickle(Upstream):
    """Answers the first request on a connection, and closes it at the second: what a client meets
    if the server closes an idle connection meanwhile. `last_words` are sent before that."""

    def __init__(self, answer: bytes, *, ending: str = "closed", last_words: bytes = b"") -> None:
        super().__init__(answer)
        self.ending = ending
        self.last_words = last_words
        self.drops_new = False
        self.dropped = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if not self.drops_new:
                self.requests.append(await read_request(reader))
                writer.write(self.answer)
                await writer.drain()
            await reader.readuntil(b"\r\n\r\n")
            self.dropped += 1
            writer.write(self.last_words)
            await writer.drain()
            if self.ending == "reset":
                at_once = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, at_once
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return head + await reader.readexactly(length)


def sockets() -> int:
    """Returns the number of open sockets of this process."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += str(entry.readlink()).startswith("socket:")
        except FileNotFoundError:
            continue  # the descriptor of the directory itself
    return found


async def settled(condition: Callable[[], bool]) -> None:
    """Returns once the condition holds: the peer learns of an end a moment later."""
    async with asyncio.timeout(90):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(
    upstream: UpstreamT, certificate: ssl.SSLContext | None = None
) -> AsyncIterator[UpstreamT]:
    async with listening(upstream.serve, certificate) as port:
        upstream.url = f"{'https' if certificate else 'http'}://127.0.0.1:{port}"
        yield upstream


async def ask(
    transport: AiohttpTransport,
    url: str,
    provider: str = "p",
    *,
    method: str = "POST",
    body: bytes = b'{"a":1}',
    max_connections: int | None = None,
) -> UpstreamResponse:
    return await transport.send(
        provider,
        method,
        url,
        {"Content-Type": "application/json", "Authorization": "Bearer k"},
        body,
        connect_timeout=60,
        max_connections=max_connections,
    )


async def ask_and_read(transport: AiohttpTransport, url: str) -> bytes:
    answer = await ask(transport, url)
    try:
        return await answer.read(1000)
    finally:
        await answer.aclose()


def plain(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
