"""Sending responses: whole ones in one write, and each before the data after it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llm_routing import close_routers
from llm_routing.asgi import get_asgi_application
from llm_routing.serving.uvicorn_internals import versions

from .callers import SECONDS
from .conftest import serving

PROTOCOLS = {"httptools": HttpToolsProtocol, "h11": H11Protocol}


class Recorder:
    """A transport that records the written data."""

    def __init__(self, transport: asyncio.Transport, writes: list[bytes]) -> None:
        self._transport = transport
        self._writes = writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if data:
            self._writes.append(data)
        self._transport.write(data)


@dataclass
class Server:
    """A gateway, its key, and the data written to its callers."""

    port: int
    key: str
    writes: list[bytes]
    writes_once: bool
    """Whether the head and the body of a response go out in one write."""

    async def sent(self, *requests: bytes, then: bytes = b"") -> bytes:
        """Sends requests at once, with `then` after them, and reads a response to each. Then it
        closes its half of the connection and returns all bytes up to the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"".join(requests) + then)
        read = b""
        async with asyncio.timeout(SECONDS):
            for request in requests:
                read += await _response(reader, has_body=not request.startswith(b"HEAD"))
            writer.write_eof()
            read += await reader.read()
        writer.close()
        return read

    def asking(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        """A request."""
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {self.key}\r\n"
        return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content

    def chat(self, text: str) -> bytes:
        """A request for a completion."""
        messages = [{"role": "user", "content": text}]
        return self.asking(
            "POST", "/v1/chat/completions", {"model": "debugging", "messages": messages}
        )


async def _response(reader: asyncio.StreamReader, *, has_body: bool) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    assert length, head
    return head + (await reader.readexactly(int(length[1])) if has_body else b"")


@pytest.fixture(params=["tested uvicorn", "unknown uvicorn"])
def is_known_release(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Returns whether the release of uvicorn is a tested one."""
    if request.param == "unknown uvicorn":
        monkeypatch.setattr(versions, "NEWEST", versions.OLDEST)
        return False
    return True


@pytest.fixture(params=PROTOCOLS)
async def server(
    request: pytest.FixtureRequest,
    configuration: None,
    api_key: str,
    monkeypatch: pytest.MonkeyPatch,
    is_known_release: bool,
) -> AsyncIterator[Server]:
    writes: list[bytes] = []
    protocol = PROTOCOLS[request.param]
    begin = protocol.connection_made

    def recorded(self: Any, transport: asyncio.Transport) -> None:
        begin(self, Recorder(transport, writes))  # type: ignore[arg-type]  # it stands for one

    monkeypatch.setattr(protocol, "connection_made", recorded)
    async with serving(get_asgi_application(), "on", request.param) as url:
        writes_once = is_known_release and request.param == "httptools"
        yield Server(int(url.rpartition(":")[2]), api_key, writes, writes_once)
    await close_routers()


async def test_the_head_and_the_body_of_an_answer_are_written_at_once(server: Server) -> None:
    read = await server.sent(server.chat("Hi"))
    assert read.startswith(b"HTTP/1.1 200 OK\r\n")
    assert read.endswith(b"}")
    assert b"".join(server.writes) == read
    assert len(server.writes) == (1 if server.writes_once else 2)


async def test_a_response_is_sent_before_the_error_of_the_next_request(server: Server) -> None:
    read = await server.sent(server.chat("Hi"), then=b"\r\n")
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", read)
    assert statuses[0] == b"200"
    assert statuses[1:] in ([], [b"400"])
    assert b'"choices"' in read


async def test_answers_come_in_the_order_of_their_requests(server: Server) -> None:
    read = await server.sent(
        server.chat("one"),
        server.asking("HEAD", "/v1/models"),
        server.asking("POST", "/v1/chat/completions", {}),
        server.chat("two"),
        server.asking("GET", "/v1/models"),
    )
    assert re.findall(rb"HTTP/1\.1 (\d+)", read) == [b"200", b"200", b"400", b"200", b"200"]
