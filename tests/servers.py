"""The project's own servers as subprocesses, on free ports: what a client sees over a real socket.

Started with an environment made from nothing, so that no developer's key or database gets in.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from project.processes import ROOT, free_port, spawn, stop

START_SECONDS = 60.0
LOOPBACK = "127.0.0.0/8,::1/128"
SECRET_KEY = "a-key-for-tests-alone-that-guards-nothing-at-all"
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs: its address without a slash at the end, its process and its output."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        """All that it has written to its standard output and error."""
        return self.log.read_text(errors="replace")


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway, an API key it takes, and the environment to run its commands in."""

    server: Server
    key: str
    env: Mapping[str, str]

    @property
    def url(self) -> str:
        """Its address without a slash at the end; `{url}/v1` is an OpenAI client's base_url."""
        return self.server.url

    @property
    def headers(self) -> dict[str, str]:
        """The header that carries the key."""
        return {"Authorization": f"Bearer {self.key}"}

    def manage(self, *arguments: str) -> str:
        """Run `manage.py` on this gateway's database; what it printed."""
        return manage(self.env, *arguments)


def environment(
    directory: Path, database_url: str, redis_url: str | None, **more: str
) -> dict[str, str]:
    """The whole environment of one installation that keeps its files in `directory`."""
    env = {name: os.environ[name] for name in INHERITED if name in os.environ}
    env |= {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DJANGO_SECRET_KEY": SECRET_KEY,
        "DJANGO_VAR_DIR": str(directory),
        "DATABASE_URL": database_url,
        "LLM_ALLOWED_UPSTREAM_NETWORKS": LOOPBACK,
        "PYTHONUNBUFFERED": "1",
    }
    if redis_url is not None:
        env["REDIS_URL"] = redis_url
    return env | more


def manage(env: Mapping[str, str], *arguments: str, cwd: Path = ROOT) -> str:
    """Run `manage.py` to its end; what it printed. Fails the test with its last words."""
    command = [sys.executable, "manage.py", *arguments]
    outcome = subprocess.run(
        command, cwd=cwd, env=dict(env), capture_output=True, text=True, check=False, timeout=120
    )
    assert outcome.returncode == 0, f"{arguments} failed:\n{outcome.stdout}{outcome.stderr}"
    return outcome.stdout


@contextmanager
def serving(
    command: Sequence[str],
    *,
    port: int,
    log: Path,
    env: Mapping[str, str],
    ready_path: str = "/",
    cwd: Path = ROOT,
) -> Iterator[Server]:
    """Run a server until the block ends; entered once it answers `ready_path`, whatever it says."""
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        server = Server(url, spawn(command, env=env, output=output, cwd=cwd), log)
    try:
        deadline = time.monotonic() + START_SECONDS
        with httpx.Client(base_url=url, trust_env=False) as client:
            while not answers(client, ready_path):
                assert server.process.poll() is None, f"{command} ended:\n{server.output()}"
                assert time.monotonic() < deadline, f"{command} is silent:\n{server.output()}"
                time.sleep(0.05)
        yield server
    finally:
        stop(server.process)


def answers(client: httpx.Client, path: str) -> bool:
    """Whether the server takes requests."""
    try:
        client.get(path)
    except httpx.TransportError:
        return False
    return True


@contextmanager
def sandbox_server(directory: Path) -> Iterator[Server]:
    """`manage.py llm_sandbox`, which needs no database."""
    port = free_port()
    env = environment(directory, "sqlite://:memory:", None)
    command = [sys.executable, "manage.py", "llm_sandbox", "--port", str(port)]
    with serving(command, port=port, log=directory / "sandbox.log", env=env) as server:
        yield server


@contextmanager
def gateway_server(env: Mapping[str, str], log: Path, cwd: Path = ROOT) -> Iterator[Server]:
    """The project's ASGI application under uvicorn, as `make run` serves it."""
    port = free_port()
    application = env["DJANGO_SETTINGS_MODULE"].removesuffix("settings") + "asgi:application"
    command = [sys.executable, "-m", "uvicorn", application, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--lifespan", "on", "--timeout-graceful-shutdown", "5"]
    with serving(
        command, port=port, log=log, env=env, ready_path="/api/llm/health", cwd=cwd
    ) as server:
        yield server
