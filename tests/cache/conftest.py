"""Routers with a deterministic route, and a record of the calls upstream."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from llm_routing.models import UseCaseRoute
from tests.conftest import with_path
from tests.router.conftest import (  # fixtures
    clean_process,
    configuration,
    connections_given_back,
    router,
)
from tests.servers import Server

__all__ = ["clean_process", "configuration", "connections_given_back", "router"]


@dataclass(frozen=True, slots=True)
class Upstream:
    """The requests that the sandbox has received."""

    client: httpx.AsyncClient

    async def calls(self) -> int:
        """Requests that reached it since the test began."""
        return int((await self.log())["received"])

    async def log(self) -> Any:
        """`GET /_sandbox/log`."""
        return (await self.client.get("/_sandbox/log")).json()

    async def script(self, *steps: str) -> None:
        """What the next requests meet."""
        await self.client.post("/_sandbox/script", json=list(steps))


@pytest.fixture
async def upstream(sandbox: Server) -> AsyncIterator[Upstream]:
    async with httpx.AsyncClient(base_url=sandbox.url, trust_env=False) as client:
        await client.post("/_sandbox/reset")
        yield Upstream(client)


@pytest.fixture
async def deterministic(configuration: Any) -> UseCaseRoute:
    """Configures the route `debugging`, at temperature 0."""
    route: UseCaseRoute = configuration.route
    route.temperature = 0.0
    await route.asave()
    return route


@pytest.fixture
async def own_redis(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator["Redis"]:
    """A Redis of this test, which its routers share."""
    url = with_path(redis_url, "/4")
    monkeypatch.setenv("REDIS_URL", url)
    async with Redis.from_url(url) as client:
        await client.flushdb()
        yield client
