"""The database stops, is killed or hangs: callers are served, and no record is lost."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from tests.conftest import create_database, with_path
from tests.faults.postgresql import Database, own_postgresql
from tests.servers import Server, environment, gateway_server, manage
from tests.waiting import until

pytestmark = pytest.mark.servers

SECONDS = 60

BODY = {"model": "debugging", "messages": [{"role": "user", "content": "Hi"}]}
UNKNOWN = "sk-llm-0123456789abcdef0123456789abcdef0123456789a"


@dataclass
class Installation:
    """A gateway's environment on a database that holds a configuration, and keys by name."""

    env: dict[str, str]
    keys: dict[str, str]

    def ask(self, server: Server, key: str) -> httpx.Response:
        """A completion with the key of this name, or with a key that is none."""
        return httpx.post(
            f"{server.url}/v1/chat/completions",
            headers={"Authorization": f"Bearer {self.keys.get(key, key)}"},
            json=BODY,
            timeout=SECONDS,
            trust_env=False,
        )

    def records(self) -> int:
        """The usage records in the database; that none is there twice is its own constraint."""
        with psycopg.connect(self.env["DATABASE_URL"]) as connection:
            row = connection.execute("SELECT count(*) FROM llm_routing_usagerecord").fetchone()
            assert row is not None
            return int(row[0])

    def revoke(self, key: str) -> None:
        manage(
            self.env,
            "shell",
            "-v0",
            "-c",
            "from llm_routing.models import ApiKey;"
            f"ApiKey.objects.filter(name={key!r}).update(is_active=False)",
        )

    @property
    def kept(self) -> Path:
        """The file of known keys."""
        return Path(self.env["DJANGO_VAR_DIR"]) / "llm_routing" / "known_keys"


@pytest.fixture(scope="module")
def model(
    sandbox: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Database, Installation]]:
    """A server with the installation that each test copies."""
    with own_postgresql() as database:
        url = create_database(database.url, "model")
        more = {"LLM_SANDBOX_URL": sandbox.url, "DATABASE_TIMEOUT": "2"}
        env = environment(tmp_path_factory.mktemp("model"), url, None, **more)
        manage(env, "migrate", "--verbosity=0")
        manage(env, "setup_llm_configuration", "--verbosity=0")
        keys = {
            name: json.loads(manage(env, "create_llm_key", name, "--json"))["key"]
            for name in ("known", "new")
        }
        yield database, Installation(env, keys)


@pytest.fixture
def database(model: tuple[Database, Installation]) -> Iterator[Database]:
    database, _ = model
    yield database
    database.recover()


@pytest.fixture
def installation(
    model: tuple[Database, Installation], database: Database, tmp_path: Path
) -> Installation:
    _, installation = model
    name = f"copy_{uuid4().hex}"
    with psycopg.connect(database.url, autocommit=True) as connection:
        query = SQL("CREATE DATABASE {} TEMPLATE model").format(Identifier(name))
        connection.execute(query)
    own = {"DATABASE_URL": with_path(database.url, f"/{name}"), "DJANGO_VAR_DIR": str(tmp_path)}
    return replace(installation, env=installation.env | own)


def has_status(server: Server, status: str) -> bool:
    answer = httpx.get(f"{server.url}/api/llm/health", timeout=SECONDS, trust_env=False)
    return bool(answer.json()["status"] == status)


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.json()["error"]["code"] == "access_unavailable"
    assert int(answer.headers["retry-after"]) > 0


def test_a_silent_database_delays_no_request_and_loses_no_record(
    installation: Installation, database: Database, tmp_path: Path
) -> None:
    with gateway_server(installation.env, tmp_path / "log") as server:
        asked = 0
        assert installation.ask(server, "known").status_code == 200
        until(lambda: installation.records() == 1)
        database.freeze()
        # Past the limit of a query, so that some have been given up. Nothing answers for the
        # database before it thaws, so whoever has an answer did not wait for it.
        while asked < 5 or not has_status(server, "degraded"):
            known = installation.ask(server, "known")
            assert known.status_code == 200, known.text
            asked += 1
            assert_unavailable(installation.ask(server, "new"))
            assert_unavailable(installation.ask(server, UNKNOWN))
        database.thaw()
        until(lambda: has_status(server, "healthy"))
        until(lambda: installation.ask(server, UNKNOWN).status_code == 401)
        until(lambda: installation.ask(server, "new").status_code == 200)
        until(lambda: installation.records() == asked + 2)
        installation.revoke("known")
        until(lambda: installation.ask(server, "known").status_code == 401)


@pytest.mark.faults
@pytest.mark.parametrize("way", ["stop", "kill"])
def test_no_record_is_lost_if_the_database_is_killed_and_restarted(
    installation: Installation, database: Database, tmp_path: Path, way: str
) -> None:
    with gateway_server(installation.env, tmp_path / "log") as server:
        assert installation.ask(server, "known").status_code == 200
        getattr(database, way)()
        for _ in range(3):
            assert installation.ask(server, "known").status_code == 200
            assert_unavailable(installation.ask(server, "new"))
        until(lambda: has_status(server, "degraded"))
        # As long as the pauses of a pool that backs off would be.
        time.sleep(12)
        database.start()
        until(lambda: has_status(server, "healthy"))
        until(lambda: installation.ask(server, "new").status_code == 200)
        until(lambda: installation.records() == 5)


@pytest.mark.faults
def test_a_server_ends_within_its_limit_while_the_database_is_silent(
    installation: Installation, database: Database, tmp_path: Path
) -> None:
    with gateway_server(installation.env, tmp_path / "log") as server:
        assert installation.ask(server, "known").status_code == 200
        until(lambda: installation.records() == 1)
        database.freeze()
        assert installation.ask(server, "known").status_code == 200
        assert_unavailable(installation.ask(server, "new"))
        server.process.send_signal(signal.SIGTERM)
        # The database stays silent until it has ended.
        assert server.process.wait(SECONDS) == 0
        database.thaw()
    # The record that could not be shipped waits for the next process.
    with gateway_server(installation.env, tmp_path / "again"):
        until(lambda: installation.records() == 2)


@pytest.mark.faults
def test_a_start_without_the_database_accepts_valid_keys_and_refuses_revoked_ones(
    installation: Installation, database: Database, tmp_path: Path
) -> None:
    with gateway_server(installation.env, tmp_path / "first") as server:
        assert installation.ask(server, "known").status_code == 200
        assert installation.ask(server, "new").status_code == 200
        until(lambda: installation.kept.exists() and installation.kept.stat().st_size > 400)
        before = installation.kept.read_bytes()
        installation.revoke("new")
        # Nobody asks with it, and it is taken out of the file all the same.
        until(lambda: installation.kept.stat().st_size < len(before))
    content = installation.kept.read_bytes()
    for secret in (*installation.keys.values(), "known"):
        assert secret.encode() not in content

    database.stop()
    with gateway_server(installation.env, tmp_path / "second") as server:
        assert installation.ask(server, "known").status_code == 200
        assert_unavailable(installation.ask(server, "new"))
        assert_unavailable(installation.ask(server, UNKNOWN))
        database.start()
        until(lambda: installation.ask(server, UNKNOWN).status_code == 401)
        assert installation.ask(server, "known").status_code == 200
        until(lambda: installation.ask(server, "new").status_code == 401)


@pytest.mark.faults
def test_a_key_revoked_while_no_worker_ran_is_refused_once_the_database_is_back(
    installation: Installation, database: Database, tmp_path: Path
) -> None:
    with gateway_server(installation.env, tmp_path / "first") as server:
        assert installation.ask(server, "known").status_code == 200
    assert installation.kept.exists()
    installation.revoke("known")
    database.stop()
    with gateway_server(installation.env, tmp_path / "second") as server:
        # Nobody here can know of it yet.
        assert installation.ask(server, "known").status_code == 200
        database.start()
        until(lambda: installation.ask(server, "known").status_code == 401)


@contextmanager
def asking(server: Server, key: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(
        base_url=server.url, headers=headers, timeout=SECONDS, trust_env=False
    ) as client:
        yield client


@pytest.mark.faults
def test_workers_reconnect_by_themselves_when_the_database_is_back(
    installation: Installation, database: Database, redis_url: str, tmp_path: Path
) -> None:
    key = installation.keys["known"]
    redis = {"REDIS_URL": with_path(redis_url, "/9"), "LLM_SNAPSHOT_CACHE_ALIAS": "default"}
    env = installation.env | redis

    def is_answering(client: httpx.Client) -> bool:
        return client.post("/v1/chat/completions", json=BODY).status_code == 200

    with gateway_server(env, tmp_path / "running") as running, asking(running, key) as client:
        assert is_answering(client)
        database.stop()
        until(lambda: has_status(running, "degraded"))
        assert is_answering(client), "with the key it knows"

        # Another machine: no file, but the same Redis.
        elsewhere = env | {"DJANGO_VAR_DIR": str(tmp_path / "two")}
        with (
            gateway_server(elsewhere, tmp_path / "started") as started,
            asking(started, key) as new,
        ):
            assert new.get("/api/llm/health/ready").status_code == 200
            assert has_status(started, "degraded")
            assert "from the cache configuration" in started.output()

            database.start()
            for server, caught_up in ((running, client), (started, new)):
                until(lambda server=server: has_status(server, "healthy"))  # type: ignore[misc]  # bound
                until(lambda caught_up=caught_up: is_answering(caught_up))  # type: ignore[misc]  # bound
                health = caught_up.get("/api/llm/health").json()
                assert health["configuration"]["origin"] == "database"
