"""Transports over real sockets: bytes arrive as they came, and every failure has its name."""

import asyncio
import gzip
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from llm_routing.backends.http_aiohttp import AiohttpTransport
from llm_routing.core.errors import (
    AddressForbidden,
    AnswerTooLarge,
    ConnectionFailed,
    ConnectionLost,
    MalformedAnswer,
    NameResolutionFailed,
    TLSFailed,
    UpstreamError,
)
from llm_routing.core.ports import Answer

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Upstream:
    """A scripted server: every connection is counted, every request read whole."""

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
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = 0
                for line in head.split(b"\r\n"):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                self.requests.append(head + await reader.readexactly(length))
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


@asynccontextmanager
async def running(upstream: Upstream) -> AsyncIterator[Upstream]:
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream
    finally:
        server.close()


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    transport = AiohttpTransport(pool_size=10, allowed_networks=LOOPBACK)
    yield transport
    await transport.aclose()


async def ask(transport: AiohttpTransport, url: str, provider: str = "p") -> Answer:
    return await transport.send(
        provider,
        "POST",
        url,
        {"Content-Type": "application/json", "Authorization": "Bearer k"},
        b'{"a":1}',
        connect_timeout=5,
        max_connections=None,
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


async def test_a_request_arrives_as_it_was_given_and_its_answer_comes_back_whole(
    transport: AiohttpTransport,
) -> None:
    async with running(Upstream(plain(b"hello", b"X-Thing: One"))) as upstream:
        answer = await ask(transport, f"{upstream.url}/v1/chat")
        assert (answer.status, answer.headers["x-thing"]) == (200, "One")
        assert await answer.read(100) == b"hello"
        await answer.aclose()
    request = upstream.requests[0]
    assert request.startswith(b"POST /v1/chat HTTP/1.1\r\n")
    assert b"Authorization: Bearer k\r\n" in request
    assert request.endswith(b'\r\n\r\n{"a":1}')
    assert b"Cookie" not in request


async def test_connections_are_reused_and_each_provider_has_its_own(
    transport: AiohttpTransport,
) -> None:
    async with running(Upstream(plain(b"x"))) as upstream:
        for _ in range(5):
            answer = await ask(transport, upstream.url)
            await answer.read(10)
            await answer.aclose()
        assert upstream.connections == 1
        answer = await ask(transport, upstream.url, provider="other")
        await answer.aclose()
        assert upstream.connections == 2


async def test_an_answer_left_before_its_end_costs_its_connection_not_the_next_answer(
    transport: AiohttpTransport,
) -> None:
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with running(Upstream(endless, hold=True)) as upstream:
        answer = await ask(transport, upstream.url)
        assert await answer.next_chunk() == b"hello"
        await answer.aclose()
        answer = await ask(transport, upstream.url)
        assert await answer.next_chunk() == b"hello"
        await answer.aclose()
        assert upstream.connections == 2


async def test_redirects_are_not_followed(transport: AiohttpTransport) -> None:
    answer_bytes = plain(b"", b"Location: http://127.0.0.1:1/", status=b"302 Found")
    async with running(Upstream(answer_bytes)) as upstream:
        answer = await ask(transport, upstream.url)
        assert answer.status == 302
        await answer.aclose()
    assert len(upstream.requests) == 1


async def test_a_body_past_the_cap_is_not_read_on(transport: AiohttpTransport) -> None:
    async with running(Upstream(plain(b"x" * 1000))) as upstream:
        answer = await ask(transport, upstream.url)
        with pytest.raises(AnswerTooLarge):
            await answer.read(999)
        await answer.aclose()


async def test_a_compression_bomb_is_stopped_at_the_cap(transport: AiohttpTransport) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    async with running(Upstream(plain(bomb, b"Content-Encoding: gzip"))) as upstream:
        answer = await ask(transport, upstream.url)
        with pytest.raises((AnswerTooLarge, MalformedAnswer)):
            await answer.read(1_000_000)
        await answer.aclose()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", ConnectionLost),
        (b"HTTP/1.1 200 OK\r\nContent-Le", ConnectionLost),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", MalformedAnswer),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", MalformedAnswer),
    ],
    ids=["nothing", "half a head", "not HTTP", "endless header"],
)
async def test_what_is_no_answer_is_named(
    transport: AiohttpTransport, answer: bytes, expected: type[UpstreamError]
) -> None:
    async with running(Upstream(answer, then_close=True)) as upstream:
        with pytest.raises(expected):
            await ask(transport, upstream.url)


@pytest.mark.parametrize(
    "body",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
    ids=["short of its length", "no last chunk"],
)
async def test_an_answer_cut_short_is_a_lost_connection(
    transport: AiohttpTransport, body: bytes
) -> None:
    async with running(Upstream(body, then_close=True)) as upstream:
        with pytest.raises(ConnectionLost):
            await ask_and_read(transport, upstream.url)


async def test_broken_chunks_are_no_answer(transport: AiohttpTransport) -> None:
    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"
    async with running(Upstream(body, then_close=True)) as upstream:
        with pytest.raises(MalformedAnswer):
            await ask_and_read(transport, upstream.url)


async def test_a_refused_connection(transport: AiohttpTransport) -> None:
    async with running(Upstream(b"")) as upstream:
        url = upstream.url
    with pytest.raises(ConnectionFailed) as caught:
        await ask(transport, url)
    assert type(caught.value) is ConnectionFailed


async def test_a_name_without_an_address(transport: AiohttpTransport) -> None:
    with pytest.raises(NameResolutionFailed):
        await ask(transport, "http://no-such-host.invalid/")


async def test_tls_to_a_server_that_speaks_none(transport: AiohttpTransport) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        with pytest.raises(TLSFailed):
            await ask(transport, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
async def test_an_address_that_settings_do_not_allow_is_not_connected_to(host: str) -> None:
    guarded = AiohttpTransport(pool_size=10, allowed_networks=())
    async with running(Upstream(plain(b"secret"))) as upstream:
        port = upstream.url.rsplit(":", 1)[1]
        with pytest.raises(AddressForbidden):
            await ask(guarded, f"http://{host}:{port}/")
    await guarded.aclose()
    assert upstream.connections == 0


async def test_a_base_url_that_is_none(transport: AiohttpTransport) -> None:
    with pytest.raises(ConnectionFailed):
        await ask(transport, "not a url")


def test_one_transport_serves_several_event_loops() -> None:
    transport = AiohttpTransport(pool_size=10, allowed_networks=LOOPBACK)

    async def once() -> bytes:
        async with running(Upstream(plain(b"x"))) as upstream:
            answer = await ask(transport, upstream.url)
            body = await answer.read(10)
            await answer.aclose()
            await transport.aclose()
            return body

    assert [asyncio.run(once()), asyncio.run(once())] == [b"x", b"x"]
