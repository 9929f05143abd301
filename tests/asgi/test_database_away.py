"""Servers that start while the database is away: they answer, say so, and catch up alone."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from project.processes import ROOT, free_port
from tests import services
from tests.conftest import with_path
from tests.servers import Gateway, Server, environment, gateway_server, manage

SECONDS = 60


def no_database() -> str:
    """A URL at which nobody listens."""
    return f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"


def test_a_program_without_database_or_memory_answers_from_the_built_in_routes(
    sandbox: Server, tmp_path: Path
) -> None:
    env = environment(tmp_path, no_database(), None, LLM_SANDBOX_URL=sandbox.url)
    program = (
        "import asyncio, django, json; django.setup()\n"
        "from llm_routing import close_routers, get_llm_router\n"
        "async def main():\n"
        "    router = await get_llm_router()\n"
        "    answer = await router.complete('Hi', 'debugging', 'premium')\n"
        "    health = await router.get_health_status()\n"
        "    print(json.dumps([answer.provider, health['status'], health['configuration']]))\n"
        "asyncio.run(main())\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr.decode()
    provider, status, configuration = json.loads(outcome.stdout)
    assert (provider, status, configuration["origin"]) == ("sandbox", "degraded", "static")


def test_a_server_starts_from_the_file_that_the_last_one_left(
    gateway: Gateway, tmp_path: Path
) -> None:
    env = {**gateway.env, "DATABASE_URL": no_database()}
    with gateway_server(env, tmp_path / "log") as server:
        ready = httpx.get(f"{server.url}/api/llm/health/ready", trust_env=False)
        assert ready.status_code == 200
        health = httpx.get(f"{server.url}/api/llm/health", trust_env=False)
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert "from the file configuration" in server.output()
        refused = httpx.post(
            f"{server.url}/v1/chat/completions",
            headers=gateway.headers,
            json={"model": "debugging", "messages": [{"role": "user", "content": "Hi"}]},
            trust_env=False,
        )
        # A key that nobody has checked is not believed, but not refused either.
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.json()["error"]["code"] == "access_unavailable"


class Database:
    """A PostgreSQL that can be stopped and started again, with what it holds."""

    def __init__(self, data: Path, url: str) -> None:
        self.url = url
        self._data = data
        self.is_running = True
        self._port = url.split(":")[2].split("/")[0]

    def stop(self) -> None:
        self.is_running = False
        self._control("stop", "-m", "fast")

    def start(self) -> None:
        options = f"-p {self._port} -h 127.0.0.1 -k {self._data} -c fsync=off"
        self._control("start", "-w", "-l", str(self._data / "again.log"), "-o", options)
        self.is_running = True

    def _control(self, *arguments: str) -> None:
        program = services.program("pg_ctl", package="postgresql")
        user = services.owner()
        outcome = subprocess.run(
            [program, "-D", str(self._data), *arguments],
            user=user,
            extra_groups=None if user is None else [],
            cwd="/",
            stdout=subprocess.DEVNULL,  # the server would keep a pipe open
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=SECONDS,
        )
        assert outcome.returncode == 0, arguments


@pytest.fixture
def database() -> Iterator[Database]:
    # Not below pytest's own directory, which PostgreSQL's user cannot reach.
    with tempfile.TemporaryDirectory(prefix="llm-routing-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with services.postgresql(directory) as url:
            database = Database(directory / "postgresql", url)
            yield database
            if database.is_running:
                database.stop()


@contextmanager
def asking(server: Server, key: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(
        base_url=server.url, headers=headers, timeout=SECONDS, trust_env=False
    ) as client:
        yield client


def until(condition: Callable[..., bool], *arguments: object) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition(*arguments):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.servers
def test_a_database_that_goes_and_comes_back_is_noticed_and_nobody_has_to_help(
    sandbox: Server, database: Database, redis_url: str, tmp_path: Path
) -> None:
    redis = with_path(redis_url, "/9")
    more = {"LLM_SANDBOX_URL": sandbox.url, "LLM_SNAPSHOT_CACHE_ALIAS": "default"}
    env = environment(tmp_path / "one", database.url, redis, **more)
    manage(env, "migrate", "--verbosity=0")
    manage(env, "setup_llm_configuration", "--verbosity=0")
    key = json.loads(manage(env, "create_llm_key", "tests", "--json"))["key"]
    body = {"model": "debugging", "messages": [{"role": "user", "content": "Hi"}]}

    def is_answering(client: httpx.Client) -> bool:
        return client.post("/v1/chat/completions", json=body).status_code == 200

    def has_status(server: Server, status: str) -> bool:
        answer = httpx.get(f"{server.url}/api/llm/health", trust_env=False)
        return bool(answer.json()["status"] == status)

    with gateway_server(env, tmp_path / "running") as running, asking(running, key) as client:
        assert is_answering(client)
        database.stop()
        until(has_status, running, "degraded")
        assert is_answering(client), "with the key it knows"

        # Another machine: no file, but the same Redis.
        elsewhere = environment(tmp_path / "two", database.url, redis, **more)
        with (
            gateway_server(elsewhere, tmp_path / "started") as started,
            asking(started, key) as new,
        ):
            assert new.get("/api/llm/health/ready").status_code == 200
            assert has_status(started, "degraded")
            assert "from the cache configuration" in started.output()

            database.start()
            for server, caught_up in ((running, client), (started, new)):
                until(has_status, server, "healthy")
                until(is_answering, caught_up)
                health = caught_up.get("/api/llm/health").json()
                assert health["configuration"]["origin"] == "database"
