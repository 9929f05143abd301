"""Hedging: if the first target is slower than usual, the next one is called too."""

import asyncio

import pytest

from llm_routing.core.attempts.chain import Result
from llm_routing.core.errors import AllTargetsFailed, ConnectionLost, RequestRejected
from llm_routing.core.events import TextDelta
from llm_routing.core.routing_table import StreamRecovery
from llm_routing.core.types import AttemptOutcome
from tests.core.fakes import (
    Reply,
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
from tests.core.text_operation import TextOperation
from tests.core.virtual_time import in_virtual_time

OPERATION = TextOperation()
CANCELLED = AttemptOutcome.CANCELLED


def hedged(providers: str = "ab", usual: float = 1.0, **options: int) -> World:
    world = World(**options)  # type: ignore[arg-type]  # `retries` alone is given
    world.expect(usual, providers)
    return world


async def race(world: World, providers: str = "ab") -> Result[str]:
    """Sends a request to a hedged route over `providers`."""
    return await world.executor.complete(OPERATION, plan_for(providers, is_hedged=True), call())


@in_virtual_time
async def test_the_next_target_answers_if_the_first_is_slower_than_usual() -> None:
    world = hedged()
    world.script("a", text("late", delay=30))
    world.script("b", text("Hello", delay=0.5))
    result = await race(world)
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
    result = await race(world)
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
async def test_only_one_of_two_streams_that_start_at_once_is_returned() -> None:
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
async def test_without_another_target_or_known_latency_there_is_no_hedge(providers: str) -> None:
    world = hedged("") if providers == "ab" else hedged()
    world.script("a", text("Hello", delay=30))
    await race(world, providers)
    assert world.asked() == ["a"]


@in_virtual_time
async def test_routes_without_hedging_wait_for_the_first_target() -> None:
    world = hedged()
    world.script("a", text("Hello", delay=30))
    await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert world.asked() == ["a"]


@in_virtual_time
async def test_a_budget_limits_the_hedges() -> None:
    world = World()
    for _ in range(5):
        world.expect(1.0, "ab")
    for _ in range(5):
        world.script("a", text("Hello", delay=5))
        world.script("b", text("Hello", delay=30))
        await race(world)
    # The budget allows one hedge in ten seconds; each request takes five.
    assert world.asked() == ["a", "b", "a", "a", "b", "a", "a", "b"]


@in_virtual_time
async def test_if_one_attempt_fails_the_other_continues() -> None:
    world = hedged("abc")
    world.script("a", Reply(delay=2, fails=failing(RequestRejected("No.")).fails))
    world.script("b", text("Hello", delay=5))
    result = await race(world, "abc")
    assert (result.value, world.asked()) == ("Hello", ["a", "b"])
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_if_both_attempts_fail_the_remaining_targets_are_called() -> None:
    world = hedged("abc")
    world.script("a", Reply((b"No.",), 500, delay=2))
    world.script("b", Reply((b"No.",), 500, delay=2))
    world.script("c", text("Hello"))
    result = await race(world, "abc")
    assert (result.value, world.asked()) == ("Hello", ["a", "b", "c"])
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_if_all_attempts_fail_the_error_lists_all() -> None:
    world = hedged()
    world.script("a", Reply((b"No.",), 500, delay=2))
    world.script("b", refusal(500))
    with pytest.raises(AllTargetsFailed) as caught:
        await race(world)
    assert sorted(tried.provider for tried in caught.value.attempts) == ["a", "b"]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_both_tasks_together_make_at_most_four_attempts() -> None:
    world = hedged("abcdef", retries=9)
    for provider in "abcdef":
        world.script(provider, *(Reply((b"No.",), 500, delay=2) for _ in range(3)))
    with pytest.raises(AllTargetsFailed):
        await race(world, "abcdef")
    assert len(world.asked()) <= 4
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_disconnect_ends_both_attempts() -> None:
    world = hedged()
    world.script("a", text("late", delay=30))
    world.script("b", text("late", delay=30))
    task = asyncio.ensure_future(race(world))
    await asyncio.sleep(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(world.ledger.outcomes) == [("a", "cancelled", ""), ("b", "cancelled", "")]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_an_internal_error_ends_both_attempts() -> None:
    world = hedged()
    world.script("a", text("late", delay=30))
    world.script("b", text("bug", delay=3))
    with pytest.raises(ZeroDivisionError):
        await race(world)
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_the_hedging_delay_adapts_to_a_target_that_has_become_slow() -> None:
    world = hedged()
    plan = plan_for([target("a"), target("b")], is_hedged=True)
    for _ in range(30):
        world.script("a", text("slow", delay=4))
        world.script("b", text("Hello"))
        await world.executor.complete(OPERATION, plan, call())
    asked = world.asked()
    assert asked[-2:] == ["a", "a"]


@in_virtual_time
async def test_an_answer_is_returned_while_the_hedge_still_waits_for_a_connection() -> None:
    world = hedged(pool_size=1)
    world.script("b", text("another's", delay=50))
    other = asyncio.create_task(world.executor.complete(OPERATION, plan_for("b"), call()))
    await asyncio.sleep(0)
    world.script("a", text("Hello", delay=2))
    result = await race(world)
    assert result.value == "Hello"
    assert asyncio.get_running_loop().time() - 1000 == pytest.approx(2)
    assert (await other).value == "another's"
    assert world.asked() == ["b", "a"]
    assert {status.in_use for status in world.limits.statuses().values()} == {0}
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_connection_that_becomes_free_in_time_is_used_for_the_hedge() -> None:
    world = hedged(pool_size=1)
    world.script("b", text("another's", delay=3), text("Hello", delay=1))
    other = asyncio.create_task(world.executor.complete(OPERATION, plan_for("b"), call()))
    await asyncio.sleep(0)
    world.script("a", text("late", delay=30))
    result = await race(world)
    assert result.value == "Hello"
    assert asyncio.get_running_loop().time() - 1000 == pytest.approx(4)
    await other
    assert min(world.ledger.outcomes) == ("a", "cancelled", "")
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_target_whose_hedge_did_not_start_can_still_continue_the_answer() -> None:
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
