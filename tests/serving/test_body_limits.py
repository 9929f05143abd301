"""Limits on clients without a key: bodies, and clients that do not read."""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from uvicorn.server import ServerState

from llm_routing.asgi import get_asgi_application
from llm_routing.conf import get_settings
from llm_routing.core.errors import LLMError
from llm_routing.models import ApiKey
from llm_routing.serving import request_limits
from llm_routing.serving.request_limits import Send, serve_with_limits
from tests.api.conftest import serving

from .exchange import chat
from .unauthenticated import HTTP, WAIT, connected, flood


@pytest.mark.parametrize("http", HTTP)
@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/admin/login/"])
async def test_a_body_in_tiny_chunks_is_cut_short(http: str, path: bytes, router: object) -> None:
    async with connected(http) as (_, writer):
        writer.write(b"POST " + path + b" HTTP/1.1\r\nhost: localhost\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        assert await flood(writer, b"1\r\nx\r\n" * 10_000, 32 * 1024**2) < 16 * 1024**2


async def test_chunks_with_long_extensions_are_cut_short_under_h11(
    router: object,
) -> None:
    async with connected("h11") as (_, writer):
        writer.write(b"POST /admin/login/ HTTP/1.1\r\nhost: localhost\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        chunk = b"1;" + b"a" * 10_000 + b"\r\nx\r\n"
        assert await flood(writer, chunk * 10, 32 * 1024**2) < 16 * 1024**2


@pytest.mark.parametrize("http", HTTP)
async def test_a_body_in_many_small_chunks_is_read(http: str, key: str) -> None:
    async with connected(http) as (reader, writer):
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n")
        writer.write(b"x-api-key: " + key.encode() + b"\r\ntransfer-encoding: chunked\r\n\r\n")
        body = chat("Hi")
        writer.write(b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
        assert b"200 OK" in await asyncio.wait_for(reader.readline(), WAIT)


@pytest.mark.parametrize(
    "headers",
    [b"content-length: 209715200\r\n", b"transfer-encoding: chunked\r\n"],
    ids=["announced", "chunked"],
)
async def test_a_large_body_for_another_path_is_refused_before_django_reads_it(
    headers: bytes, router: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled = watch_spooled(monkeypatch)
    async with connected("httptools") as (reader, writer):
        writer.write(b"POST /admin/login/ HTTP/1.1\r\nhost: localhost\r\n" + headers + b"\r\n")
        piece = b"x" * 65_536
        if b"chunked" in headers:
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        sending = asyncio.create_task(flood(writer, piece, 100 * 1024 * 1024))
        assert b"413" in await asyncio.wait_for(reader.readline(), WAIT)
        sending.cancel()
    assert sum(spooled) <= get_settings().anonymous_body_bytes


def watch_spooled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records the sizes of bodies that Django stores from now on."""
    import tempfile

    spooled: list[int] = []
    write = tempfile.SpooledTemporaryFile.write

    def watched(self: Any, data: bytes) -> int:
        spooled.append(len(data))
        return write(self, data)

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "write", watched)
    return spooled


async def test_a_signed_in_user_may_send_a_larger_body(
    router: object, limits: Any, django_user_model: Any
) -> None:
    from django.test import AsyncClient

    limits(LLM_ANONYMOUS_BODY_BYTES=2000)
    user = await django_user_model.objects.acreate(username="staff")
    client = AsyncClient()
    await sync_to_async(client.force_login)(user)
    session = client.cookies["sessionid"].value
    sizes: list[int] = []

    async def upload(scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            event = await receive()
            size, more = size + len(event.get("body", b"")), event.get("more_body", False)
        if event["type"] == "http.request":
            sizes.append(size)
            await send({"type": "http.response.start", "status": 200, "headers": []})

    async def post(cookie: str) -> int:
        sent: list[Mapping[str, Any]] = []
        pieces = [b"x" * 1500, b"y" * 1500, b""]

        async def receive() -> Mapping[str, Any]:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(event: Mapping[str, Any]) -> None:
            sent.append(event)

        async def send_error(error: LLMError, send: Send) -> None:
            await send({"type": "http.response.start", "status": error.http_status})

        headers = [(b"cookie", f"sessionid={cookie}".encode())]
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": "/upload",
            "query_string": b"",
            "headers": headers,
        }
        await serve_with_limits(upload, scope, receive, send, send_error=send_error)
        return int(sent[0]["status"])

    assert await post(session) == 200
    assert sizes == [3000]
    assert await post("") == await post("forged") == 413
    assert sizes == [3000]


async def test_a_body_for_another_path_that_does_not_come_is_given_up(
    router: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_limits, "BODY_TIMEOUT", 0.2)
    async with connected("httptools") as (reader, writer):
        writer.write(
            b"POST /admin/login/ HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nx"
        )
        assert b"408" in await asyncio.wait_for(reader.readline(), WAIT)


@pytest.mark.parametrize("http", HTTP)
async def test_a_client_that_does_not_read_is_dropped(
    http: str, router: object, limits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The document is larger than the kernel's buffers, a static file larger than uvicorn's. In
    both cases uvicorn itself would wait for ever."""
    limits(LLM_WRITE_TIMEOUT=0.3)
    monkeypatch.setattr(request_limits, "BODY_TIMEOUT", 0.3)

    entered: list[str] = []

    async def large(scope: Any, receive: Any, send: Any) -> None:
        entered.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/whole":
            await send({"type": "http.response.body", "body": b"x" * 4 * 1024**2})
            return
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        await send({"type": "http.response.body"})

    states: list[Any] = []
    begin = ServerState.__init__

    def recorded(self: Any) -> None:
        begin(self)
        states.append(self)

    monkeypatch.setattr(ServerState, "__init__", recorded)
    application = get_asgi_application(large)
    async with serving(application, "off", http) as url:
        port = int(url.rpartition(":")[2])
        for path in (b"/parts", b"/whole"):
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(client, ("127.0.0.1", port))
                await loop.sock_sendall(client, b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n")
                async with asyncio.timeout(WAIT):
                    while path.decode() not in entered:
                        await asyncio.sleep(0.01)
                    while states[-1].connections or states[-1].tasks:
                        await asyncio.sleep(0.05)


async def test_bodies_under_way_are_bounded_for_a_key_and_for_the_process(
    key: str, limits: Any
) -> None:
    from llm_routing.process.body_budget import body_budget

    limits(
        LLM_MAX_BODY_BYTES=10_000, LLM_BODY_BYTES_PER_KEY=20_000, LLM_BODY_BYTES_PER_PROCESS=30_000
    )
    other = (await sync_to_async(ApiKey.objects.issue)("other"))[1]
    third = (await sync_to_async(ApiKey.objects.issue)("third"))[1]

    async def unfinished(key: str, url: str, path: str) -> tuple[Any, Any]:
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n"
        writer.write(head.encode() + b"transfer-encoding: chunked\r\n\r\n2328\r\n" + b"x" * 9000)
        return reader, writer

    async def answer(reader: Any) -> tuple[bytes, bytes]:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT)
        return head.split()[1], head.lower()

    async with serving(get_asgi_application(), "off", "httptools") as url:
        open_ones = [
            await unfinished(key, url, "/v1/chat/completions"),
            await unfinished(key, url, "/v1/embeddings"),
        ]
        while body_budget.bytes < 18_000:
            await asyncio.sleep(0.01)
        refused = await unfinished(key, url, "/v1/messages")
        status, head = await answer(refused[0])
        assert status == b"429"
        assert b"retry-after: 1\r\n" in head
        open_ones.append(await unfinished(other, url, "/v1/chat/completions"))
        while body_budget.bytes < 27_000:
            await asyncio.sleep(0.01)
        full = await unfinished(third, url, "/v1/embeddings")
        status, head = await answer(full[0])
        assert status == b"503"
        assert b"retry-after: 1\r\n" in head
        for _, writer in (*open_ones, refused, full):
            writer.close()
        while body_budget.bytes:
            await asyncio.sleep(0.01)
        last = await unfinished(key, url, "/v1/chat/completions")
        last[1].write(b"\r\n0\r\n\r\n")
        assert (await answer(last[0]))[0] == b"400"
        last[1].close()
