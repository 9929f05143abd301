"""No request fails because Redis does, however it fails, and it is used again when it is back."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.backends.redis.servers import MortalRedis

from .callers import CALLERS
from .conftest import Bench
from .tcp_proxy import TcpProxy, Weather, weather

pytestmark = pytest.mark.servers

SECONDS_TO_RETURN = 90


@dataclass(frozen=True, slots=True)
class Line:
    """A Redis and the proxy in front of it."""

    server: MortalRedis
    proxy: TcpProxy


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    server = MortalRedis(tmp_path)
    server.start()
    with TcpProxy(server.url) as proxy:
        yield Line(server, proxy)
    server.end()


@pytest.fixture
def routing(line: Line) -> Mapping[str, Any]:
    return {"REDIS_URL": line.proxy.url}


def kill(line: Line) -> None:
    line.server.kill()


def restart_empty(line: Line) -> None:
    line.server.kill()
    line.server.start()


def freeze(line: Line) -> None:
    line.server.freeze()


def nothing(line: Line) -> None:
    pass


def recover(line: Line) -> None:
    line.proxy.weather = Weather()


def slow(*values: Any, id: str) -> Any:  # noqa: A002  # pytest's own name
    return pytest.param(*values, id=id, marks=pytest.mark.faults)


FAULTS = [
    pytest.param(weather(swallows=True), recover, id="silent"),
    slow(weather(refuses=True), recover, id="refusing"),
    slow(weather(delay=1.0), recover, id="slow"),
    slow(weather(rate=200.0), recover, id="throttled"),
    slow(kill, lambda line: line.server.start(), id="killed"),
    slow(freeze, lambda line: line.server.thaw(), id="frozen"),
    slow(restart_empty, nothing, id="empty"),
]


async def is_shared(bench: Bench) -> bool:
    """Whether Redis holds the answer to a request that is sent now."""
    from .witness import everything_in_redis

    body = {"messages": "Hi", "use_case": "debugging", "temperature": 0}
    body["messages"] = f"Hi {asyncio.get_running_loop().time()}"
    response = await bench.client.http.post("/api/llm/complete", json=body)
    assert response.status_code == 200
    return any([True async for value in everything_in_redis() if ":answer:" in value])


@pytest.mark.parametrize(("fail", "mend"), FAULTS)
async def test_no_request_fails_because_of_redis(
    bench: Bench, line: Line, fail: Callable[[Line], None], mend: Callable[[Line], None]
) -> None:
    for caller in CALLERS:
        assert (await bench.ask(caller, deadline=30, temperature=0)).is_whole
    await asyncio.to_thread(fail, line)
    for caller in CALLERS:
        # Redis is not mended before the reply, so a wait for it would last until the deadline.
        reply = await bench.ask(caller, deadline=30, temperature=0)
        assert reply.is_whole, (caller, reply.body)
    crowd = [bench.ask(caller, deadline=30, temperature=0) for caller in (*CALLERS,) * 5]
    for reply in await asyncio.gather(*crowd):
        assert reply.is_whole
    await asyncio.to_thread(mend, line)
    async with asyncio.timeout(SECONDS_TO_RETURN):
        while not await is_shared(bench):
            await asyncio.sleep(0.5)


@pytest.mark.faults
async def test_no_request_fails_while_redis_flaps(bench: Bench, line: Line) -> None:
    async def flap() -> None:
        for turn in range(12):
            line.proxy.weather = Weather(swallows=turn % 3 == 0, refuses=turn % 3 == 1)
            line.proxy.reset()
            await asyncio.sleep(0.25)
        line.proxy.weather = Weather()

    flapping = asyncio.create_task(flap())
    while not flapping.done():
        replies = await asyncio.gather(
            *(bench.ask(caller, deadline=30, temperature=0) for caller in CALLERS)
        )
        assert all(reply.is_whole for reply in replies)
        await asyncio.sleep(0.05)  # the sandbox's journal keeps a bounded number of exchanges
    await flapping
