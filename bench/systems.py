"""The measured systems: the direct call, the bare pass-through, and our gateway in its variants."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from project.processes import ROOT, free_port
from tests import services

from .ours_rows import route_names
from .processes import SYSTEM_CORE, CannotStart, environment, running
from .targets import Target, plain_body
from .upstream import SIZES, Upstream

CHAT = "/v1/chat/completions"
SETUP_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Started:
    """A running system. `session` is None if the upstream is the only process; `sized` are the
    targets of larger answers."""

    plain: Target
    stream: Target
    session: int | None
    start_seconds: float
    sized: dict[str, Target]


class System(Protocol):
    """Something to send load to."""

    @property
    def name(self) -> str:
        """The name for `--only`."""

    @property
    def title(self) -> str:
        """The name in the report."""

    def start(self, upstream: Upstream, directory: Path) -> AbstractContextManager[Started]:
        """Runs it against `upstream`, with its files in `directory`. Raises CannotStart."""


@dataclass(frozen=True, slots=True)
class Direct:
    """The load generator's own call of the upstream."""

    name: str = "direct"
    title: str = "direct call"

    @contextmanager
    def start(self, upstream: Upstream, directory: Path) -> Iterator[Started]:
        """Of System."""
        yield Started(
            plain=Target(upstream.plain + CHAT, ["bench"]),
            stream=Target(upstream.stream + CHAT, ["bench"]),
            session=None,
            start_seconds=0.0,
            sized={},
        )


@dataclass(frozen=True, slots=True)
class Bare:
    """The least a Python gateway can be."""

    name: str = "bare"
    title: str = "bare Python pass-through"

    @contextmanager
    def start(self, upstream: Upstream, directory: Path) -> Iterator[Started]:
        """Of System."""
        url = f"http://127.0.0.1:{(port := free_port())}"
        env = environment(UPSTREAM_PLAIN=upstream.plain, UPSTREAM_STREAM=upstream.stream)
        target = Target(url + CHAT, ["bench"])
        with running(
            uvicorn("bench.bare:application", port),
            core=SYSTEM_CORE,
            env=env,
            log=directory / "bare.log",
            ready=lambda: target.request(plain_body(), "ready"),
        ) as server:
            sized = {size: Target(f"{url}/{size}{CHAT}", ["bench"]) for size in SIZES}
            yield Started(target, target, server.session, server.start_seconds, sized)


@dataclass(frozen=True, slots=True)
class Ours:
    """The shipped project with every feature on, in one of its variants.

    `routes` models with a route each and `keys` API keys; `sizes` of answers to serve besides.
    With `servers` it keeps its rows in PostgreSQL and shares answers through Redis; they run on
    the core of the load, and their CPU is not counted."""

    name: str = "ours"
    title: str = "llm_routing"
    routes: int = 10
    keys: int = 10
    workers: int = 1
    sizes: tuple[str, ...] = ()
    servers: bool = False

    @contextmanager
    def start(self, upstream: Upstream, directory: Path) -> Iterator[Started]:
        """Of System."""
        if not self.servers:
            with self._serve(upstream, directory, {}) as started:
                yield started
            return
        try:
            with services.running() as found:
                more = {"DATABASE_URL": found.database_url, "REDIS_URL": found.redis_url}
                with self._serve(upstream, directory, more) as started:
                    yield started
        except services.CannotStart as error:
            raise CannotStart(str(error)) from error

    @contextmanager
    def _serve(
        self, upstream: Upstream, directory: Path, more: dict[str, str]
    ) -> Iterator[Started]:
        settings = {
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DJANGO_SECRET_KEY": "a-key-for-the-benchmark-alone-that-guards-nothing",
            "DJANGO_VAR_DIR": str(directory),
            "DATABASE_URL": f"sqlite:///{directory / 'db.sqlite3'}",
            "LLM_ALLOWED_UPSTREAM_NETWORKS": "127.0.0.0/8",
            "LLM_DRAIN_TIMEOUT": "5",
            "BENCH_UPSTREAM_KEY": "sk-upstream",
        }
        env = environment(**settings | more)
        keys = self._set_up(upstream, env)
        url = f"http://127.0.0.1:{(port := free_port())}" + CHAT
        plain = Target(url, route_names(self.routes), keys)
        command = uvicorn("project.asgi:application", port)
        if self.workers > 1:
            command += ["--workers", str(self.workers)]
        with running(
            command,
            core=SYSTEM_CORE,
            env=env,
            log=directory / "ours.log",
            ready=lambda: plain.request(plain_body(), "ready"),
        ) as server:
            yield Started(
                plain=plain,
                stream=Target(url, ["bench-stream"], keys),
                session=server.session,
                start_seconds=server.start_seconds,
                sized={size: Target(url, [f"bench-{size}"], keys) for size in self.sizes},
            )

    def _set_up(self, upstream: Upstream, env: dict[str, str]) -> list[str]:
        command = [sys.executable, "-m", "bench.ours_rows"]
        command += ["--routes", str(self.routes), "--keys", str(self.keys)]
        command += ["--plain", upstream.plain, "--stream", upstream.stream]
        command += ["--sizes", *self.sizes]
        try:
            outcome = subprocess.run(
                command,
                cwd=ROOT,
                env=env,
                capture_output=True,
                text=True,
                check=False,
                timeout=SETUP_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise CannotStart(f"set-up took more than {SETUP_SECONDS} s") from error
        if outcome.returncode:
            raise CannotStart(f"set-up failed: {outcome.stderr[-2000:]}")
        keys: list[str] = json.loads(outcome.stdout.splitlines()[-1])
        return keys


def uvicorn(application: str, port: int) -> list[str]:
    """One worker, with the C parts, without a line of log for each request."""
    command = [sys.executable, "-m", "uvicorn", application, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--loop", "uvloop", "--http", "httptools"]
    return [*command, "--log-level", "warning", "--timeout-graceful-shutdown", "5"]
