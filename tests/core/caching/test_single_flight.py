"""Single-flight: concurrent identical requests share one upstream call, also between processes."""

import asyncio

import pytest

from llm_routing.core.errors import (
    AllTargetsFailed,
    DeadlineExceeded,
    MalformedAnswer,
    ServerFailed,
)
from llm_routing.core.types import CacheState
from tests.core.fakes import (
    Reply,
    call,
    text,
)
from tests.core.virtual_time import in_virtual_time

from .cached_world import Cached, FakeShared, said, together


@in_virtual_time
async def test_a_thousand_equal_requests_are_one_call() -> None:
    world = Cached()
    world.script("one", text("hello", delay=5))
    answers = await together(*(world.ask() for _ in range(1000)))
    assert [answer.cache for answer in answers].count(CacheState.MISS) == 1
    assert {said(answer)[1] for answer in answers} == {"hello"}
    assert len(world.transport.sent) == 1
    # Waiting for another request's answer counts as upstream time.
    assert {round(answer.upstream_seconds) for answer in answers} == {5}


@in_virtual_time
async def test_an_answer_too_large_for_memory_still_reaches_the_waiters() -> None:
    world = Cached(max_entries=0)
    world.script("one", text("hello", delay=5), text("again"))
    answers = await together(world.ask(), world.ask())
    assert [said(answer) for answer in answers] == [("miss", "hello"), ("hit", "hello")]
    assert said(await world.ask()) == ("miss", "again")


@in_virtual_time
async def test_an_uncacheable_answer_is_not_shared_and_makes_nobody_wait() -> None:
    world = Cached(FakeShared())
    world.script("one", *(text("cut:length", delay=5) for _ in range(10)))
    answers = await together(*(world.ask() for _ in range(9)))
    assert {said(answer) for answer in answers} == {("miss", "cut")}
    assert [sent.at for sent in world.transport.sent] == [1000, *[1005] * 8]
    assert (await world.ask()).cache is CacheState.MISS
    assert (world.memory.size.entries, world.shelf.hits) == (0, 0)


@in_virtual_time
async def test_a_failure_of_the_leading_request_is_not_shared() -> None:
    world = Cached(FakeShared())
    world.script("one", Reply(delay=5, fails=MalformedAnswer("x")), text("hello", delay=5))
    answers = await together(*(world.ask() for _ in range(100)))
    assert [type(answer) for answer in answers].count(AllTargetsFailed) == 1
    assert [said(answer) for answer in answers[1:]] == [
        ("miss", "hello"),
        *[("hit", "hello")] * 98,
    ]
    assert len(world.transport.sent) == 2


@in_virtual_time
async def test_requests_do_not_wait_forever_for_leaders_that_fail() -> None:
    world = Cached()
    world.script("one", *(Reply(delay=1, fails=ServerFailed("x")) for _ in range(1000)))
    began = asyncio.get_running_loop().time()
    answers = await together(*(world.ask() for _ in range(100)))
    assert {type(answer) for answer in answers} == {AllTargetsFailed}
    # Three leaders one after another, then each request calls upstream itself.
    assert asyncio.get_running_loop().time() - began < 20
    assert len(world.transport.sent) == 100


@in_virtual_time
async def test_when_the_leading_caller_disconnects_another_request_takes_over() -> None:
    shared = FakeShared()
    world = Cached(shared)
    world.script("one", text("lost", delay=50), text("hello", delay=5))
    leader = asyncio.create_task(world.ask())
    others = [asyncio.create_task(world.ask()) for _ in range(50)]
    await asyncio.sleep(2)
    leader.cancel()
    answers = await together(leader, *others)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert {said(answer)[1] for answer in answers[1:]} == {"hello"}
    assert len(world.transport.sent) == 2
    assert not shared.leases
    assert world.ledger.outcomes[0] == ("one", "cancelled", "")


@in_virtual_time
async def test_a_waiter_that_disconnects_does_not_affect_others() -> None:
    world = Cached()
    world.script("one", text("hello", delay=5))
    tasks = [asyncio.create_task(world.ask()) for _ in range(3)]
    await asyncio.sleep(1)
    tasks[1].cancel()
    first, _, third = await together(*tasks)
    assert (said(first), said(third)) == (("miss", "hello"), ("hit", "hello"))


@in_virtual_time
async def test_a_waiter_keeps_half_of_its_time_for_its_own_call() -> None:
    world = Cached()
    world.script("one", text("late", delay=50), text("mine", delay=3))
    slow = asyncio.create_task(world.ask())
    await asyncio.sleep(0)
    began = asyncio.get_running_loop().time()
    assert said(await world.ask(asked=call(10))) == ("miss", "mine")
    assert asyncio.get_running_loop().time() - began == pytest.approx(8)
    # The first request finishes too; the cache holds the answer that arrived last.
    assert said(await slow) == ("miss", "late")
    assert said(await world.ask()) == ("hit", "late")


@in_virtual_time
async def test_without_time_left_the_deadline_is_exceeded() -> None:
    world = Cached()
    world.script("one", text("late", delay=50), text("never", delay=50))
    slow = asyncio.create_task(world.ask())
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded):
        await world.ask(asked=call(2))
    await slow


@in_virtual_time
async def test_processes_share_one_call() -> None:
    shared = FakeShared()
    worlds = [Cached(shared) for _ in range(4)]
    for world in worlds:
        world.script("one", text("hello", delay=5))
    answers = await together(*(world.ask() for world in worlds for _ in range(250)))
    assert [answer.cache for answer in answers].count(CacheState.MISS) == 1
    assert sum(len(world.transport.sent) for world in worlds) == 1
    assert sum(world.shelf.misses for world in worlds) == 1
    claims = shared.claims
    assert {said(await world.ask()) for world in worlds} == {("hit", "hello")}
    assert shared.claims == claims, "what is in memory is not looked for elsewhere"


@in_virtual_time
async def test_a_lease_that_is_never_released_does_not_block_forever() -> None:
    shared = FakeShared()
    first, second = Cached(shared), Cached(shared)
    first.script("one", text("lost", delay=1000))
    second.script("one", text("hello", delay=5))
    stuck = asyncio.create_task(first.ask(asked=call(2000)))
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    assert said(await second.ask(asked=call(20))) == ("miss", "hello")
    assert asyncio.get_running_loop().time() - began == pytest.approx(15, abs=0.2)
    stuck.cancel()
    await together(stuck)


@in_virtual_time
async def test_an_unavailable_shared_cache_is_ignored() -> None:
    shared = FakeShared()
    shared.is_away = True
    world = Cached(shared)
    world.script("one", text("hello", delay=5))
    answers = await together(world.ask(), world.ask())
    assert [said(answer) for answer in answers] == [("miss", "hello"), ("hit", "hello")]


@in_virtual_time
async def test_a_disconnect_during_the_shared_lookup_lets_another_request_look() -> None:
    shared = FakeShared()
    world = Cached(shared)
    world.script("one", text("hello"))
    first = asyncio.create_task(world.ask())
    second = asyncio.create_task(world.ask())
    await asyncio.sleep(0)
    first.cancel()
    assert said(await second) == ("miss", "hello")


@pytest.mark.parametrize("shared", [None, FakeShared()])
@in_virtual_time
async def test_closing_the_cache_closes_the_shared_cache(shared: FakeShared | None) -> None:
    closed = []

    async def close() -> None:
        closed.append(shared)

    if shared is not None:
        shared.aclose = close  # type: ignore[method-assign]
    await Cached(shared).shelf.aclose()
    assert closed == ([] if shared is None else [shared])
