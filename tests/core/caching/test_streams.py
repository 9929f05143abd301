"""Streams and the cache: recording, replay and single-flight."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from llm_routing.core.caching.executor import CachedResult
from llm_routing.core.caching.rules import MAX_ENTRY_BYTES, CacheRule
from llm_routing.core.errors import (
    AllTargetsFailed,
    ConnectionLost,
    MalformedAnswer,
    TruncatedStream,
)
from llm_routing.core.ports import FrameStream
from llm_routing.core.routing_table import StreamRecovery
from llm_routing.core.types import CacheState, Usage
from tests.core.fakes import (
    Reply,
    call,
    lines,
    plan_for,
    target,
    with_prefill,
)
from tests.core.virtual_time import in_virtual_time

from .cached_world import RULE, Cached, Chat, FakeShared, frames, together


def told(stream: CachedResult[FrameStream]) -> tuple[Usage | None, Decimal | None, Any] | None:
    """Returns the facts at the end of a stream: usage, cost, and time to first token."""
    account = stream.value.account
    return (
        None if account is None else (account.usage, account.cost, account.time_to_first_token_ms)
    )


@in_virtual_time
async def test_a_stream_is_replayed_unchanged() -> None:
    world = Cached()
    world.script("one", lines("start:/text:Hel", "lo/text:you/", 3.0, "usage:3,4/finish/end/"))
    first = await world.open()
    assert told(first) is None
    sent = await frames(first.value)
    second = await world.open()
    assert (first.cache, second.cache) == (CacheState.MISS, CacheState.HIT)
    assert await frames(second.value) == sent
    assert told(first) == (Usage(3, 4), Decimal("0.011"), 0.0)
    assert told(second) == (Usage(3, 4), Decimal(0), None)
    assert (second.cost, second.attempts) == (Decimal(0), ())
    assert len(world.transport.sent) == 1


@in_virtual_time
async def test_a_stream_that_ended_with_its_connection_is_replayed_too() -> None:
    world = Cached()
    world.script("one", lines("text:hello/finish/"))
    first, second = await world.read(), await world.read()
    assert first[1] == second[1]
    assert second[0] is CacheState.HIT


@in_virtual_time
async def test_a_long_stream_is_replayed_in_pieces() -> None:
    world = Cached()
    long = "/".join(f"text:{number:0100}" for number in range(1000)) + "/finish/end/"
    world.script("one", lines(long))
    _, first = await world.read()
    opened = await world.open()
    batches = [await opened.value.__anext__() for _ in range(7)]
    assert [frame for batch in batches for frame in batch] == first
    assert all(len(batch) < 200 for batch in batches)


@in_virtual_time
async def test_a_thousand_equal_streams_are_one_call() -> None:
    world = Cached(FakeShared())
    world.script("one", lines("text:a/", 2.0, "text:b/finish/end/", delay=2))
    found = await together(*(world.read() for _ in range(1000)))
    assert len(world.transport.sent) == 1
    assert [state for state, _ in found].count(CacheState.HIT) == 999
    assert all(replayed == found[0][1] for _, replayed in found)


@pytest.mark.parametrize(
    ("chunks", "keeps_tool_calls", "is_kept"),
    [
        (("text:a/finish/end/",), False, True),
        (("call/finish/end/",), False, False),
        (("call/finish/end/",), True, True),
        (("refuse:no/finish/end/",), False, False),
        (("text:a/finish/", "x" * MAX_ENTRY_BYTES + "/", "end/"), False, False),
    ],
    ids=["text", "call", "call, asked for", "refusal", "too large"],
)
@in_virtual_time
async def test_only_a_complete_stream_is_stored(
    chunks: tuple[str, ...], keeps_tool_calls: bool, is_kept: bool
) -> None:
    world = Cached()
    world.script("one", lines(*chunks), lines(*chunks))
    rule = CacheRule(60, keeps_tool_calls=keeps_tool_calls)
    await world.read(rule)
    assert (await world.read(rule))[0] is (CacheState.HIT if is_kept else CacheState.MISS)


@in_virtual_time
async def test_a_broken_or_abandoned_stream_is_not_stored_and_another_request_takes_over() -> None:
    shared = FakeShared()
    world = Cached(shared)
    world.script("one", lines("text:a/", 1.0, "text:b/"), lines("text:a/", 1.0, "finish/end/"))
    world.script("one", lines("text:a/finish/end/"))
    broken = await world.open()
    waiting = asyncio.create_task(world.open())
    with pytest.raises(TruncatedStream):
        await frames(broken.value)
    assert not waiting.done()
    left = await waiting
    waiting = asyncio.create_task(world.open())
    await left.value.__anext__()
    await left.value.aclose()
    await left.value.aclose()
    assert (await waiting).cache is CacheState.MISS
    await (await waiting).value.aclose()
    assert len(world.transport.sent) == 3
    assert not shared.leases
    assert (world.memory.size.entries, shared.answers) == (0, {})


@in_virtual_time
async def test_a_stream_that_fails_to_open_leaves_no_request_waiting() -> None:
    world = Cached(FakeShared())
    world.script("one", Reply(delay=1, fails=MalformedAnswer("x")))
    world.script("one", lines("text:a/finish/end/"))
    failed, good = await together(world.open(), world.read())
    assert isinstance(failed, AllTargetsFailed)
    assert good[0] is CacheState.MISS


@in_virtual_time
async def test_an_unreadable_stream_is_a_miss() -> None:
    world = Cached()
    world.script("one", *(lines("text:a/finish/end/") for _ in range(2)))
    await world.read()
    with pytest.raises(AllTargetsFailed):
        await world.open(old=True)
    assert world.shelf.hits == 0
    assert len(world.transport.sent) == 2


@in_virtual_time
async def test_an_answer_of_two_targets_is_not_stored() -> None:
    world = Cached()
    plan = plan_for(
        [with_prefill(target(name)) for name in ("one", "two")],
        stream_recovery=StreamRecovery.CONTINUE,
    )
    world.script("one", lines("text:a/", ConnectionLost("Cut.")), lines("text:a/finish/end/"))
    world.script("two", lines("text: b/finish/end/"))
    for state in (CacheState.MISS, CacheState.MISS, CacheState.HIT):
        answer = await world.cached.open_stream(Chat("stream!"), plan, call(), (RULE,))
        assert await frames(answer.value)
        assert answer.cache is state
        assert len(answer.value.attempts) == (2 if len(world.transport.sent) == 2 else 0)
        await answer.value.aclose()
