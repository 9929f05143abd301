"""Many callers during an outage: few calls reach the provider, and it is used again afterwards."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from llm_routing.core.breaker import BreakerState
from llm_routing.health.monitor import health_monitor

from .callers import CALLERS, Client
from .conftest import Bench
from .upstream import behave, body

MOST_CALLS_FOR_A_REQUEST = 1.2
FAILED = body(b'{"error": {"message": "out"}}', status="503 Out")


@dataclass(frozen=True, slots=True)
class Outage:
    """How long it lasts once the breaker has opened, for how many callers at once, and how long
    the breaker stays open at first."""

    seconds: float
    callers: int
    open_time: float


@pytest.fixture(
    params=[
        pytest.param(Outage(3.0, 50, 0.5), id="short"),
        pytest.param(Outage(60.0, 200, 5.0), id="long", marks=pytest.mark.faults),
    ]
)
def outage(request: pytest.FixtureRequest) -> Outage:
    found: Outage = request.param
    return found


@pytest.fixture
def routing(outage: Outage) -> Mapping[str, Any]:
    return {
        "BREAKER_MINIMUM_CALLS": 10,
        "BREAKER_WINDOW_CALLS": 100,
        "BREAKER_OPEN_TIME": outage.open_time,
        "RETRY_BUDGET": 0.2,
    }


def openings() -> int:
    """Returns how often breakers have opened."""
    assert health_monitor.breakers is not None
    return sum(status.openings for status in health_monitor.breakers.statuses().values())


def is_closed() -> bool:
    assert health_monitor.breakers is not None
    states = {status.state for status in health_monitor.breakers.statuses().values()}
    return states <= {BreakerState.CLOSED}


async def test_many_callers_make_few_calls_to_a_provider_that_is_down(
    bench: Bench, outage: Outage
) -> None:
    await bench.break_with(FAILED, "alpha")
    loop = asyncio.get_running_loop()
    begun: list[float] = []
    ended: dict[float, float] = {}
    opened_at = over_at = float("inf")

    async def one(client: Client, number: int) -> None:
        caller = CALLERS[number % len(CALLERS)]
        while True:
            begun.append(now := loop.time())
            reply = await client.ask(caller, "debugging:economy")
            ended[now] = loop.time()
            if reply.status == 200:
                return
            assert reply.status in (429, 502, 503), reply.body
            assert loop.time() < over_at + 60, "not served again"
            await asyncio.sleep(outage.seconds / 15)

    def settled() -> float:
        # Requests that were on their way when it opened had leave to be.
        return max(ended.get(moment, float("inf")) for moment in begun if moment <= opened_at)

    async def look() -> None:
        nonlocal opened_at, over_at
        while not openings():
            await asyncio.sleep(0.005)
        opened_at = loop.time()
        await asyncio.sleep(outage.seconds)
        while bench.raw.log[-1].at <= settled():  # until there was a probe
            await asyncio.sleep(0.005)
        over_at = loop.time()
        bench.raw.usual = behave

    # The gateway ends connections that are idle for longer than the callers wait.
    limits = httpx.Limits(max_connections=None, keepalive_expiry=1.0)
    async with httpx.AsyncClient(
        base_url=bench.client.http.base_url,
        headers=bench.client.http.headers,
        trust_env=False,
        timeout=60,
        limits=limits,
    ) as http:
        client = Client(http)
        async with asyncio.timeout(outage.seconds + 120), asyncio.TaskGroup() as tasks:
            tasks.create_task(look())
            for number in range(outage.callers):
                tasks.create_task(one(client, number))
    settled_at = settled()
    requests = sum(moment <= settled_at for moment in begun)
    calls = sum(asked.at <= settled_at for asked in bench.raw.log)
    assert calls <= requests * MOST_CALLS_FOR_A_REQUEST, (calls, requests)
    probes = sum(settled_at < asked.at <= over_at for asked in bench.raw.log)
    assert 1 <= probes <= openings(), "one for each time that it opened again"
    assert is_closed()
