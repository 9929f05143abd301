"""Without the database known keys keep working, unknown ones get 503, and no record is lost."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest

from llm_routing.sandbox import Sandbox
from tests.servers import environment, gateway_server, manage

from .callers import CALLERS, Client
from .postgresql import Database, own_postgresql
from .tcp_proxy import TcpProxy, Weather, weather

pytestmark = [pytest.mark.servers, pytest.mark.faults]

SECONDS_TO_RETURN = 180


@dataclass(frozen=True, slots=True)
class Installation:
    """A gateway in its own process, its database, and the proxy between them."""

    server: Database
    proxy: TcpProxy
    sandbox: Sandbox
    known: Client
    unseen: Client
    wrong: Client

    def records(self) -> list[str]:
        """The attempts in the database, by their id."""
        with psycopg.connect(self.server.url) as connection:
            rows = connection.execute("SELECT attempt_id FROM llm_routing_usagerecord").fetchall()
        return [row[0] for row in rows]


@contextmanager
def clients(url: str, *keys: str) -> Iterator[list[Client]]:
    yield [
        Client(
            httpx.AsyncClient(
                base_url=url,
                headers={"Authorization": f"Bearer {key}"},
                trust_env=False,
                timeout=60,
            )
        )
        for key in keys
    ]


@pytest.fixture
async def installation(vendors: Sandbox, tmp_path: Path) -> AsyncIterator[Installation]:
    with own_postgresql() as server, TcpProxy(server.url) as proxy:
        env = environment(tmp_path, proxy.url, None, LLM_SANDBOX_URL=vendors.url)
        manage(env, "migrate", "--verbosity=0")
        manage(env, "setup_llm_configuration", "--verbosity=0")
        keys = [
            json.loads(manage(env, "create_llm_key", name, "--json"))["key"]
            for name in ("known", "unseen")
        ]
        with (
            gateway_server(env, tmp_path / "gateway.log") as running,
            clients(running.url, *keys, keys[0] + "x") as made,
        ):
            yield Installation(server, proxy, vendors, *made)
            for client in made:
                await client.http.aclose()


def kill(where: Installation) -> None:
    where.server.kill()


def start(where: Installation) -> None:
    where.server.start()


def freeze(where: Installation) -> None:
    where.server.freeze()


def thaw(where: Installation) -> None:
    where.server.thaw()


def clear_up(where: Installation) -> None:
    where.proxy.weather = Weather()
    where.proxy.reset()


@pytest.mark.parametrize(
    ("fail", "mend"),
    [
        pytest.param(kill, start, id="killed"),
        pytest.param(freeze, thaw, id="frozen"),
        pytest.param(weather(swallows=True), clear_up, id="silent"),
        pytest.param(weather(refuses=True), clear_up, id="refusing"),
        pytest.param(weather(delay=5.0), clear_up, id="slow"),
    ],
)
async def test_without_a_database_known_keys_work_and_records_arrive_once(
    installation: Installation,
    fail: Callable[[Installation], None],
    mend: Callable[[Installation], None],
) -> None:
    known, unseen, wrong = installation.known, installation.unseen, installation.wrong
    assert (await known.ask(CALLERS[0])).is_whole
    await asyncio.to_thread(fail, installation)
    for _ in range(2):
        for caller in CALLERS:
            reply = await known.ask(caller, deadline=30)
            assert reply.is_whole, (caller, reply.body)
        await asyncio.sleep(1)
    for client in (unseen, wrong):
        for caller in CALLERS:
            reply = await client.ask(caller)
            assert (reply.status, reply.error) == (503, "access_unavailable"), reply.body
            assert int(reply.headers["retry-after"]) >= 1
    await asyncio.to_thread(mend, installation)
    async with asyncio.timeout(SECONDS_TO_RETURN):
        while (await unseen.ask(CALLERS[0])).status != 200:
            await asyncio.sleep(0.5)
        while (reply := await wrong.ask(CALLERS[0])).status == 503:
            await asyncio.sleep(0.5)
        assert reply.status == 401
        while (
            len(await asyncio.to_thread(installation.records))
            < installation.sandbox.journal.received
        ):
            await asyncio.sleep(0.2)
    await asyncio.sleep(1)
    records = await asyncio.to_thread(installation.records)
    assert len(records) == len(set(records)) == installation.sandbox.journal.received
