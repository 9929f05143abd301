"""Timeouts, deadlines and the shares of time of a chain's targets."""

import pytest

from llm_routing.core.errors import (
    AllTargetsFailed,
    DeadlineExceeded,
    UpstreamTimeout,
)
from tests.core.fakes import Reply, World, call, plan_for, refusal, target, text
from tests.core.text_operation import TextOperation
from tests.core.virtual_time import in_virtual_time

OPERATION = TextOperation()


@in_virtual_time
async def test_a_silent_target_is_abandoned_after_its_limit() -> None:
    world = World(total=60)
    world.script("a", text("late", delay=5))
    world.script("b", Reply((b"cut", 100.0)))
    world.script("c", text("Hello"))
    plan = plan_for([target("a", total_timeout=4), "b", "c"])
    result = await world.executor.complete(OPERATION, plan, call(100))
    times = [sent.at - 1000 for sent in world.transport.sent]
    # The first target leaves 96 s; the second gets half of them.
    assert times == pytest.approx([0, 4, 52])
    codes = [tried.error_code for tried in result.attempts]
    assert codes == ["upstream_timeout", "cut_by_deadline", ""]
    assert result.upstream_seconds == pytest.approx(52)
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_the_deadline_ends_the_chain_even_if_targets_are_left() -> None:
    world = World(total=60)
    world.script("a", refusal(500))
    world.script("b", text("late", delay=50))
    with pytest.raises(DeadlineExceeded) as caught:
        await world.executor.complete(OPERATION, plan_for("ab"), call(10))
    assert [tried.error_code for tried in caught.value.attempts] == [
        "server_failed",
        "cut_by_deadline",
    ]
    assert world.asked() == ["a", "b"]
    assert caught.value.attempts[1].latency_ms == pytest.approx(10_000)
    world.assert_accounts_are_closed()


@pytest.mark.parametrize(("names", "starts"), [("ab", [0, 30]), ("abcdef", [0, 15, 30, 45])])
@in_virtual_time
async def test_hanging_targets_leave_an_equal_share_of_time_to_the_following_ones(
    names: str, starts: list[float]
) -> None:
    world = World(total=300)
    for name in names[: len(starts) - 1]:
        world.script(name, text("late", delay=500))
    world.script(names[len(starts) - 1], text("Hello", delay=10))
    result = await world.executor.complete(OPERATION, plan_for(names), call(60))
    assert [sent.at - 1000 for sent in world.transport.sent] == pytest.approx(starts)
    assert result.value == "Hello"
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_trickling_answer_is_abandoned_like_a_hanging_one() -> None:
    world = World(total=300)
    world.script("a", Reply(tuple([b" ", 5.0] * 100)))
    world.script("b", text("Hello"))
    result = await world.executor.complete(OPERATION, plan_for("ab"), call(60))
    assert [sent.at - 1000 for sent in world.transport.sent] == pytest.approx([0, 30])
    assert result.value == "Hello"


@in_virtual_time
async def test_a_timeout_names_its_limit_and_is_not_a_deadline_if_time_is_left() -> None:
    world = World(total=2.5)
    world.script("a", text("late", delay=5))
    with pytest.raises(AllTargetsFailed) as caught:
        await world.executor.complete(OPERATION, plan_for("a"), call())
    assert type(caught.value.last) is UpstreamTimeout
    assert str(caught.value.last) == "No answer within 2.5 s."
    assert caught.value.http_status == 504


@in_virtual_time
@pytest.mark.parametrize("seconds", [-5, 0, 0.001])
async def test_an_imminent_deadline_prevents_any_call(seconds: float) -> None:
    world = World()
    world.script("a", text("late", delay=1))
    with pytest.raises(DeadlineExceeded):
        await world.executor.complete(OPERATION, plan_for("ab"), call(seconds))
    assert not world.asked()
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_there_is_no_retry_just_before_the_deadline() -> None:
    world = World()
    world.script("a", Reply((b"",), status=500, delay=9.999))
    with pytest.raises(DeadlineExceeded) as caught:
        await world.executor.complete(OPERATION, plan_for("a"), call(10))
    assert [tried.error_code for tried in caught.value.attempts] == ["server_failed"]
    assert world.asked() == ["a"]


@in_virtual_time
@pytest.mark.parametrize(
    ("total", "code"), [(9.999, "upstream_timeout"), (10.001, "cut_by_deadline")]
)
async def test_the_error_of_an_attempt_names_the_limit_that_ended_it(
    total: float, code: str
) -> None:
    world = World(total=total)
    world.script("a", text("late", delay=20))
    with pytest.raises(DeadlineExceeded) as caught:
        await world.executor.complete(OPERATION, plan_for("a"), call(10))
    assert [tried.error_code for tried in caught.value.attempts] == [code]
    assert world.ledger.outcomes == [("a", "failure", code)]
