"""Every command of the compose file, run: with the environment it gives, on what the image holds.

There is no container about them, and ports and hosts are those of the test's servers; nothing else
differs from the files.
"""

import compileall
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from project.processes import free_port

from . import composition
from .conftest import with_path
from .servers import Server, serving
from .services import Services, program

pytestmark = pytest.mark.servers
SECONDS = 60


@dataclass(frozen=True, slots=True)
class Stack:
    """The image's files, a volume, a database and the environment of each service."""

    app: Path
    volume: Path
    database_url: str
    redis_url: str
    dotenv: Mapping[str, str]

    def environment(self, name: str) -> dict[str, str]:
        """A service's variables, with the hosts and directories of this machine."""
        env = composition.environment(name, self.dotenv)
        assert env["DATABASE_URL"] == "postgresql://llm_routing@db/llm_routing"
        env["DATABASE_URL"] = self.database_url
        assert env["REDIS_URL"] == "redis://redis:6379/0"
        env["REDIS_URL"] = self.redis_url
        env["DJANGO_VAR_DIR"] = str(self.volume)
        env["PATH"] = path()
        return env

    def run(self, name: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """A command of a service of ours, to its end."""
        return subprocess.run(
            command,
            cwd=self.app,
            env=self.environment(name),
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )

    def files(self) -> set[Path]:
        """What is in the image's working directory."""
        return set(self.app.rglob("*"))


def path() -> str:
    """Where the programs of the images are on this machine."""
    places = [Path(sys.executable).parent, Path(program("pg_isready", package="postgresql")).parent]
    return os.pathsep.join([*map(str, places), os.environ["PATH"]])


@pytest.fixture(scope="module")
def stack(
    services: Services | None, sandbox: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    assert services is not None
    directory = tmp_path_factory.mktemp("compose")
    app, volume = directory / "app", directory / "volume"
    volume.mkdir()
    for name in composition.image_sources():
        source = composition.ROOT / name
        if source.is_dir():
            shutil.copytree(source, app / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            app.mkdir(exist_ok=True)
            shutil.copy(source, app / name)
    compileall.compile_dir(app, quiet=1)
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE llm_routing LOGIN")
        connection.execute("CREATE DATABASE llm_routing OWNER llm_routing")
    url = with_path(services.database_url, "/llm_routing").replace("//tests@", "//llm_routing@")
    dotenv = {
        "DJANGO_SECRET_KEY": "a-key-for-tests-alone-that-guards-nothing-at-all",
        "POSTGRES_PASSWORD": "any/character@may:be#in it",
        "LLM_ALLOWED_UPSTREAM_NETWORKS": "127.0.0.0/8",
        "LLM_SANDBOX_URL": sandbox.url,
    }
    yield Stack(app, volume, url, with_path(services.redis_url, "/3"), dotenv)
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute("DROP DATABASE llm_routing WITH (FORCE)")
        connection.execute("DROP ROLE llm_routing")


@pytest.fixture(scope="module")
def set_up(stack: Stack) -> str:
    """What the one-shot service printed."""
    outcome = stack.run("setup", composition.command("setup"))
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def test_the_database_is_healthy_once_it_takes_connections(services: Services | None) -> None:
    assert services is not None
    port = httpx.URL(services.database_url).port
    for number, status in ((port, 0), (free_port(), 2)):
        outcome = subprocess.run(
            composition.health_check("db"),
            env={"PATH": path(), "PGPORT": str(number)},
            capture_output=True,
            check=False,
            timeout=SECONDS,
        )
        assert outcome.returncode == status, outcome.stderr


def test_redis_is_bounded_and_keeps_nothing(tmp_path: Path) -> None:
    server, *flags = composition.command("redis")
    binary = program(server, alternative="valkey-server", package="redis-server")
    port = free_port()
    process = subprocess.Popen(
        [binary, *flags, "--port", str(port), "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    client, *ping = composition.health_check("redis")
    binary = program(client, alternative="valkey-cli", package="redis-server")
    check = [binary, "-p", str(port), *ping]
    try:
        deadline = time.monotonic() + SECONDS
        while subprocess.run(check, capture_output=True, check=False).stdout != b"PONG\n":
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with redis.Redis(port=port, decode_responses=True) as connection:
            said = connection.config_get("maxmemory", "maxmemory-policy", "save", "appendonly")
    finally:
        process.terminate()
        assert process.wait(SECONDS) == 0
    assert said == {
        "maxmemory": str(256 * 1024 * 1024),
        "maxmemory-policy": "allkeys-lru",
        "save": "",
        "appendonly": "no",
    }
    assert list(tmp_path.iterdir()) == []


def test_set_up_may_run_with_every_start(stack: Stack, set_up: str) -> None:
    assert "Done: " in set_up
    again = stack.run("setup", composition.command("setup"))
    assert again.returncode == 0, again.stderr
    assert "Nothing to do." in again.stdout


@pytest.mark.usefixtures("set_up")
def test_the_app_serves_with_its_workers_and_ends_in_order(stack: Stack, tmp_path: Path) -> None:
    port = free_port()
    command = [word.replace("8000", str(port)) for word in composition.command("app")]
    assert int(command[command.index("--workers") + 1]) > 1
    check = [word.replace(":8000/", f":{port}/") for word in composition.health_check("app")]
    assert str(port) in "".join(check)
    keys = ["python", "manage.py", "create_llm_key", "caller", "--json"]
    key = json.loads(stack.run("app", keys).stdout)["key"]
    headers = {"Authorization": f"Bearer {key}"}
    before = stack.files()
    assert stack.run("app", check).returncode != 0
    env = stack.environment("app")
    with serving(command, port=port, log=tmp_path / "log", env=env, cwd=stack.app) as server:
        healthy = stack.run("app", check)
        assert healthy.returncode == 0, healthy.stderr

        def ask(faults: str) -> httpx.Response:
            body = {"messages": f"Hi {faults}", "use_case": "debugging"}
            return httpx.post(
                f"{server.url}/api/llm/complete", json=body, headers=headers, timeout=SECONDS
            )

        assert ask("").json()["provider"] == "sandbox"
        with ThreadPoolExecutor(1) as thread:
            under_way = thread.submit(ask, "[[delay=2]]")
            time.sleep(1)
            server.process.send_signal(signal.SIGTERM)
            grace = composition.seconds(composition.SERVICES["app"]["stop_grace_period"])
            assert server.process.wait(grace) == 0, server.output()
            assert under_way.result().status_code == 200
    assert stack.files() == before
    with psycopg.connect(stack.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM llm_routing_usagerecord").fetchone()
    assert row == (2,)


@pytest.mark.usefixtures("set_up")
def test_the_sweeper_sweeps_until_it_is_told_to_stop(stack: Stack) -> None:
    process = subprocess.Popen(
        composition.command("sweeper"),
        cwd=stack.app,
        env=stack.environment("sweeper"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, rest
    assert lines[0].startswith("sandbox: healthy")
    assert "0 unhealthy" in lines[1]
    with psycopg.connect(stack.database_url) as connection:
        lease = connection.execute("SELECT holder FROM llm_routing_sweeplease").fetchone()
    assert lease == ("",)
