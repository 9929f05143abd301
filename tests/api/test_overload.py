"""More requests than there is room for: some wait, the rest hears so at once."""

import asyncio
from collections import Counter
from itertools import accumulate
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async

from llm_routing import close_routers, get_llm_router
from llm_routing.core.errors import Overloaded
from llm_routing.models import Provider, UsageRecord
from llm_routing.process.admission import admission
from tests.faults.tcp_proxy import TcpProxy

from .callers import calling, configure, until
from .conftest import Gateway

CALLERS = 200
ERRORS = {
    "/api/llm/complete": lambda body: body["error"]["code"],
    "/v1/chat/completions": lambda body: body["error"]["code"],
    "/v1/messages": lambda body: body["error"]["type"],
}


def most_at_one_time(gateway: Gateway) -> int:
    """Returns the maximum number of concurrent upstream calls, from the sandbox's own log."""
    changes = []
    for entry in gateway.sandbox.journal.entries:
        assert entry.duration is not None
        changes += [(entry.received_at, 1), (entry.received_at + entry.duration, -1)]
    return max(accumulate(change for _, change in sorted(changes)))


async def crowd(gateway: Gateway, text: str, **more: Any) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=CALLERS)
    async with httpx.AsyncClient(
        base_url=gateway.url, limits=limits, timeout=60, trust_env=False
    ) as client:

        async def one() -> httpx.Response:
            return await client.post(
                "/api/llm/complete",
                json={"messages": text, "use_case": "debugging", **more},
                headers={"x-api-key": gateway.key},
            )

        return list(await asyncio.gather(*(one() for _ in range(CALLERS))))


@pytest.mark.parametrize("stream", [False, True])
async def test_of_many_callers_as_many_as_the_limit_are_upstream_at_one_time(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    await configure(monkeypatch, max_concurrency=10, max_queued=50)
    answers = await crowd(gateway, "Hi [[delay=1.5]]", stream=stream, cache=False)
    assert most_at_one_time(gateway) == 10
    counts = Counter(answer.status_code for answer in answers)
    # At least those that there was a place for, and as many more as arrived when others had left.
    assert counts[200] >= 60
    assert counts[503] == CALLERS - counts[200] > 0
    for answer in answers:
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["code"] == "overloaded"
    assert len(gateway.sandbox.journal.entries) == counts[200]
    assert admission.status.in_use == admission.status.queued == 0
    assert admission.status.shed == counts[503]


async def test_requests_beyond_a_provider_s_connections_go_to_the_next_target(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sync_to_async(Provider.objects.filter(name="first").update)(max_connections=10)
    await sync_to_async(Provider.objects.filter(name="second").update)(max_connections=20)
    await configure(monkeypatch, max_queued=10)
    # So slow that the crowd gathers faster than it is served, on any machine.
    answers = await crowd(gateway, "Hi [[delay=2]]", cache=False)
    assert most_at_one_time(gateway) == 30
    counts = Counter(answer.status_code for answer in answers)
    assert counts[200] >= 50
    assert counts[503] == CALLERS - counts[200] > 0
    models = Counter(entry.model for entry in gateway.sandbox.journal.entries)
    assert models["org/alpha:1"] >= 20
    assert models["beta"] >= 30
    assert models.total() == counts[200]
    for answer in answers:
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            error = answer.json()["error"]
            assert error["code"] == "no_target_available"
            assert [one["reason"] for one in error["attempts"]] == ["provider_busy"] * 2
    await close_routers()
    # Targets without a call have no record.
    assert await UsageRecord.objects.acount() == counts[200]


async def test_a_provider_s_connections_are_kept_and_used_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TcpProxy(gateway.sandbox.openai_url) as proxy:
        await sync_to_async(Provider.objects.update)(max_connections=1, base_url=proxy.url)
        await configure(monkeypatch)
        await asyncio.gather(*(gateway.complete(f"Hi {number}") for number in range(10)))
        assert len(gateway.sandbox.journal.entries) == 10
        assert proxy.accepted == 1
        await close_routers()


@pytest.mark.parametrize("path", ERRORS)
async def test_rejection_uses_the_caller_s_format_before_the_body_is_read(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    await configure(monkeypatch, max_concurrency=1, max_queued=0)
    async with calling(gateway, "[[delay=60]]"):
        await until(lambda: admission.status.in_use == 1)
        answer = await gateway.post(path, b"no JSON")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert ERRORS[path](answer.json()) in ("overloaded", "overloaded_error")
        assert admission.status.shed == 1


async def test_health_and_metrics_are_never_refused(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await configure(monkeypatch, max_concurrency=1, max_queued=1)
    async with calling(gateway, "[[delay=60]]"), calling(gateway, "[[delay=60]]"):
        await until(lambda: admission.status.queued == 1)
        assert (await gateway.complete()).status_code == 503
        for path in ("/api/llm/health", "/api/llm/health/ready", "/api/llm/models", "/v1/models"):
            assert (await gateway.client.get(path)).status_code == 200, path
        text = (await gateway.client.get("/metrics")).text
        assert 'llm_routing_queued_requests{provider="",where="process"} 1.0' in text
        assert 'llm_routing_shed_total{provider="",where="process"} 1.0' in text
        assert 'llm_routing_queued_requests{provider="first",where="provider"} 0.0' in text


async def test_calls_in_process_are_limited_too_and_share_the_places(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await configure(monkeypatch, max_concurrency=1, max_queued=0)
    router = await get_llm_router()
    async with calling(gateway, "[[delay=60]]"):
        await until(lambda: admission.status.in_use == 1)
        with pytest.raises(Overloaded) as caught:
            await router.complete("Hi", "debugging")
        assert caught.value.retry_after == 1
        with pytest.raises(Overloaded):
            await sync_to_async(router.complete_sync)("Hi", "debugging")
        with pytest.raises(Overloaded):
            await router.embed("Hi", use_case="memory_processing")
    await until(lambda: admission.status.in_use == 0)
    assert (await sync_to_async(router.complete_sync)("Hi", "debugging")).content
    assert [event async for event in router.stream("Hi there", "debugging")]
    assert admission.status.in_use == 0


async def test_a_queued_request_is_rejected_at_its_deadline(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await configure(monkeypatch, max_concurrency=1)
    async with calling(gateway, "[[delay=60]]"):
        await until(lambda: admission.status.in_use == 1)
        headers = {"X-Request-Timeout": "0.3"}
        body = {"messages": "Hi", "use_case": "debugging"}
        answer = await gateway.post("/api/llm/complete", body, headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
    assert len(gateway.sandbox.journal.entries) == 1
