"""Two workers of a real server: each reports both, whichever is killed."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from project.processes import free_port
from tests.servers import Server, environment, manage, serving
from tests.waiting import until

from .conftest import Numbers

SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Workers:
    """A server of two workers, a key it takes and the directory of its metrics."""

    server: Server
    headers: dict[str, str]
    directory: Path

    def ask(self) -> None:
        """Sends a completion over a separate connection, so that any worker may accept it."""
        body = {"messages": "Hi", "use_case": "debugging"}
        url = f"{self.server.url}/api/llm/complete"
        with httpx.Client(trust_env=False, timeout=90) as client:
            client.post(url, json=body, headers=self.headers).raise_for_status()

    def scrape(self) -> Numbers:
        with httpx.Client(trust_env=False, timeout=90) as client:
            answer = client.get(f"{self.server.url}/metrics", headers=self.headers)
        answer.raise_for_status()
        return Numbers(answer.text)

    def busy_workers(self) -> set[int]:
        """The pids of workers that have answered something."""
        return {
            pid
            for pid in self.pids()
            for name in self.open_names(pid)
            if b"llm_routing_requests_total" in Path(name).read_bytes()
        }

    def pids(self) -> set[int]:
        """The server's processes that measure."""
        parent = self.server.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return {int(pid) for pid in children if self.open_names(int(pid))}

    def open_names(self, pid: int) -> list[str]:
        found = []
        try:
            for link in Path(f"/proc/{pid}/fd").iterdir():
                target = str(link.readlink()) if link.is_symlink() else ""
                if target.endswith(".names"):
                    found.append(target)
        except OSError:
            return []  # it has ended
        return found


@pytest.fixture
def workers(sandbox: Server, tmp_path: Path) -> Iterator[Workers]:
    url = f"sqlite:///{tmp_path / 'db.sqlite3'}"
    env = environment(tmp_path, url, None, LLM_SANDBOX_URL=sandbox.url)
    manage(env, "migrate", "--verbosity=0")
    manage(env, "setup_llm_configuration", "--verbosity=0")
    key = json.loads(manage(env, "create_llm_key", "tests", "--metrics", "--json"))["key"]
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "project.asgi:application", "--workers", "2"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--timeout-graceful-shutdown", "5"]
    log = tmp_path / "gateway.log"
    with serving(command, port=port, log=log, env=env, ready_path="/api/llm/health/live") as server:
        headers = {"Authorization": f"Bearer {key}"}
        found = Workers(server, headers, tmp_path / "llm_routing" / "metrics")
        until(lambda: len(found.pids()) == 2, SECONDS)
        yield found


def test_two_workers_add_up_and_a_killed_one_stays_counted(workers: Workers) -> None:
    asked = 0

    def ask() -> bool:
        nonlocal asked
        asked += 1
        workers.ask()
        return len(workers.busy_workers()) == 2

    until(ask, SECONDS)
    for _ in range(6):
        numbers = workers.scrape()
        assert numbers.sum("requests_total", use_case="debugging", outcome="success") == asked
        assert numbers.sum("attempts_total", outcome="success") == asked
        assert numbers.sum("attempt_duration_seconds_count") == asked
        assert numbers.sum("processes") == 2

    victim = min(workers.pids())
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(workers.pids() - {victim}) == 2, SECONDS)
    for _ in range(4):
        numbers = workers.scrape()
        assert numbers.sum("requests_total", outcome="success") == asked
        assert numbers.sum("processes") == 2
        assert numbers.sum("requests_in_progress") == 0
    workers.ask()
    assert workers.scrape().sum("requests_total", outcome="success") == asked + 1
    assert "Traceback" not in workers.server.output()
