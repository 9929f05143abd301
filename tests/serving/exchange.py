"""Requests to the application, over ASGI or HTTP, and a watch over threads and queries."""

import asyncio
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from django.db.backends.utils import CursorWrapper

from llm_routing.asgi import get_asgi_application
from tests.api.conftest import serving

CHAT_PATH = "/v1/chat/completions"
application = get_asgi_application()


@dataclass
class Exchange:
    """One request over ASGI, and its response."""

    path: str
    body: bytes
    key: str
    method: str = "POST"
    leaves_after: int | None = None
    sent: list[Mapping[str, Any]] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    received = 0

    async def run(self) -> "Exchange":
        headers = [(b"authorization", f"Bearer {self.key}".encode()), (b"host", b"localhost")]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await application(scope, self.receive, self.send)
        return self

    async def receive(self) -> Mapping[str, Any]:
        self.received += 1
        if self.received == 1:
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: Mapping[str, Any]) -> None:
        self.sent.append(event)
        if self.leaves_after is not None and len(self.sent) > self.leaves_after:
            self.left.set()
            await asyncio.sleep(0)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def content(self) -> bytes:
        return b"".join(event.get("body", b"") for event in self.sent[1:])


def chat(text: str, **more: Any) -> bytes:
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": "debugging", "messages": messages, **more}).encode()


async def ask(method: str, path: str, **options: Any) -> httpx.Response:
    """Sends a request to a new application behind a server."""
    async with (
        serving(get_asgi_application(), "off") as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        return await client.request(method, path, **options)


def watch_hops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records every started thread, executor call and query from now on, except those of the
    process's background thread."""
    hops: list[str] = []
    start, execute, run = (
        threading.Thread.start,
        CursorWrapper.execute,
        asyncio.BaseEventLoop.run_in_executor,
    )

    def watched_start(self: threading.Thread) -> None:
        hops.append(f"thread {self.name}")
        start(self)

    def watched_execute(self: CursorWrapper, sql: Any, params: Any = None) -> Any:
        if threading.current_thread().name != "llm_routing":
            hops.append(f"query {sql}")
        return execute(self, sql, params)

    def watched_run(self: asyncio.BaseEventLoop, executor: Any, func: Any, *args: Any) -> Any:
        hops.append(f"executor {func}")
        return run(self, executor, func, *args)

    monkeypatch.setattr(threading.Thread, "start", watched_start)
    monkeypatch.setattr(CursorWrapper, "execute", watched_execute)
    monkeypatch.setattr(asyncio.BaseEventLoop, "run_in_executor", watched_run)
    return hops
