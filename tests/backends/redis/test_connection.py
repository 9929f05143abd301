"""Connections to Redis: every form of URL, and servers that are not Redis."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import uvloop
from redis.exceptions import ResponseError

from llm_routing.backends.redis import connection as connections
from llm_routing.backends.redis.connection import RedisConnection
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
async def opened(url: str) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection(parse_redis_url(url))
    try:
        yield connection
    finally:
        await connection.aclose()


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
async def test_every_form_of_url_leads_to_its_database(mortal: MortalRedis, way: str) -> None:
    async with opened(urls(mortal)[way]) as connection:
        await connection.execute("DEL", "n")
        said = await asyncio.gather(*(connection.execute("INCR", "n") for _ in range(50)))
        assert said == list(range(1, 51))
        assert b" db=2 " in await connection.execute("CLIENT", "INFO")
        with pytest.raises(ResponseError):
            await connection.execute("INCR")
        with pytest.raises(UnicodeEncodeError):
            connection.execute("ECHO", "\ud800")
        assert await connection.execute("ECHO", "mine") == b"mine"


@pytest.mark.parametrize(
    ("way", "old", "new"),
    [("tcp", "pass", "fail"), ("tcp", "/2", "/99"), ("tls", "ssl_ca_certs", "ssl_ca_path")],
)
async def test_a_failed_authentication_fails_all_calls_and_drops_the_connection(
    mortal: MortalRedis, way: str, old: str, new: str
) -> None:
    async with opened(urls(mortal)[way].replace(old, new)) as connection:
        ends = await asyncio.gather(
            *(connection.execute("PING") for _ in range(3)), return_exceptions=True
        )
        assert all(isinstance(end, Exception) for end in ends)
        assert connection.is_lost
        with pytest.raises(ConnectionError):
            await connection.execute("PING")


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b":1\r\n:2\r\n", b""])
async def test_a_connection_to_a_server_that_is_not_redis_is_dropped(
    words: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(words)

    async with listening(serve) as port, opened(f"redis://127.0.0.1:{port}") as connection:
        ends = await asyncio.gather(connection.execute("PING"), return_exceptions=True)
        assert ends[0] == 1 if words[:1] == b":" else isinstance(ends[0], Exception)
        async with asyncio.timeout(90):
            while not connection.is_lost:
                await asyncio.sleep(0.01)
    assert caplog.records == []


@pytest.mark.parametrize("turns", range(6))
def test_a_connection_can_be_closed_while_it_opens(turns: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def close_while_opening() -> None:
        async with listening(serve) as port:
            connection = RedisConnection(parse_redis_url(f"redis://127.0.0.1:{port}/0"))
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(90):
                await connection.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(close_while_opening())


async def test_slow_replies_are_counted_until_one_is_in_time(
    mortal: MortalRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(urls(mortal)["tcp"]) as connection:
        await connection.execute("PING")
        with monkeypatch.context() as every_reply_is_slow:
            every_reply_is_slow.setattr(connections, "SLOW_TICKS", -1)
            for slow in (1, 2):
                assert await connection.execute("PING") == b"PONG"
                assert connection.slow_in_a_row == slow
        async with asyncio.timeout(90):
            while connection.slow_in_a_row:
                await connection.execute("PING")
