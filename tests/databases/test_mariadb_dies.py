"""MariaDB is killed under load and comes back: each attempt of a provider has one record."""

import json
import os
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

import httpx
import pymysql
import pytest

from project.processes import free_port
from tests import services
from tests.conftest import create_database
from tests.servers import Server, environment, gateway_server, manage, sandbox_server
from tests.waiting import until

SECONDS = 60
THREADS = 4
BODY = {"model": "debugging", "messages": [{"role": "user", "content": "Hi"}]}


class Load:
    """Callers that send one request after another until the block ends; `answered` holds request
    IDs."""

    def __init__(self, server: Server, key: str) -> None:
        self.answered: list[str] = []
        self.failed: list[str] = []
        self._server, self._key = server, key
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(THREADS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Returns once every caller has its answer."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def asks(self, count: int) -> None:
        """Returns after this many more answers."""
        wanted = len(self.answered) + count
        until(lambda: len(self.answered) >= wanted)

    def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self._key}"}
        with httpx.Client(headers=headers, timeout=SECONDS, trust_env=False) as client:
            while not self._stopping.wait(0.05):
                answer = client.post(f"{self._server.url}/v1/chat/completions", json=BODY)
                if answer.status_code == 200:
                    self.answered.append(answer.headers["x-request-id"])
                else:
                    self.failed.append(answer.text)


def recorded(port: int, database: str) -> list[str]:
    query = f"SELECT request_id FROM `{database}`.llm_routing_usagerecord"
    with (
        pymysql.connect(host="127.0.0.1", port=port, user="root", autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(query)
        return sorted(row[0] for row in cursor.fetchall())


def received(sandbox: Server) -> int:
    """The completions that the upstream has seen."""
    log = httpx.get(f"{sandbox.url}/_sandbox/log", trust_env=False).json()
    return sum(entry["method"] == "POST" for entry in log["entries"])


@pytest.mark.skipif(os.environ.get("TEST_SERVICES") != "mariadb", reason="needs MariaDB")
def test_a_server_that_is_killed_under_load_loses_no_record(tmp_path: Path) -> None:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="llm-routing-") as name, ExitStack() as stack:
        directory = Path(name)
        directory.chmod(0o755)  # the server runs as another user
        services.install_mariadb(directory)
        url, database = stack.enter_context(services.running_mariadb(directory, port))
        sandbox = stack.enter_context(sandbox_server(tmp_path))
        more = {"LLM_SANDBOX_URL": sandbox.url, "DATABASE_TIMEOUT": "2"}
        env = environment(tmp_path, create_database(url, "gateway"), None, **more)
        manage(env, "llm_migrate", "--verbosity=0")
        manage(env, "setup_llm_configuration", "--verbosity=0")
        key = json.loads(manage(env, "create_llm_key", "tests", "--json"))["key"]
        server = stack.enter_context(gateway_server(env, tmp_path / "log"))
        load = stack.enter_context(Load(server, key))
        load.asks(20)
        database.kill()
        database.wait()
        load.asks(50)
        stack.enter_context(services.running_mariadb(directory, port))
        load.asks(20)
        load.stop()
        assert load.failed == []
        until(lambda: recorded(port, "gateway") == sorted(load.answered))
        assert received(sandbox) == len(load.answered)
        told = [line for line in server.output().splitlines() if "Usage records wait" in line]
        reasons = [line.rpartition(": ")[2] for line in told]
        assert len(reasons) == len(set(reasons)), "each reason is told once"
