"""Limits on clients without a key: heads and connections."""

import asyncio
import contextlib
import json
from typing import Any

import pytest

from llm_routing.conf import get_settings
from llm_routing.serving.uvicorn_internals import parser_limits

from .unauthenticated import HTTP, PATHS, WAIT, ask, connected, flood


@pytest.mark.parametrize("path", PATHS)
async def test_too_many_header_lines_are_refused_on_every_path(path: str, router: object) -> None:
    many = [(b"x-many", b"1")] * 100_000
    status, content = await ask(path, many)
    assert status == 431
    assert json.loads(content)["error"]["code"] == "headers_too_large"


async def test_headers_that_are_too_large_and_urls_that_are_too_long_are_refused(
    router: object,
) -> None:
    status, _ = await ask("/v1/models", [(b"x-large", b"1" * 70_000)])
    assert status == 431
    status, content = await ask("/v1/models", [], query=b"a=" + b"b" * 10_000_000)
    assert status == 414
    assert json.loads(content)["error"]["code"] == "url_too_long"


async def test_repeated_headers_are_joined_in_the_order_they_came(key: str) -> None:
    bearer = [(b"x-api-key", key.encode())]
    repeated = [(b"x-request-id", b"a"), (b"x-request-id", b"b")]
    status, _ = await ask("/v1/chat/completions", bearer + repeated)
    assert status == 400  # the key was read among repeated headers; the body is no JSON


@pytest.mark.parametrize("http", HTTP)
@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\n", b"x-endless: line\r\n" * 1000),
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-one: ", b"x" * 16_384),
        (b"GET /", b"x" * 16_384),
        (b"GET /admin/login/ HTTP/1.1\r\nx-one", b"x" * 16_384),
    ],
    ids=["lines", "one-line", "url", "name"],
)
async def test_a_head_without_end_is_cut_short(
    http: str, start: bytes, more: bytes, router: object
) -> None:
    async with connected(http) as (_, writer):
        writer.write(start)
        taken = await flood(writer, more, 32 * 1024 * 1024)
        # This includes the kernel's buffers on both sides.
        assert taken < 16 * 1024 * 1024


@pytest.mark.parametrize("http", HTTP)
async def test_trailers_without_end_are_cut_short(http: str, router: object) -> None:
    async with connected(http) as (_, writer):
        writer.write(
            b"POST /admin/login/ HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        writer.write(b"1\r\nx\r\n0\r\n")
        assert await flood(writer, b"x-endless: line\r\n" * 1000, 32 * 1024 * 1024) < 16 * 1024**2


async def test_a_head_past_the_limit_gets_an_answer(router: object) -> None:
    async with connected("httptools") as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nx: ")
        await asyncio.sleep(0.1)
        writer.write(b"x" * (get_settings().max_header_bytes + 1))
        answer = await asyncio.wait_for(reader.read(), WAIT)
    assert answer.startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize("http", HTTP)
@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET /v1/mod",
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-slow",
        # The next request on a connection that has served one.
        b"GET /api/llm/health/live HTTP/1.1\r\nhost: x\r\n\r\nGET /v1",
        # A body that is not read any more.
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nx",
    ],
    ids=["silent", "line", "header", "second", "body"],
)
async def test_a_connection_that_sends_no_whole_head_is_closed(
    http: str, start: bytes, router: object, limits: Any
) -> None:
    limits(LLM_HEADER_TIMEOUT=0.3)
    async with connected(http) as (reader, writer):

        async def dawdle() -> None:
            while True:
                await asyncio.sleep(0.1)
                writer.write(b"x" if start else b"")

        writer.write(start)
        dawdling = asyncio.create_task(dawdle())
        try:
            await asyncio.wait_for(reader.read(), WAIT)
        except ConnectionResetError:
            pass
        finally:
            dawdling.cancel()


@pytest.mark.parametrize("http", HTTP)
async def test_a_request_that_lasts_outlives_the_limit_of_its_head(
    http: str, key: str, limits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits(LLM_HEADER_TIMEOUT=30)
    loop = asyncio.get_running_loop()
    real_time, passed = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real_time() + passed)
    body = json.dumps(
        {"model": "debugging", "messages": [{"role": "user", "content": "[[delay=0.2]] slow"}]}
    ).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
    async with connected(http) as (reader, writer):
        writer.write(head.encode() + body[:10])
        await asyncio.sleep(0.5)
        passed = 31.0
        await asyncio.sleep(0.1)
        writer.write(body[10:])
        assert b"200 OK" in await asyncio.wait_for(reader.readline(), WAIT)


async def test_pipelined_requests_are_bounded(router: object) -> None:
    one = b"GET /api/llm/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
    async with connected("httptools") as (reader, writer):
        writer.write(one * 10)
        for _ in range(10):
            assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT)
            await reader.readexactly(len(b'{"status":"live"}'))
        writer.write(one * 5000)
        answers = b""
        # With unread requests, the kernel resets the connection.
        with contextlib.suppress(ConnectionResetError):
            while more := await asyncio.wait_for(reader.read(65_536), WAIT):
                answers += more
        assert answers.count(b"200 OK") <= parser_limits.MAX_PIPELINED + 1
