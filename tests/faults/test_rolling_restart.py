"""Workers are replaced one after another under steady load, and no request fails."""

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from project.processes import free_port
from tests.servers import Gateway, Server, serving

from .load import Load

RATE = 33.0
RESTARTED_SECONDS = 120.0
KEPT_CONNECTIONS = 4

Command = Callable[[int, int], Sequence[str]]
"""Starts a number of workers on a port."""


def uvicorn(port: int, workers: int) -> Sequence[str]:
    """Several workers that share a socket, as the Dockerfile starts them; SIGHUP restarts them."""
    command = [sys.executable, "-m", "uvicorn", "project.asgi:application"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    return [*command, "--timeout-graceful-shutdown", "5", "--timeout-worker-healthcheck", "60"]


def gunicorn(port: int, workers: int) -> Sequence[str]:
    """Like `uvicorn`, under gunicorn."""
    command = [sys.executable, "-m", "gunicorn", "project.asgi:application"]
    command += ["--worker-class", "uvicorn_worker.UvicornWorker", "--bind", f"127.0.0.1:{port}"]
    return [*command, "--workers", str(workers)]


async def restarted(server: Server, times: int, workers: int) -> None:
    """Returns once all workers were replaced a number of times, and the new ones serve."""
    for _ in range(int(RESTARTED_SECONDS / 0.1)):
        output = server.output()
        ended = output.count("Finished server process")
        started = output.count("Application startup complete")
        if ended >= times * workers and started >= (times + 1) * workers:
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"The workers did not restart:\n{server.output()}")


async def load_over_restarts(
    gateway: Gateway,
    server: Server,
    *,
    workers: int,
    requests: int,
    delays: tuple[float, float],
) -> Load:
    """Restarts all workers repeatedly until a number of requests was sent."""
    load = Load(server.url, gateway.headers)
    is_over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(KEPT_CONNECTIONS):
            group.create_task(load.kept_connection(is_over))
        steady = group.create_task(
            load.new_connections(RATE, delays, at_least=requests, until=is_over)
        )
        restarts = 0
        while load.sent < requests or not restarts:
            await asyncio.sleep(1.0)
            server.process.send_signal(signal.SIGHUP)
            restarts += 1
            await restarted(server, restarts, workers)
        is_over.set()
        await steady
    return load


@contextmanager
def workers_of(
    gateway: Gateway, command: Command, workers: int, log: Path, drain_timeout: int
) -> Iterator[Server]:
    port = free_port()
    # gunicorn ends the old workers while the new ones start, and what waits comes all at once then.
    room = {"CONNECTION_POOL_SIZE": "1000", "LLM_MAX_QUEUED": "1000"}
    env = {**gateway.env, "LLM_DRAIN_TIMEOUT": str(drain_timeout), **room}
    ready = "/api/llm/health/ready"
    with serving(command(port, workers), port=port, log=log, env=env, ready_path=ready) as server:
        yield server


@pytest.mark.parametrize("command", [uvicorn, gunicorn])
def test_no_request_fails_while_workers_restart(
    gateway: Gateway, tmp_path: Path, command: Command
) -> None:
    with workers_of(gateway, command, 2, tmp_path / "log", 3) as server:
        load = asyncio.run(
            load_over_restarts(gateway, server, workers=2, requests=1, delays=(0.5, 2.0))
        )
        assert load.failures == []
        assert load.answered > RATE
        assert "Traceback" not in server.output()


@pytest.mark.faults
@pytest.mark.parametrize("drain_timeout", [10, 30])
@pytest.mark.parametrize("command", [uvicorn, gunicorn])
def test_none_of_three_thousand_requests_fails_while_three_workers_restart(
    gateway: Gateway, tmp_path: Path, command: Command, drain_timeout: int
) -> None:
    with workers_of(gateway, command, 3, tmp_path / "log", drain_timeout) as server:
        load = asyncio.run(
            load_over_restarts(gateway, server, workers=3, requests=3000, delays=(1.0, 3.0))
        )
        assert load.failures == []
        assert load.answered >= 3000
        assert "Traceback" not in server.output()
