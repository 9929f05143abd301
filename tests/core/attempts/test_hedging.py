"""A first target that is slower than usual has the next one asked beside it."""

import asyncio

import pytest

from llm_routing.core.errors import AllTargetsFailed, ConnectionLost, RequestRejected
from llm_routing.core.events import TextDelta
from llm_routing.core.routing_table import StreamRecovery
from llm_routing.core.types import AttemptOutcome
from tests.core.fakes import (
    Reply,
    TextOperation,
    World,
    call,
    failing,
    lines,
    plan_for,
    refusal,
    target,
    text,
    with_prefill,
)
from tests.core.virtual_time import in_virtual_time

OPERATION = TextOperation()
CANCELLED = AttemptOutcome.CANCELLED


def hedged(providers: str = "ab", usual: float = 1.0, **options: int) -> World:
    world = World(**options)  # type: ignore[arg-type]  # `retries` alone is given
    world.expect(usual, providers)
    return world


@in_virtual_time
async def test_the_next_target_answers_where_the_first_is_slower_than_it_usually_is() -> None:
    world = hedged()
    world.script("a", text("late", delay=30))
    world.script("b", text("Hello", delay=0.5))
    result = await world.executor.complete(OPERATION, plan_for("ab", is_hedged=True), call())
    assert result.value == "Hello"
    assert [sent.at - 1000 for sent in world.transport.sent] == pytest.approx([0, 1])
    assert asyncio.get_running_loop().time() - 1000 == pytest.approx(1.5)
    assert result.upstream_seconds == pytest.approx(1.5)
    assert [(tried.provider, tried.outcome.value) for tried in result.attempts] == [
        ("a", "cancelled"),
        ("b", "success"),
    ]
    assert [account.number for account in world.ledger.accounts] == [1, 2]
    assert {settled.outcome for settled in world.ledger.ends} == {"success", "cancelled"}
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_the_first_target_may_still_win() -> None:
    world = hedged()
    world.script("a", text("Hello", delay=2))
    world.script("b", text("late", delay=30))
    result = await world.executor.complete(OPERATION, plan_for("ab", is_hedged=True), call())
    assert result.value == "Hello"
    assert [(tried.provider, tried.outcome.value) for tried in result.attempts] == [
        ("b", "cancelled"),
        ("a", "success"),
    ]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_streams_race_for_the_first_content() -> None:
    world = hedged()
    world.script("a", lines("start", 30.0, "text:late", "finish/end"))
    world.script("b", lines("start/text:Hello", 5.0, "finish/end"))
    plan = plan_for("ab", is_hedged=True)
    stream = (await world.executor.open_stream(OPERATION, plan, call())).value
    frames = [frame.raw for batch in [batch async for batch in stream] for frame in batch]
    await stream.aclose()
    assert b"text:Hello" in frames
    assert sorted(world.ledger.outcomes) == [("a", "cancelled", ""), ("b", "success", "")]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_two_streams_that_begin_at_once_are_one_answer() -> None:
    world = hedged()
    world.script("a", lines(3.0, "text:a", 9.0, "finish/end"))
    world.script("b", lines(2.0, "text:b", 9.0, "finish/end"))
    plan = plan_for("ab", is_hedged=True)
    result = await world.executor.open_stream(OPERATION, plan, call())
    assert [tried.outcome for tried in result.attempts].count(CANCELLED) == 1
    assert [batch async for batch in result.value]
    await result.value.aclose()
    world.assert_accounts_are_closed()


@pytest.mark.parametrize("providers", ["a", "ab"])
@in_virtual_time
async def test_who_has_no_other_target_or_no_usual_time_waits(providers: str) -> None:
    world = hedged("") if providers == "ab" else hedged()
    world.script("a", text("Hello", delay=30))
    await world.executor.complete(OPERATION, plan_for(providers, is_hedged=True), call())
    assert world.asked() == ["a"]


@in_virtual_time
async def test_routes_that_are_not_hedged_wait() -> None:
    world = hedged()
    world.script("a", text("Hello", delay=30))
    await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert world.asked() == ["a"]


@in_virtual_time
async def test_a_budget_bounds_the_extra_calls() -> None:
    world = World()
    for _ in range(5):
        world.expect(1.0, "ab")
    plan = plan_for("ab", is_hedged=True)
    for _ in range(5):
        world.script("a", text("Hello", delay=5))
        world.script("b", text("Hello", delay=30))
        await world.executor.complete(OPERATION, plan, call())
    # One in ten seconds, of requests that take five.
    assert world.asked() == ["a", "b", "a", "a", "b", "a", "a", "b"]


@in_virtual_time
async def test_where_one_fails_the_other_goes_on() -> None:
    world = hedged("abc")
    world.script("a", Reply(delay=2, fails=failing(RequestRejected("No.")).fails))
    world.script("b", text("Hello", delay=5))
    result = await world.executor.complete(OPERATION, plan_for("abc", is_hedged=True), call())
    assert (result.value, world.asked()) == ("Hello", ["a", "b"])
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_where_both_fail_the_rest_is_asked() -> None:
    world = hedged("abc")
    world.script("a", Reply((b"No.",), 500, delay=2))
    world.script("b", Reply((b"No.",), 500, delay=2))
    world.script("c", text("Hello"))
    result = await world.executor.complete(OPERATION, plan_for("abc", is_hedged=True), call())
    assert (result.value, world.asked()) == ("Hello", ["a", "b", "c"])
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_where_all_fail_all_are_told_of() -> None:
    world = hedged()
    world.script("a", Reply((b"No.",), 500, delay=2))
    world.script("b", refusal(500))
    with pytest.raises(AllTargetsFailed) as caught:
        await world.executor.complete(OPERATION, plan_for("ab", is_hedged=True), call())
    assert sorted(tried.provider for tried in caught.value.attempts) == ["a", "b"]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_at_most_four_attempts_are_made_by_both_together() -> None:
    world = hedged("abcdef", retries=9)
    for provider in "abcdef":
        world.script(provider, *(Reply((b"No.",), 500, delay=2) for _ in range(3)))
    with pytest.raises(AllTargetsFailed):
        await world.executor.complete(OPERATION, plan_for("abcdef", is_hedged=True), call())
    assert len(world.asked()) <= 4
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_caller_who_leaves_ends_both() -> None:
    world = hedged()
    world.script("a", text("late", delay=30))
    world.script("b", text("late", delay=30))
    plan = plan_for("ab", is_hedged=True)
    task = asyncio.ensure_future(world.executor.complete(OPERATION, plan, call()))
    await asyncio.sleep(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(world.ledger.outcomes) == [("a", "cancelled", ""), ("b", "cancelled", "")]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_fault_of_ours_ends_both() -> None:
    world = hedged()
    world.script("a", text("late", delay=30))
    world.script("b", text("bug", delay=3))
    with pytest.raises(ZeroDivisionError):
        await world.executor.complete(OPERATION, plan_for("ab", is_hedged=True), call())
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_target_that_is_slow_from_now_on_is_no_longer_waited_for_as_briefly() -> None:
    world = hedged()
    plan = plan_for([target("a"), target("b")], is_hedged=True)
    for _ in range(30):
        world.script("a", text("slow", delay=4))
        world.script("b", text("Hello"))
        await world.executor.complete(OPERATION, plan, call())
    asked = world.asked()
    assert asked[-2:] == ["a", "a"]


@in_virtual_time
async def test_an_answer_that_is_there_does_not_wait_for_a_place_at_the_next_target() -> None:
    world = hedged(pool_size=1)
    world.script("b", text("another's", delay=50))
    other = asyncio.create_task(world.executor.complete(OPERATION, plan_for("b"), call()))
    await asyncio.sleep(0)
    world.script("a", text("Hello", delay=2))
    result = await world.executor.complete(OPERATION, plan_for("ab", is_hedged=True), call())
    assert result.value == "Hello"
    assert asyncio.get_running_loop().time() - 1000 == pytest.approx(2)
    assert (await other).value == "another's"
    assert world.asked() == ["b", "a"]
    assert {status.in_use for status in world.limits.statuses().values()} == {0}
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_place_that_comes_free_in_time_is_used() -> None:
    world = hedged(pool_size=1)
    world.script("b", text("another's", delay=3), text("Hello", delay=1))
    other = asyncio.create_task(world.executor.complete(OPERATION, plan_for("b"), call()))
    await asyncio.sleep(0)
    world.script("a", text("late", delay=30))
    result = await world.executor.complete(OPERATION, plan_for("ab", is_hedged=True), call())
    assert result.value == "Hello"
    assert asyncio.get_running_loop().time() - 1000 == pytest.approx(4)
    await other
    assert min(world.ledger.outcomes) == ("a", "cancelled", "")
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_target_that_was_waited_for_in_vain_may_still_go_on_with_the_answer() -> None:
    world = hedged(pool_size=1)
    world.script("b", text("another's", delay=5), lines("start/text:lo", "finish/end"))
    other = asyncio.create_task(world.executor.complete(OPERATION, plan_for("b"), call()))
    await asyncio.sleep(0)
    world.script("a", lines("start/text:Hel", 8.0, ConnectionLost("Cut."), delay=2))
    able = [with_prefill(target(name)) for name in "ab"]
    plan = plan_for(able, is_hedged=True, stream_recovery=StreamRecovery.CONTINUE)
    stream = (await world.executor.open_stream(OPERATION, plan, call())).value
    batches = [batch async for batch in stream]
    await stream.aclose()
    await other
    events = [event for batch in batches for frame in batch for event in frame.events]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Hello"
    assert world.asked() == ["b", "a", "b"]
    world.assert_accounts_are_closed()
