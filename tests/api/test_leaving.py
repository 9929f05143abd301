"""A caller that disconnects ends the upstream call, in every phase."""

import asyncio

import pytest

from llm_routing import close_routers
from llm_routing.models import UsageRecord
from llm_routing.process.admission import admission
from llm_routing.sandbox import Outcome
from llm_routing.sandbox.journal import Entry

from .callers import calling, configure, until
from .conftest import Gateway

PATHS = ("/api/llm/complete", "/v1/chat/completions", "/v1/messages")
LONG = "[[words=50000]]"


async def accounts(expected: int) -> list[UsageRecord]:
    await close_routers()
    records = [record async for record in UsageRecord.objects.order_by("id")]
    assert len(records) == expected
    return records


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", ["delay=60", "first_token_delay=60"])
async def test_a_disconnect_before_the_first_token_closes_the_upstream(
    gateway: Gateway, fault: str, stream: bool
) -> None:
    async with calling(gateway, f"[[{fault}]]", stream=stream):
        await until(lambda: len(gateway.sandbox.journal.entries) == 1)
        (entry,) = gateway.sandbox.journal.entries
        await asyncio.sleep(0.1)
    await until(lambda: entry.outcome is Outcome.CLIENT_DISCONNECTED)
    (record,) = await accounts(1)
    assert record.outcome == "cancelled"


@pytest.mark.parametrize("path", PATHS)
async def test_a_disconnect_in_the_middle_closes_the_upstream(gateway: Gateway, path: str) -> None:
    async with calling(gateway, "[[words=2000 token_delay=0.02]]", path) as caller:
        await caller.read_until(b"data:")
        (entry,) = gateway.sandbox.journal.entries
    await until(lambda: entry.outcome is Outcome.CLIENT_DISCONNECTED)
    (record,) = await accounts(1)
    assert (record.outcome, record.is_estimated) == ("cancelled", True)
    assert record.output_tokens > 0


async def test_a_disconnect_during_a_silent_stream_closes_the_upstream(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await configure(monkeypatch, keep_alive_interval=0.1)
    async with calling(gateway, "[[stall_after=3]]") as caller:
        await caller.read_until(b": keep-alive\n\n")
        (entry,) = gateway.sandbox.journal.entries
    await until(lambda: entry.outcome is Outcome.CLIENT_DISCONNECTED)
    (record,) = await accounts(1)
    assert record.outcome == "cancelled"


async def test_a_disconnect_without_reading_closes_the_upstream(gateway: Gateway) -> None:
    async with calling(gateway, LONG) as caller:
        await caller.read_until(b"data:")
        (entry,) = gateway.sandbox.journal.entries
        await until_nothing_moves(entry)
        assert entry.outcome is Outcome.IN_PROGRESS
    await until(lambda: entry.outcome is Outcome.CLIENT_DISCONNECTED)
    (record,) = await accounts(1)
    assert record.outcome == "cancelled"


async def until_nothing_moves(entry: Entry) -> None:
    """Waits until the upstream is blocked by a caller that does not read."""
    before = -1
    while entry.events != before:
        before = entry.events
        await asyncio.sleep(0.3)


async def test_a_disconnect_in_the_queue_makes_no_upstream_call(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await configure(monkeypatch, max_concurrency=1)
    async with calling(gateway, "[[delay=60]]"):
        await until(lambda: len(gateway.sandbox.journal.entries) == 1)
        async with calling(gateway, "Hi"):
            await until(lambda: admission.status.queued == 1)
        await until(lambda: admission.status.queued == 0)
    assert (await gateway.complete()).status_code == 200
    assert len(gateway.sandbox.journal.entries) == 2
    await until(lambda: admission.status.in_use == 0)


async def test_a_disconnect_in_a_provider_s_queue_makes_no_record(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTION_POOL_SIZE", "1")
    await configure(monkeypatch)
    async with calling(gateway, "[[delay=60]]"):
        await until(lambda: len(gateway.sandbox.journal.entries) == 1)
        async with calling(gateway, "Hi"):
            await until(lambda: admission.status.in_use == 2)
            await asyncio.sleep(0.1)
        await until(lambda: admission.status.in_use == 1)
    await until(lambda: admission.status.in_use == 0)
    (record,) = await accounts(1)
    assert record.outcome == "cancelled"
