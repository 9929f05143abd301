"""Stream recovery: what happens when a stream breaks after the caller has received content."""

import asyncio
from decimal import Decimal

import pytest

from llm_routing.core.errors import (
    AllTargetsFailed,
    ConnectionLost,
    ContentFiltered,
    DeadlineExceeded,
    LLMError,
    ServerFailed,
    UpstreamError,
)
from llm_routing.core.events import AnswerStarted, TextDelta, UsageReported
from llm_routing.core.ports import FrameStream
from llm_routing.core.routing_table import Price, StreamRecovery
from llm_routing.core.types import Usage
from tests.core.fakes import World, call, lines, plan_for, refusal, target, with_prefill
from tests.core.text_operation import TextOperation
from tests.core.virtual_time import in_virtual_time

PRICE = Price(Decimal(1_000_000), Decimal(1_000_000))
CUT = ConnectionLost("Cut.")
ABLE = [with_prefill(target(name, PRICE)) for name in "abcd"]


async def opened(world: World, targets: list, recovery: StreamRecovery, **more) -> FrameStream:
    plan = plan_for(targets, stream_recovery=recovery)
    operation = TextOperation(**more)
    return (await world.executor.open_stream(operation, plan, call(60))).value


async def told(stream: FrameStream) -> tuple[str, LLMError | None]:
    """Returns the text that the caller receives, and the error that cut it short."""
    text = ""
    error = None
    try:
        async for batch in stream:
            for frame in batch:
                for event in frame.events:
                    text += event.text if isinstance(event, TextDelta) else ""
    except LLMError as caught:
        error = caught
    await stream.aclose()
    return text, error


class TestContinue:
    @in_virtual_time
    async def test_the_next_capable_target_continues_a_broken_stream(self) -> None:
        world = World()
        world.script("a", lines("start:3,0/text:The sky ", 2.0, "text:is ", CUT))
        world.script("b", lines("start/text: blue/text:./usage:5,2/finish/end"))
        stream = await opened(world, ABLE[:2], StreamRecovery.CONTINUE)
        assert await told(stream) == ("The sky is blue.", None)
        assert world.ledger.outcomes == [("a", "failure", "connection_lost"), ("b", "success", "")]
        assert world.transport.sent[1].body == b"question begun: The sky is"
        assert [(tried.provider, tried.error_code) for tried in stream.attempts] == [
            ("a", "connection_lost"),
            ("b", ""),
        ]
        account = stream.account
        assert account is not None
        assert account.usage == Usage(8, 5, estimated=True)
        assert account.cost == Decimal(13)
        world.assert_accounts_are_closed()

    @in_virtual_time
    async def test_the_caller_receives_one_start_and_one_usage_and_no_vendor_bytes(self) -> None:
        world = World()
        world.script("a", lines("start/think:Hm/text:One", CUT))
        world.script("b", lines("start/text: two/usage:5,2/finish/end"))
        stream = await opened(world, ABLE[:2], StreamRecovery.CONTINUE)
        frames = [frame for batch in [batch async for batch in stream] for frame in batch]
        events = [event for frame in frames for event in frame.events]
        assert {frame.format for frame in frames} == {""}
        assert sum(isinstance(event, AnswerStarted) for event in events) == 1
        usage = next(event.usage for event in events if isinstance(event, UsageReported))
        assert usage == Usage(105, 4, estimated=True)
        await stream.aclose()

    @pytest.mark.parametrize(
        ("first", "then", "whole"),
        [
            ("a ", "text:b", "a b"),
            ("a ", "text: b", "a b"),
            ("a  ", "text: b", "a   b"),
            ("a\t\t", "text:\t/text:\tb", "a\t\tb"),
            ("a\t", "text:\t/text:b/text: c", "a\tb c"),
            ("a", "text: b", "a b"),
        ],
    )
    @in_virtual_time
    async def test_white_space_is_not_doubled_where_the_answer_continues(
        self, first: str, then: str, whole: str
    ) -> None:
        world = World()
        world.script("a", lines(f"text:{first}", CUT))
        world.script("b", lines(f"{then}/finish/end"))
        stream = await opened(world, ABLE[:2], StreamRecovery.CONTINUE)
        assert await told(stream) == (whole, None)

    @in_virtual_time
    async def test_a_target_that_cannot_continue_is_not_called(self) -> None:
        world = World()
        world.script("a", lines("text:One", CUT))
        world.script("c", lines("text: two/finish/end"))
        stream = await opened(world, [ABLE[0], target("b"), ABLE[2]], StreamRecovery.CONTINUE)
        assert await told(stream) == ("One two", None)
        assert world.asked() == ["a", "c"]

    @pytest.mark.parametrize("able", [False, True])
    @in_virtual_time
    async def test_the_first_failure_is_raised_if_no_target_continues(self, able: bool) -> None:
        world = World()
        world.script("a", lines("text:One", CUT))
        world.script("b", refusal(500))
        targets = [ABLE[0], ABLE[1] if able else target("b")]
        stream = await opened(world, targets, StreamRecovery.CONTINUE)
        assert await told(stream) == ("One", CUT)
        assert world.asked() == (["a", "b"] if able else ["a"])
        assert stream.attempts == ()
        world.assert_accounts_are_closed()

    @in_virtual_time
    async def test_an_answer_that_breaks_again_is_continued_again(self) -> None:
        world = World()
        for provider, word in zip("abc", ("One", " two", " three"), strict=True):
            world.script(provider, lines(f"text:{word}", CUT))
        world.script("d", lines("text: four/finish/end"))
        stream = await opened(world, ABLE, StreamRecovery.CONTINUE)
        assert await told(stream) == ("One two three four", None)
        assert [tried.provider for tried in stream.attempts] == ["a", "b", "c", "d"]
        world.assert_accounts_are_closed()

    @in_virtual_time
    async def test_at_most_four_attempts_are_made(self) -> None:
        world = World()
        targets = [with_prefill(target(name)) for name in "abcde"]
        for provider in "abcde":
            world.script(provider, lines("text:x", CUT))
        stream = await opened(world, targets, StreamRecovery.CONTINUE)
        assert await told(stream) == ("xxxx", CUT)
        assert world.asked() == ["a", "b", "c", "d"]

    @pytest.mark.parametrize("begun", ["args:{", "refuse:No", "text:  "])
    @in_virtual_time
    async def test_only_plain_text_is_continued(self, begun: str) -> None:
        world = World()
        world.script("a", lines(begun, CUT))
        stream = await opened(world, ABLE, StreamRecovery.CONTINUE)
        assert (await told(stream))[1] is CUT
        assert world.asked() == ["a"]

    @in_virtual_time
    async def test_a_request_that_does_not_support_it_is_not_continued(self) -> None:
        world = World()
        world.script("a", lines("text:One", CUT))
        stream = await opened(world, ABLE, StreamRecovery.CONTINUE, can_be_continued=False)
        assert (await told(stream))[1] is CUT

    @in_virtual_time
    async def test_an_error_that_no_other_target_could_avoid_is_not_continued(self) -> None:
        world = World()
        filtered = ContentFiltered("No.")
        world.script("a", lines("text:One", filtered))
        stream = await opened(world, ABLE, StreamRecovery.CONTINUE)
        assert (await told(stream))[1] is filtered

    @in_virtual_time
    async def test_an_unbroken_answer_is_unchanged(self) -> None:
        world = World()
        world.script("a", lines("start/text:One/finish/usage:3,4/end"))
        stream = await opened(world, ABLE, StreamRecovery.CONTINUE)
        assert await told(stream) == ("One", None)
        assert stream.attempts == ()
        assert stream.account is not None
        assert stream.account.usage == Usage(3, 4)

    @in_virtual_time
    async def test_text_before_an_error_is_billed_with_the_rest(self) -> None:
        world = World()
        world.script("a", lines("text:One", ServerFailed("x")))
        world.script("b", lines("text: two/usage:1,1/finish/end"))
        stream = await opened(world, ABLE[:2], StreamRecovery.CONTINUE)
        await told(stream)
        assert stream.account is not None
        assert stream.account.usage == Usage(101, 2, estimated=True)

    @in_virtual_time
    async def test_the_cost_is_unknown_if_one_part_is_unknown(self) -> None:
        world = World()
        world.script("a", lines("text:One", CUT))
        world.script("b", lines("text: two/usage:1,1/finish/end"))
        stream = await opened(world, [ABLE[0], with_prefill(target("b"))], StreamRecovery.CONTINUE)
        await told(stream)
        assert stream.account is not None
        assert stream.account.cost is None


class TestBuffer:
    @in_virtual_time
    async def test_a_broken_answer_is_requested_again(self) -> None:
        world = World()
        world.script("a", lines("start/text:One", 5.0, "text: two", CUT))
        world.script("b", lines("start/text:Uno", 5.0, "text: due/finish/end"))
        stream = await opened(world, ABLE[:2], StreamRecovery.BUFFER)
        assert await told(stream) == ("Uno due", None)
        assert world.ledger.outcomes == [("a", "failure", "connection_lost"), ("b", "success", "")]
        assert world.ledger.ends[0].usage == Usage(100, 2, estimated=True)
        world.assert_accounts_are_closed()

    @in_virtual_time
    async def test_a_silent_stream_is_requested_again(self) -> None:
        world = World(idle=3)
        world.script("a", lines("text:One", 9.0, "finish/end"))
        world.script("b", lines("text:Uno/finish/end"))
        stream = await opened(world, ABLE[:2], StreamRecovery.BUFFER)
        assert await told(stream) == ("Uno", None)
        world.assert_accounts_are_closed()

    @in_virtual_time
    async def test_if_all_streams_break_all_targets_failed(self) -> None:
        world = World()
        for provider in "ab":
            world.script(provider, lines("text:One", CUT))
        with pytest.raises(AllTargetsFailed):
            await opened(world, ABLE[:2], StreamRecovery.BUFFER)
        world.assert_accounts_are_closed()

    @in_virtual_time
    async def test_the_received_part_is_accounted_when_the_caller_disconnects(self) -> None:
        world = World()
        world.script("a", lines("text:12345678", 90.0, "finish/end"))
        opening = asyncio.ensure_future(opened(world, ABLE[:1], StreamRecovery.BUFFER))
        await asyncio.sleep(1)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert world.ledger.outcomes == [("a", "cancelled", "")]
        assert world.ledger.ends[0].usage == Usage(100, 2, estimated=True)
        world.assert_accounts_are_closed()

    @in_virtual_time
    async def test_buffering_ends_at_the_deadline(self) -> None:
        world = World(idle=90)
        world.script("a", lines("text:One", 80.0, "finish/end"))
        with pytest.raises(DeadlineExceeded) as caught:
            await opened(world, ABLE[:1], StreamRecovery.BUFFER)
        assert len(caught.value.attempts) == 1
        assert world.asked() == ["a"]
        world.assert_accounts_are_closed()

    @in_virtual_time
    async def test_a_trickling_answer_leaves_time_for_the_next_target(self) -> None:
        world = World(idle=90)
        world.script("a", lines("text:One", *(20.0, "text:more") * 10))
        world.script("b", lines("text:Two", "finish/end/"))
        stream = await opened(world, ABLE[:2], StreamRecovery.BUFFER)
        assert await told(stream) == ("Two", None)
        assert world.ledger.outcomes == [("a", "failure", "cut_by_deadline"), ("b", "success", "")]
        world.assert_accounts_are_closed()


class TestTheEnd:
    @pytest.mark.parametrize("after", [CUT, 90.0])
    @in_virtual_time
    async def test_an_answer_with_its_finish_is_complete_however_the_connection_ends(
        self, after: UpstreamError | float
    ) -> None:
        world = World(idle=5)
        world.script("a", lines("text:One", "finish", after))
        stream = await opened(world, ABLE, StreamRecovery.ERROR)
        assert await told(stream) == ("One", None)
        assert world.ledger.outcomes == [("a", "success", "")]
        world.assert_accounts_are_closed()
