"""The lean handler: no thread, no query, a bounded body, and an end after a disconnect."""

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from llm_routing import BaseLLMRouter
from llm_routing.access.api_keys import api_keys
from llm_routing.conf import get_settings
from llm_routing.models import UsageRecord
from llm_routing.process.background import ensure_background
from tests.router.conftest import Configuration

from .exchange import Exchange, application, chat, watch_hops


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat("Hi")),
        ("/v1/chat/completions", chat("Hi", stream=True)),
        ("/api/llm/complete", b'{"messages": "Hi", "use_case": "debugging"}'),
        ("/api/llm/complete", b'{"messages": "Hi", "use_case": "debugging", "stream": true}'),
        ("/v1/messages", chat("Hi", max_tokens=50)),
        ("/v1/messages", chat("Hi", max_tokens=50, stream=True)),
    ],
)
async def test_a_warm_completion_starts_no_thread_and_asks_no_database(
    key: str, path: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm = await Exchange(path, body, key).run()
    assert warm.status == 200, warm.content

    hops = watch_hops(monkeypatch)
    answer = await Exchange(path, body, key).run()
    assert answer.status == 200
    assert hops == []


async def test_the_counters_notice_the_cost_of_a_cold_key(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api_keys.clear()
    hops = watch_hops(monkeypatch)
    assert (await Exchange("/v1/chat/completions", chat("Hi"), key).run()).status == 200
    assert any(hop.startswith("executor") for hop in hops)
    assert any(hop.startswith("query") for hop in hops)


async def test_a_body_past_the_limit_is_refused_before_it_is_read_whole(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_MAX_BODY_BYTES", "1024")
    get_settings.cache_clear()
    exchange = Exchange("/v1/chat/completions", b"x" * 600, key)

    async def endless() -> Mapping[str, Any]:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"x" * 600, "more_body": True}

    exchange.receive = endless  # type: ignore[method-assign]  # a caller who never stops
    await asyncio.wait_for(_until_answered(exchange), 90)
    assert exchange.status == 413
    assert json.loads(exchange.content)["error"]["code"]


async def test_a_client_without_a_key_cannot_fill_the_memory(router: BaseLLMRouter) -> None:
    exchange = Exchange("/v1/chat/completions", chat("Hi"), "sk-llm-wrong")
    body = exchange.receive
    taken = 0

    async def counted() -> Mapping[str, Any]:
        nonlocal taken
        # Once the answer has begun, the body is waited for no more: only the caller's leaving is.
        taken += not exchange.sent
        return await body()

    exchange.receive = counted  # type: ignore[method-assign]  # a caller who is watched
    await exchange.run()
    assert exchange.status == 401
    assert taken <= 1


async def test_a_body_that_does_not_arrive_is_not_waited_for_forever(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_routing.serving.request_monitor.BODY_TIMEOUT", 0.1)
    exchange = Exchange("/v1/chat/completions", b"", key)

    async def slow() -> Mapping[str, Any]:
        await asyncio.sleep(0.04)
        return {"type": "http.request", "body": b"x", "more_body": True}

    exchange.receive = slow  # type: ignore[method-assign]  # a caller who dawdles
    await asyncio.wait_for(_until_answered(exchange), 90)
    assert exchange.status == 408


async def test_a_web_socket_is_refused_quietly() -> None:
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Mapping[str, Any]:
        return {"type": "websocket.connect"}

    async def send(event: Mapping[str, Any]) -> None:
        sent.append(event)

    await application({"type": "websocket", "path": "/v1/chat"}, receive, send)
    assert [event["type"] for event in sent] == ["websocket.close"]


async def _until_answered(exchange: Exchange) -> None:
    running = asyncio.create_task(exchange.run())
    while not (exchange.sent and not exchange.sent[-1].get("more_body", False)):
        await asyncio.sleep(0.01)
        if running.done():
            break
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_disconnect_ends_the_upstream_call(
    key: str, router: BaseLLMRouter, stream: bool
) -> None:
    text = "[[token_delay=0.2]] on and on" if stream else "[[delay=20]] slow"
    exchange = Exchange("/v1/chat/completions", chat(text, stream=stream), key)
    running = asyncio.create_task(exchange.run())
    async with asyncio.timeout(90):
        if stream:
            exchange.leaves_after = 1
        else:
            while not ensure_background().ledger.open_attempts:
                await asyncio.sleep(0.01)
            exchange.left.set()
        await running
    from llm_routing import close_routers

    await close_routers()
    record = await UsageRecord.objects.aget()
    assert record.outcome == "cancelled"


async def test_everything_else_is_django_s(key: str) -> None:
    page = await Exchange("/admin/login/", b"", key, method="GET").run()
    assert page.status == 200
    assert b"csrfmiddlewaretoken" in page.content
    assert (await Exchange("/nowhere", b"", key, method="GET").run()).status == 404


async def test_lifespan_opens_and_closes(
    configuration: Configuration, clean_process: None, connections_given_back: None
) -> None:
    events = iter(["lifespan.startup", "lifespan.shutdown"])
    said: list[str] = []

    async def receive() -> Mapping[str, Any]:
        return {"type": next(events)}

    async def send(event: Mapping[str, Any]) -> None:
        said.append(event["type"])
        if event["type"] == "lifespan.startup.complete":
            names = {thread.name for thread in threading.enumerate()}
            assert "llm_routing" in names

    await application({"type": "lifespan"}, receive, send)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert "llm_routing" not in {thread.name for thread in threading.enumerate()}
