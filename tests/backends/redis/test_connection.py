"""The ways that a URL of Redis names, and what speaks no Redis there."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import uvloop
from redis.exceptions import ResponseError

from llm_routing.backends.redis.connection import SLOW_BEATS, RedisLine
from llm_routing.system.redis_address import parse_redis_url
from project.processes import free_port
from tests.listening import listening
from tests.tls import self_signed

from .servers import MortalRedis


@pytest.fixture(scope="module")
def mortal(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalRedis]:
    directory = tmp_path_factory.mktemp("redis")
    certificate, port = str(self_signed(directory)), free_port()
    server = MortalRedis(
        directory,
        options=(
            *("--requirepass", "pass w\u00f6rd", "--unixsocket", str(directory / "socket")),
            *("--tls-port", str(port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", certificate, "--tls-key-file", certificate),
            *("--tls-ca-cert-file", certificate),
        ),
    )
    server.start()
    yield server
    server.end()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisLine]:
    line = RedisLine(parse_redis_url(url))
    try:
        yield line
    finally:
        await line.aclose()


def urls(mortal: MortalRedis) -> dict[str, str]:
    tls_port, directory = mortal.options[5], mortal.directory
    secret = "pass%20w%C3%B6rd"
    return {
        "tcp": f"redis://:{secret}@127.0.0.1:{mortal.port}/2",
        "a user": f"redis://default:{secret}@localhost:{mortal.port}?db=2",
        "unix": f"unix://:{secret}@{directory}/socket?db=2",
        "tls": f"rediss://:{secret}@127.0.0.1:{tls_port}/2?ssl_ca_certs={directory}/server.pem",
    }


@pytest.mark.parametrize("way", ["tcp", "a user", "unix", "tls"])
async def test_every_way_leads_to_the_database_that_is_named(mortal: MortalRedis, way: str) -> None:
    async with opened(urls(mortal)[way]) as line:
        await line.ask("DEL", "n")
        said = await asyncio.gather(*(line.ask("INCR", "n") for _ in range(50)))
        assert said == list(range(1, 51))
        assert b" db=2 " in await line.ask("CLIENT", "INFO")
        with pytest.raises(ResponseError):
            await line.ask("INCR")
        with pytest.raises(UnicodeEncodeError):
            line.ask("ECHO", "\ud800")
        assert await line.ask("ECHO", "mine") == b"mine"


@pytest.mark.parametrize(
    ("way", "old", "new"),
    [("tcp", "pass", "fail"), ("tcp", "/2", "/99"), ("tls", "ssl_ca_certs", "ssl_ca_path")],
)
async def test_who_is_not_let_in_is_told_and_the_line_is_lost(
    mortal: MortalRedis, way: str, old: str, new: str
) -> None:
    async with opened(urls(mortal)[way].replace(old, new)) as line:
        ends = await asyncio.gather(*(line.ask("PING") for _ in range(3)), return_exceptions=True)
        assert all(isinstance(end, Exception) for end in ends)
        assert line.is_lost
        with pytest.raises(ConnectionError):
            await line.ask("PING")


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b":1\r\n:2\r\n", b""])
async def test_what_speaks_no_redis_is_lost_at_once(
    words: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(words)

    async with listening(serve) as port, opened(f"redis://127.0.0.1:{port}") as line:
        ends = await asyncio.gather(line.ask("PING"), return_exceptions=True)
        assert ends[0] == 1 if words[:1] == b":" else isinstance(ends[0], Exception)
        await asyncio.sleep(0.02)
        assert line.is_lost
    assert caplog.records == []


@pytest.mark.parametrize("turns", range(6))
def test_one_that_is_closed_while_it_opens_is_closed_soon(turns: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def close_while_opening() -> None:
        async with listening(serve) as port:
            line = RedisLine(parse_redis_url(f"redis://127.0.0.1:{port}/0"))
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(30):
                await line.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(close_while_opening())


async def test_answers_that_come_late_are_counted_until_one_is_in_time(mortal: MortalRedis) -> None:
    async with opened(urls(mortal)["tcp"]) as line:
        await line.ask("PING")
        mortal.freeze()
        for late in (1, 2):
            asking = line.ask("PING")
            # As many slices of time as make an answer late, without waiting for them.
            line._beat += SLOW_BEATS + 1
            mortal.thaw()
            assert await asking == b"PONG"
            assert line.slow_in_a_row == late
        async with asyncio.timeout(30):
            while line.slow_in_a_row:
                await line.ask("PING")
