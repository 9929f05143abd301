"""Servers under test and around it: each pinned to a core, none outlives the bench."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from project.processes import ROOT, spawn, stop

SYSTEM_CORE = 0
LOAD_CORE = 1 if (os.cpu_count() or 1) > 1 else 0
START_SECONDS = 90.0
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE")


class CannotStart(Exception):
    """A program is missing, or a server does not come up; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers: the session all its processes are in, and how long the start took."""

    session: int
    start_seconds: float
    log: Path


def environment(**more: str) -> dict[str, str]:
    """An environment made from nothing, so that no key or proxy of the caller's gets in."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | more


@contextmanager
def running(
    command: Sequence[str],
    *,
    core: int,
    env: Mapping[str, str],
    log: Path,
    ready: Callable[[], httpx.Request | None],
    cwd: Path = ROOT,
) -> Iterator[Running]:
    """Runs a server until the block ends; entered once it answers the request of `ready` without
    an error. While that gives None, where to ask is not known yet.

    Raises CannotStart with the end of its log."""
    started = time.perf_counter()
    with log.open("wb") as output:
        child = spawn(["taskset", "-c", str(core), *command], env=env, output=output, cwd=cwd)
    try:
        wait_until_ready(child, ready, log)
        yield Running(child.pid, time.perf_counter() - started, log)
    finally:
        end(child)


def wait_until_ready(
    child: subprocess.Popen[bytes], ready: Callable[[], httpx.Request | None], log: Path
) -> None:
    """Returns once the server answers well. Raises CannotStart."""
    deadline = time.monotonic() + START_SECONDS
    said = "nothing"
    with httpx.Client(trust_env=False, timeout=10) as client:
        while True:
            try:
                if (request := ready()) is not None:
                    answer = client.send(request)
                    said = f"{answer.status_code} {answer.text[:300]}"
                    if answer.is_success:
                        return
            except httpx.TransportError as error:
                said = str(error)
            if child.poll() is not None or time.monotonic() > deadline:
                last = log.read_text(errors="replace")[-2000:]
                raise CannotStart(f"it said {said}; the end of its log:\n{last}")
            time.sleep(0.02)


def end(child: subprocess.Popen[bytes]) -> None:
    """Stops a server by SIGTERM, then kills the rest of its process group."""
    stop(child, 15)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
