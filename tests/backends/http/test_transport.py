"""The HTTP transport over real sockets: what arrives, and how each failure is named."""

import asyncio
import gzip
import ssl
from typing import Any

import pytest

from llm_routing.backends.http.aiohttp_internals import requests
from llm_routing.backends.http.aiohttp_internals.connections import TrackedConnection
from llm_routing.backends.http.transport import AiohttpTransport
from llm_routing.core.errors import (
    AddressForbidden,
    AnswerTooLarge,
    CertificateRejected,
    ConnectionFailed,
    ConnectionLost,
    MalformedAnswer,
    NameResolutionFailed,
    TLSFailed,
    UpstreamError,
)
from tests.listening import listening

from .conftest import RequestPath, direct_only
from .servers import (
    LOOPBACK,
    Upstream,
    ask,
    ask_and_read,
    plain,
    read_request,
    running,
    settled,
    sockets,
)


async def test_a_request_and_its_response_arrive_unchanged(
    transport: AiohttpTransport,
) -> None:
    thing = "X-Thing: Ünö \t".encode()
    async with running(Upstream(plain(b"hello", thing))) as upstream:
        answer = await ask(transport, f"{upstream.url}/v1/chat")
        assert (answer.status, answer.headers["x-thing"]) == (200, "Ünö")
        assert await answer.read(100) == b"hello"
        await answer.aclose()
    request = upstream.requests[0]
    assert request.startswith(b"POST /v1/chat HTTP/1.1\r\n")
    assert b"Authorization: Bearer k\r\n" in request
    assert request.endswith(b'\r\n\r\n{"a":1}')
    assert b"Cookie" not in request


@direct_only
async def test_requests_of_one_turn_of_the_loop_are_written_together(
    transport: AiohttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that sleeps is then woken once."""
    seen: list[str] = []
    expect, write = TrackedConnection.expect, requests.write_request

    def expected(self: TrackedConnection, incoming: Any) -> bool:
        seen.append("asked")
        return expect(self, incoming)

    def written(*arguments: Any) -> None:
        seen.append("sent")
        write(*arguments)

    async with running(Upstream(plain(b"hello"))) as upstream:
        await asyncio.gather(*(ask_and_read(transport, upstream.url) for _ in range(3)))
        monkeypatch.setattr(TrackedConnection, "expect", expected)
        monkeypatch.setattr(requests, "write_request", written)
        await asyncio.gather(*(ask_and_read(transport, upstream.url) for _ in range(3)))
    assert seen == ["asked"] * 3 + ["sent"] * 3
    assert len(upstream.requests) == 6


async def test_a_request_is_not_written_if_its_transport_closes_in_the_same_turn(
    transport: AiohttpTransport,
) -> None:
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    async with running(Upstream(plain(b"hello"))) as upstream:
        await ask_and_read(transport, upstream.url)
        asking = asyncio.create_task(ask_and_read(transport, upstream.url))
        await asyncio.sleep(0)
        await transport.aclose()
        with pytest.raises(ConnectionLost):
            await asking
    assert len(upstream.requests) == 1
    assert not faults


@direct_only
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


async def test_closing_an_unfinished_response_drops_its_connection(
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


async def test_a_body_above_the_limit_is_not_read(transport: AiohttpTransport) -> None:
    async with running(Upstream(plain(b"x" * 1000))) as upstream:
        answer = await ask(transport, upstream.url)
        with pytest.raises(AnswerTooLarge):
            await answer.read(999)
        await answer.aclose()


async def test_a_compression_bomb_is_stopped_at_the_limit(transport: AiohttpTransport) -> None:
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
async def test_each_invalid_response_has_its_error(
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
async def test_a_response_that_is_cut_short_is_a_lost_connection(
    transport: AiohttpTransport, body: bytes
) -> None:
    async with running(Upstream(body, then_close=True)) as upstream:
        with pytest.raises(ConnectionLost):
            await ask_and_read(transport, upstream.url)


async def test_broken_chunks_are_a_malformed_answer(transport: AiohttpTransport) -> None:
    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"
    async with running(Upstream(body, then_close=True)) as upstream:
        with pytest.raises(MalformedAnswer):
            await ask_and_read(transport, upstream.url)


@direct_only
async def test_endless_interim_responses_are_a_malformed_answer(
    transport: AiohttpTransport,
) -> None:
    """aiohttp's client reads on until the deadline of the request."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" * 50_000
    async with running(Upstream(interim, hold=True)) as upstream:
        with pytest.raises(MalformedAnswer):
            await ask(transport, upstream.url)


async def test_a_large_body_that_arrives_with_its_head_is_read(
    transport: AiohttpTransport,
) -> None:
    body = b"x" * 20_000_000
    interim = b"HTTP/1.1 102 Processing\r\n\r\n" * 100
    async with running(Upstream(interim + plain(body))) as upstream:
        for _ in range(2):
            answer = await ask(transport, upstream.url)
            assert await answer.read(len(body)) == body
            await answer.aclose()


@direct_only
async def test_chunks_that_break_while_they_are_read_are_a_malformed_answer(
    transport: AiohttpTransport,
) -> None:
    goes_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await goes_on.wait()
        writer.write(b"this is no chunk size\r\n")

    async with listening(serve) as port:
        answer = await ask(transport, f"http://127.0.0.1:{port}/")
        assert await answer.next_chunk() == b"hello"
        goes_on.set()
        with pytest.raises(MalformedAnswer):
            async with asyncio.timeout(90):
                await answer.next_chunk()
        await answer.aclose()


async def test_a_refused_connection(transport: AiohttpTransport) -> None:
    async with running(Upstream(b"")) as upstream:
        url = upstream.url
    with pytest.raises(ConnectionFailed) as caught:
        await ask(transport, url)
    assert type(caught.value) is ConnectionFailed


async def test_a_name_without_an_address(transport: AiohttpTransport) -> None:
    with pytest.raises(NameResolutionFailed):
        await ask(transport, "http://no-such-host.invalid/")


async def test_tls_to_a_server_without_tls(transport: AiohttpTransport) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()

    async with listening(greet) as port:
        with pytest.raises(TLSFailed):
            await ask(transport, f"https://127.0.0.1:{port}/")


async def test_a_provider_that_hangs_uses_no_connection_of_another(
    transport: AiohttpTransport,
) -> None:
    async with running(Upstream(b"", hold=True)) as hanging, running(Upstream(plain(b"x"))) as good:
        stuck = [
            asyncio.create_task(ask(transport, hanging.url, "hanging", max_connections=2))
            for _ in range(5)
        ]
        while len(hanging.requests) < 2:
            await asyncio.sleep(0.01)
        answers = [await ask_and_read(transport, good.url) for _ in range(3)]
        assert answers == [b"x"] * 3
        assert hanging.connections == 2, "the others wait for their turn"
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_a_new_limit_or_address_is_in_use_at_once_and_the_old_pool_closes_when_idle(
    transport: AiohttpTransport, request_path: RequestPath
) -> None:
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with running(Upstream(endless, hold=True)) as old, running(Upstream(plain(b"x"))) as new:
        before = sockets()
        streaming = await ask(transport, old.url, max_connections=1)
        assert await streaming.next_chunk() == b"hello"
        another = await ask(transport, old.url, max_connections=2)
        assert old.connections == 2, "the limit of one no longer holds"
        assert await ask_and_read(transport, new.url) == b"x"
        old.answer = b"x"
        assert await another.next_chunk() == b"hello"
        await another.aclose()
        await streaming.aclose()
        # Both ends of the idle connection to the new address.
        idle = 2 if request_path is RequestPath.DIRECT else 0
        await settled(lambda: sockets() == before + idle)


@direct_only
async def test_closing_leaves_no_socket_open(transport: AiohttpTransport) -> None:
    async with running(Upstream(plain(b"x"))) as upstream:
        before = sockets()
        for provider in ("a", "b", "c"):
            answer = await ask(transport, upstream.url, provider)
            await answer.read(10)
            await answer.aclose()
        assert sockets() == before + 6
        await transport.aclose()
        await settled(lambda: sockets() == before)


async def test_a_certificate_of_an_unknown_authority(
    transport: AiohttpTransport, certificate: ssl.SSLContext
) -> None:
    async with running(Upstream(plain(b"x")), certificate) as upstream:
        with pytest.raises(CertificateRejected):
            await ask(transport, upstream.url)
    assert upstream.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
async def test_no_connection_is_made_to_a_forbidden_address(host: str) -> None:
    guarded = AiohttpTransport(pool_size=10, allowed_networks=())
    async with running(Upstream(plain(b"secret"))) as upstream:
        port = upstream.url.rsplit(":", 1)[1]
        with pytest.raises(AddressForbidden):
            await ask(guarded, f"http://{host}:{port}/")
    await guarded.aclose()
    assert upstream.connections == 0


async def test_an_invalid_base_url(transport: AiohttpTransport) -> None:
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
