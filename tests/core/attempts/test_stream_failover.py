"""Streams that fail before the first content: the next target is called, within the time limits."""

import pytest

from llm_routing.core.attempts.stream import MAX_HELD_BYTES
from llm_routing.core.errors import (
    AllTargetsFailed,
    AnswerTooLarge,
    ConnectionLost,
    DeadlineExceeded,
    FirstTokenTimeout,
    ServerFailed,
    TruncatedStream,
    UpstreamError,
)
from llm_routing.core.types import Usage
from tests.core.fakes import Reply, World, call, lines, plan_for, refusal, target
from tests.core.text_operation import TextOperation
from tests.core.virtual_time import in_virtual_time

from .opened_streams import COMPLETE, opened, read, shown


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refusal(500), ServerFailed),
        (lines("start", ConnectionLost("Cut.")), ConnectionLost),
        (lines("start"), TruncatedStream),
        (Reply(), TruncatedStream),
        (lines("start", "error"), ServerFailed),
        (lines("start", 1000.0), FirstTokenTimeout),
        (lines("text:late", delay=1000.0), FirstTokenTimeout),
        (Reply((b"x" * 100_000 + b"\n",) * (MAX_HELD_BYTES // 100_000 + 1)), AnswerTooLarge),
    ],
)
@in_virtual_time
async def test_a_failure_before_the_first_content_moves_on_to_the_next_target(
    reply: Reply, kind: type[UpstreamError]
) -> None:
    world = World()
    world.script("a", reply)
    world.script("b", COMPLETE)
    result = await opened(world)
    assert [tried.error_code for tried in result.attempts] == [kind.code, ""]
    assert (await read(result.value))[0] == ["start", "text:Hel"]
    assert world.asked() == ["a", "b"]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_target_may_have_its_own_first_token_limit() -> None:
    world = World(first_token=20, total=30)
    for provider in "abc":
        world.script(provider, lines("ping", 100.0))
    plan = plan_for([target("a", first_token_timeout=3), "b", target("c", total_timeout=5)])
    with pytest.raises(AllTargetsFailed) as caught:
        await world.executor.open_stream(TextOperation(), plan, call())
    assert [sent.at - 1000 for sent in world.transport.sent] == pytest.approx([0, 3, 23])
    assert str(caught.value.last) == "No first token within 5 s."
    assert caught.value.http_status == 504
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_deadline_before_the_first_content_ends_the_request() -> None:
    world = World()
    world.script("a", lines("start", 100.0))
    with pytest.raises(DeadlineExceeded):
        await opened(world, "a", seconds=5)
    assert world.asked() == ["a"]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_target_without_content_leaves_time_for_the_next_one() -> None:
    world = World()
    world.script("a", lines("start", *(1.0, "ping") * 50))
    world.script("b", lines("start/text:Hello/finish/end/"))
    await opened(world, "ab", seconds=5)
    assert [sent.at - 1000 for sent in world.transport.sent] == pytest.approx([0, 2.5])


@in_virtual_time
async def test_a_failure_without_content_keeps_its_class() -> None:
    world = World()
    world.script("a", lines("start/error"))
    world.script("b", lines("text:Hi/finish/end/"))
    result = await opened(world, "ab")
    await result.value.aclose()
    assert world.ledger.outcomes[0] == ("a", "failure", "server_failed")


@in_virtual_time
async def test_first_content_that_comes_with_a_failure_is_billed_but_not_delivered() -> None:
    world = World()
    world.script("a", lines("text:1234/error"))
    world.script("b", lines("text:Hi/finish/end/"))
    result = await opened(world, "ab")
    assert [word async for batch in result.value for word in shown(batch)][:1] == ["text:Hi"]
    assert world.ledger.outcomes == [("a", "failure", "server_failed"), ("b", "success", "")]
    assert world.ledger.ends[0].usage == Usage(100, 1, estimated=True)
    await result.value.aclose()
