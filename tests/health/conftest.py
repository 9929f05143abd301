"""A configuration on a scripted upstream, and sweeps of it."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest
from django.db import connection, connections

from llm_routing.access.api_keys import api_keys
from llm_routing.conf import get_settings
from llm_routing.configuration.snapshot import EMPTY_SNAPSHOT
from llm_routing.configuration.source import snapshot_source
from llm_routing.factory import sweep_health
from llm_routing.health.monitor import health_monitor
from llm_routing.health.sweep import Selection, SweepReport
from llm_routing.health.sweeper import stop_sweeper
from llm_routing.models import ModelConfig, Provider, RouteTarget, UseCaseRoute
from llm_routing.process.background import stop_background
from project.processes import ROOT
from tests.conftest import forget_breakers
from tests.servers import environment
from tests.waiting import until

T = TypeVar("T")
KEY = "sk-upstream-0123456789abcdef"
MODELS = {"object": "list", "data": [{"id": "alpha"}, {"id": "beta"}, {"id": "vectors"}]}


@dataclass
class Answer:
    """The upstream's response at a path: `body` as it is or as JSON, after `delay` seconds and once
    the event `hold` is set."""

    status: int = 200
    body: Any = None
    delay: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: threading.Event | None = None


@dataclass
class Upstream:
    """An HTTP server in threads: responses by path, and a log of the requests."""

    url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    needs_key: bool = True
    busy: int = 0
    busiest: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def count(self, path: str) -> int:
        return sum(asked == path for _, asked in self.asked)


def completion(text: str = "pong") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
    }


def vectors() -> dict[str, Any]:
    return {
        "object": "list",
        "model": "m",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }


def _handler(upstream: Upstream) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.partition("?")[0]
            with upstream.lock:
                upstream.asked.append((self.command, path))
                upstream.bodies.append(body)
                upstream.busy += 1
                upstream.busiest = max(upstream.busiest, upstream.busy)
            try:
                answer = upstream.answers.get(path, Answer(404, {"error": {"message": "No."}}))
                if upstream.needs_key and self.headers.get("Authorization") != f"Bearer {KEY}":
                    answer = Answer(401, {"error": {"message": "Wrong key."}}, answer.delay)
                time.sleep(answer.delay)
                if answer.hold is not None:
                    answer.hold.wait(60)
                data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body)
                data = data if isinstance(data, bytes) else data.encode()
            finally:
                with upstream.lock:
                    upstream.busy -= 1
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            """Quiet."""

        def handle(self) -> None:
            # If the response is too slow, the sweep has closed the connection.
            with suppress(ConnectionError):
                super().handle()

    return Handler


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream("")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(upstream))
    server.daemon_threads = True
    upstream.url = f"http://127.0.0.1:{server.server_address[1]}"
    upstream.answers = {
        "/v1/models": Answer(body=MODELS),
        "/v1/chat/completions": Answer(body=completion()),
        "/v1/embeddings": Answer(body=vectors()),
    }
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield upstream
    server.shutdown()
    server.server_close()


@pytest.fixture
def clean_process(
    transactional_db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The process as it starts: nothing in memory, nothing on disk."""
    monkeypatch.setenv("LLM_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr("django.conf.settings.LLM_ROUTING", {}, raising=False)

    def clear() -> None:
        forget_breakers(os.environ.get("REDIS_URL"))
        get_settings.cache_clear()
        snapshot_source.current = EMPTY_SNAPSHOT
        api_keys.clear()
        health_monitor.forget()

    clear()
    yield
    stop_sweeper()
    stop_background()
    clear()


@pytest.fixture
def provider(clean_process: None, upstream: Upstream) -> Provider:
    """The provider `first` with the models `alpha`, `beta` and, for vectors, `vectors`."""
    return add_provider("first", upstream.base_url)


def add_provider(name: str, base_url: str, *, key: str = KEY, vendor: str = "openai") -> Provider:
    row = Provider(name=name, vendor=vendor, base_url=base_url)
    row.set_api_key(key)
    row.save()
    for model_id, capability in (("alpha", "chat"), ("beta", "chat"), ("vectors", "embeddings")):
        ModelConfig.objects.create(
            provider=row,
            model_id=model_id,
            capabilities=[capability],
            input_price="2",
            output_price="10",
        )
    return row


def add_route(*keys: str, use_case: str = "debugging") -> UseCaseRoute:
    route = UseCaseRoute.objects.create(use_case=use_case, tier="standard")
    for position, key in enumerate(keys):
        name, _, model_id = key.partition("/")
        model = ModelConfig.objects.get(provider__name=name, model_id=model_id)
        RouteTarget.objects.create(route=route, model=model, position=position)
    return route


def swept(*, deep: bool = False, **selection: Any) -> SweepReport:
    """Sweeps everything, or the selection."""
    report = sweep_health(Selection(deep=deep, **selection))
    assert report is not None
    return report


def found(report: SweepReport) -> dict[str, str]:
    """Returns the results by target; an empty string means healthy."""
    return {
        f"{result.provider}/{result.model}".rstrip("/"): (
            "" if result.is_healthy else result.error_code
        )
        for result in report.results
    }


@pytest.fixture
def command_env(clean_process: None, tmp_path: Path) -> dict[str, str]:
    """The environment of other processes on the test's database."""
    given = connection.settings_dict
    url = f"sqlite:///{given['NAME']}"
    if connection.vendor == "postgresql":
        url = f"postgresql://{given['USER']}@{given['HOST']}:{given['PORT']}/{given['NAME']}"
    elif connection.vendor == "mysql":
        url = f"mysql://{given['USER']}@{given['HOST']}:{given['PORT']}/{given['NAME']}"
    return environment(tmp_path, url, None)


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(command_env: dict[str, str]) -> Iterator[Start]:
    """Starts the command with arguments; kills it at the end if it still runs."""
    running: list[subprocess.Popen[str]] = []

    def run(*arguments: str, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "llm_health_sweep", *arguments],
            cwd=ROOT,
            env=command_env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


async def in_thread(function: Callable[[], T]) -> T:
    """Calls a function that uses the database in another thread, and closes its connections: those
    of a thread that ends are lost to the pool."""

    def call() -> T:
        try:
            return function()
        finally:
            connections.close_all()

    return await asyncio.to_thread(call)


async def eventually(is_so: Callable[[], Any]) -> None:
    """Waits as `until` does, beside the event loop."""
    await in_thread(lambda: until(is_so))
