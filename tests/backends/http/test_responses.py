"""Responses over real sockets: complete at every cut, and never those of another request."""

import asyncio
import gzip
from contextlib import nullcontext

import pytest
from aiohttp.connector import Connection

from llm_routing.backends.http.aiohttp_internals.pool import DirectPool
from llm_routing.backends.http.transport import AiohttpTransport
from llm_routing.core.errors import MalformedAnswer
from tests.listening import listening

from .conftest import RequestPath, direct_only
from .servers import (
    Upstream,
    ask,
    ask_and_read,
    plain,
    read_request,
    running,
    settled,
    sockets,
)

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    b"3;note=1\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 7\r\n\r\n"
)


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (plain(b"hello"), 200, b"hello"),
        (plain(b""), 200, b""),
        (CHUNKED, 200, b"hello"),
        (CHUNKED.replace(b"3;note=1", b"3  ").replace(b"2\r\n", b"2 \r\n"), 200, b"hello"),
        (plain(gzip.compress(b"hello", mtime=0), b"Content-Encoding: gzip"), 200, b"hello"),
        (plain(b"hello", b"Content-Encoding: identity"), 200, b"hello"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + plain(b"hello"), 200, b"hello"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + CHUNKED, 200, b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (plain(b"no", status=b"429 Too Many Requests"), 429, b"no"),
    ],
    ids=[
        *(
            "length",
            "empty",
            "chunks",
            "padded",
            "compressed",
            "not compressed",
            "continue",
            "hints",
        ),
        *("no content", "error"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000], ids=["byte by byte", "in pieces", "at once"])
async def test_responses_of_every_framing_are_complete_at_every_cut(
    transport: AiohttpTransport,
    request_path: RequestPath,
    answer: bytes,
    status: int,
    body: bytes,
    size: int,
) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            for start in range(0, len(answer), size):
                writer.write(answer[start : start + size])
                await writer.drain()
                await asyncio.sleep(0)

    async with listening(serve) as port:
        for _ in range(3):
            found = await ask(transport, f"http://127.0.0.1:{port}/")
            assert found.status == status
            assert await found.read(1000) == body
            await found.aclose()
    assert connections == (1 if request_path is RequestPath.DIRECT else 3)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n",
    ],
    ids=["of old", "without a length", "said to close"],
)
async def test_a_response_that_ends_with_its_connection(
    transport: AiohttpTransport, head: bytes
) -> None:
    async with running(Upstream(head + b"hello", then_close=True)) as upstream:
        for _ in range(3):
            assert await ask_and_read(transport, upstream.url) == b"hello"
    assert upstream.connections == 3


@pytest.mark.parametrize(
    "surplus", [plain(b"forged"), b"garbage", b"\0"], ids=["an answer", "garbage", "a byte"]
)
@pytest.mark.parametrize("is_late", [False, True], ids=["along", "later"])
async def test_unsolicited_bytes_are_not_the_next_response(
    transport: AiohttpTransport, request_path: RequestPath, surplus: bytes, is_late: bool
) -> None:
    """aiohttp's parser rejects a response that garbage follows at once."""
    is_rejected = request_path is RequestPath.CLIENT and not is_late and b"HTTP" not in surplus
    sent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(plain(b"true") if is_late else plain(b"true") + surplus)
        await writer.drain()
        if is_late:
            await asyncio.sleep(0.02)
            writer.write(surplus)
            await writer.drain()
        sent.set()
        await reader.read()

    async with listening(serve) as port:
        for _ in range(3):
            with pytest.raises(MalformedAnswer) if is_rejected else nullcontext():
                assert await ask_and_read(transport, f"http://127.0.0.1:{port}/") == b"true"
            await sent.wait()
            sent.clear()
            # The event loop of both ends reads what was sent.
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("framing", [b"Content-Length: 2", b"Transfer-Encoding: chunked"])
async def test_a_body_of_a_response_without_one_is_not_the_next_response(
    transport: AiohttpTransport, framing: bytes
) -> None:
    sent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 204 No Content\r\n" + framing + b"\r\n\r\n")
        await asyncio.sleep(0.02)
        writer.write(b"hi")
        sent.set()
        await reader.read()

    async with listening(serve) as port:
        for _ in range(2):
            assert await ask_and_read(transport, f"http://127.0.0.1:{port}/") == b""
            await sent.wait()
            sent.clear()
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("first", [plain(gzip.compress(b"a", mtime=0), b"Content-Encoding: gzip")])
async def test_unsolicited_bytes_after_a_response_that_aiohttp_parsed_are_not_the_next_one(
    transport: AiohttpTransport, first: bytes
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(first)
        await asyncio.sleep(0.02)
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" + plain(b"forged"))
        await reader.read()

    async with listening(serve) as port:
        for _ in range(3):
            assert await ask_and_read(transport, f"http://127.0.0.1:{port}/") == b"a"
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("endless", [b"0\r\nX: ", b"0\r\nX", b"5;note=", b"0\r\nX: y\r\n"], ids=str)
async def test_endless_trailers_and_chunks_are_a_malformed_answer(
    transport: AiohttpTransport, request_path: RequestPath, endless: bytes
) -> None:
    if request_path is RequestPath.CLIENT and endless in (b"5;note=", b"0\r\nX: y\r\n"):
        pytest.skip("some releases of aiohttp read on, without a buffer, until the deadline")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + endless)
        while not writer.is_closing():
            writer.write(b"X: y\r\n" * 200 if endless.endswith(b"\n") else b"x" * 1000)
            await writer.drain()

    async with listening(serve) as port, asyncio.timeout(90):
        with pytest.raises(MalformedAnswer):
            await ask_and_read(transport, f"http://127.0.0.1:{port}/")


async def test_a_response_sent_before_the_request_is_read(
    transport: AiohttpTransport,
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(b"busy", b"Connection: close", status=b"503 Service Unavailable"))
        await reader.read()

    async with listening(serve) as port:
        for _ in range(3):
            answer = await ask(transport, f"http://127.0.0.1:{port}/")
            assert (answer.status, await answer.read(10)) == (503, b"busy")
            await answer.aclose()


@direct_only
async def test_a_request_cancelled_at_its_end_keeps_the_connection_of_the_next_one_open(
    transport: AiohttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_one: list[asyncio.Task[bytes]] = []
    give_back = DirectPool.give_back

    def give_back_and_cancel(
        pool: DirectPool, connection: Connection, can_serve_again: bool
    ) -> None:
        give_back(pool, connection, can_serve_again)
        if not next_one:
            # The next request has acquired the connection before the first one learns of its end.
            next_one.append(asyncio.create_task(ask_and_read(transport, upstream.url)))
            first.cancel()

    async with running(Upstream(plain(b"x"))) as upstream:
        assert await ask_and_read(transport, upstream.url) == b"x"
        monkeypatch.setattr(DirectPool, "give_back", give_back_and_cancel)
        first = asyncio.create_task(ask_and_read(transport, upstream.url))
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await next_one[0] == b"x"
        assert (len(upstream.requests), upstream.connections) == (3, 1)


async def test_large_and_small_bodies_share_one_connection(
    transport: AiohttpTransport,
) -> None:
    async with running(Upstream(plain(b"x"))) as upstream:

        async def small() -> None:
            for _ in range(20):
                answer = await ask(transport, upstream.url, max_connections=1)
                await answer.read(10)
                await answer.aclose()

        async def large() -> None:
            answer = await ask(transport, upstream.url, body=b"x" * 2_000_000, max_connections=1)
            await answer.read(10)
            await answer.aclose()

        async with asyncio.timeout(90):
            await asyncio.gather(small(), large(), small(), large())


async def test_a_slow_reader_pauses_the_provider(transport: AiohttpTransport) -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(640):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 1
        writer.write(b"0\r\n\r\n")

    async with listening(serve) as port:
        answer = await ask(transport, f"http://127.0.0.1:{port}/")
        size = len(await answer.next_chunk())
        await asyncio.sleep(0.3)
        assert 0 < sent < 320, "some is in the buffers of sockets, and little in ours"
        while chunk := await answer.next_chunk():
            size += len(chunk)
            assert len(chunk) <= 65536
        assert size == 640 * 65536
        await answer.aclose()
        assert await ask_and_read_some(transport, f"http://127.0.0.1:{port}/")


async def ask_and_read_some(transport: AiohttpTransport, url: str) -> bytes:
    answer = await ask(transport, url)
    try:
        return await answer.next_chunk()
    finally:
        await answer.aclose()


async def test_more_requests_than_connections_wait_for_one(
    transport: AiohttpTransport, request_path: RequestPath
) -> None:
    async with running(Upstream(plain(b"x"))) as upstream:

        async def one() -> bytes:
            answer = await ask(transport, upstream.url, max_connections=3)
            body = await answer.read(10)
            await answer.aclose()
            return body

        async with asyncio.timeout(90):
            assert await asyncio.gather(*(one() for _ in range(50))) == [b"x"] * 50
        if request_path is RequestPath.DIRECT:
            assert upstream.connections <= 3


@direct_only
async def test_idle_connections_are_closed_in_time_and_serve_large_bodies_too(
    transport: AiohttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_routing.backends.http.aiohttp_internals.pool.KEEP_ALIVE", 0.1)
    async with running(Upstream(plain(b"x"))) as upstream:
        before = sockets()
        assert await ask_and_read(transport, upstream.url) == b"x"
        answer = await ask(transport, upstream.url, body=b"x" * 2_000_000)
        assert await answer.read(10) == b"x"
        await answer.aclose()
        assert upstream.connections == 1
        assert sockets() > before
        for _ in range(3):
            assert await ask_and_read(transport, upstream.url) == b"x"
        await settled(lambda: sockets() == before)
