"""Streams: failover before the first content, and errors and accounting after it."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal

import pytest

from llm_routing.core.attempts.calls import Result
from llm_routing.core.attempts.stream import MAX_HELD_BYTES, TAIL_SECONDS
from llm_routing.core.errors import (
    AllTargetsFailed,
    AnswerTooLarge,
    ConnectionLost,
    DeadlineExceeded,
    FirstTokenTimeout,
    IdleTimeout,
    LLMError,
    ServerFailed,
    TruncatedStream,
    UpstreamError,
)
from llm_routing.core.events import Frame
from llm_routing.core.ports import FrameStream
from llm_routing.core.routing_table import Price
from llm_routing.core.types import Usage
from tests.core.fakes import Reply, World, call, lines, plan_for, refusal, target
from tests.core.text_operation import TextOperation
from tests.core.virtual_time import in_virtual_time

PRICE = Price(Decimal(3), Decimal(15))
COMPLETE = lines("start/text:Hel", "text:lo", "finish/usage:3,4", "end")


async def opened(
    world: World, providers: str = "ab", seconds: float = 120.0
) -> Result[FrameStream]:
    plan = plan_for(target(name, PRICE) for name in providers)
    return await world.executor.open_stream(TextOperation(), plan, call(seconds))


async def read(stream: FrameStream) -> list[list[str]]:
    """Returns the lines of each batch and closes the stream."""
    try:
        return [shown(batch) async for batch in stream]
    finally:
        await stream.aclose()


def shown(batch: Sequence[Frame]) -> list[str]:
    return [frame.raw.decode() for frame in batch]


REPORT = ""
"""The frame that reports an estimate, which has no bytes of its own."""


@in_virtual_time
async def test_frames_keep_their_batches_and_held_ones_come_first() -> None:
    world = World()
    world.script("a", lines("start", "ping/ping", "text:Hel/text:lo", "finish/usage:3,4", "end"))
    result = await opened(world)
    assert await read(result.value) == [
        ["start", "ping", "ping", "text:Hel", "text:lo"],
        ["finish", "usage:3,4"],
        ["end"],
    ]
    assert result.ignored == ("seed for a",)
    assert [tried.outcome for tried in result.attempts] == ["success"]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_an_attempt_is_settled_with_the_vendor_s_usage_at_the_end() -> None:
    world = World()
    world.script("a", lines("start", 2.0, "text:Hi", 3.0, "finish/usage:3,4", "end"))
    result = await opened(world)
    assert world.ledger.ends == []
    assert result.upstream_seconds == pytest.approx(2)
    await read(result.value)
    (settled,) = world.ledger.ends
    assert result.value.account is settled
    assert (settled.outcome, settled.error_code, settled.status) == ("success", "", 200)
    assert (settled.usage, settled.cost) == (Usage(3, 4), Decimal("0.000069"))
    assert settled.time_to_first_token_ms == pytest.approx(2000)
    assert settled.latency_ms == pytest.approx(5000)
    assert result.attempt.upstream_seconds == pytest.approx(5)


@in_virtual_time
async def test_an_answer_in_one_piece_has_a_time_to_first_token() -> None:
    world = World()
    world.script("a", lines(2.0, "start/text:Hi/finish/end"))
    result = await opened(world)
    assert result.attempts[0].outcome == "success"
    assert await read(result.value) == [["start", "text:Hi", "finish", REPORT, "end"]]
    assert world.ledger.ends[0].time_to_first_token_ms == pytest.approx(2000)
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_an_endless_answer_is_cut_at_the_limit_and_billed() -> None:
    world = World()
    world.script("a", lines("text:Hi", *(["text:" + "x" * 1_000_000] * 20), "finish", "end"))
    stream = (await opened(world)).value
    with pytest.raises(AnswerTooLarge):
        await read(stream)
    assert world.ledger.outcomes == [("a", "failure", "answer_too_large")]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_connection_lost_after_the_finish_is_not_a_failure() -> None:
    world = World()
    world.script("a", lines("text:Hi/finish"))
    world.script("b", lines("text:Hi/finish/hush"))
    assert await read((await opened(world, "a")).value) == [["text:Hi", "finish"], [REPORT, ""]]
    assert await read((await opened(world, "b")).value) == [["text:Hi", "finish", "hush"], [REPORT]]
    assert world.ledger.outcomes == [("a", "success", ""), ("b", "success", "")]
    world.assert_accounts_are_closed()


@pytest.mark.parametrize(
    ("tail", "is_read"),
    [
        ((), True),
        ((0.01, "ping", 0.01), True),
        ((60.0,), False),
        (("ping", 0.01) * 10, False),
        ((ConnectionLost("Cut."),), False),
    ],
)
@in_virtual_time
async def test_the_end_of_the_body_is_awaited_briefly_so_that_the_connection_can_be_reused(
    tail: tuple[str | float | UpstreamError, ...], is_read: bool
) -> None:
    world = World()
    world.script("a", lines("text:Hi/finish/end", *tail))
    stream = (await opened(world)).value
    assert await read(stream) == [["text:Hi", "finish", REPORT, "end"]]
    assert world.transport.answers[0].is_read is is_read
    assert asyncio.get_running_loop().time() - 1000 <= TAIL_SECONDS + 1e-6
    assert world.ledger.outcomes == [("a", "success", "")]
    await stream.aclose()
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_disconnect_while_the_end_is_awaited_closes_the_response() -> None:
    world = World()
    world.script("a", lines("text:Hi/finish/end", 60.0))
    task = asyncio.ensure_future(read((await opened(world)).value))
    await asyncio.sleep(TAIL_SECONDS / 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_an_empty_answer_is_valid() -> None:
    world = World()
    world.script("a", lines("start", "finish", "usage:3,0", "end"))
    assert await read((await opened(world)).value) == [["start", "finish", "usage:3,0", "end"]]
    assert world.ledger.ends[0].usage == Usage(3, 0)
    assert world.ledger.ends[0].time_to_first_token_ms is None
    world.assert_accounts_are_closed()


@pytest.mark.parametrize(
    ("chunks", "output_tokens"),
    [
        ("text:12345678/finish/end", 2),
        ("think:1234/text:5/refuse:6/args:7890123/finish/end", 4),
    ],
)
@in_virtual_time
async def test_tokens_are_estimated_if_the_vendor_does_not_count_them(
    chunks: str, output_tokens: int
) -> None:
    world = World()
    world.script("a", lines(chunks))
    await read((await opened(world)).value)
    assert world.ledger.ends[0].usage == Usage(100, output_tokens, estimated=True)


@in_virtual_time
async def test_usage_at_the_start_counts_if_none_follows() -> None:
    world = World()
    world.script("a", lines("start:9,1/text:Hi/finish/end"))
    world.script("b", lines("usage:9,1/start/text:Hi/finish/end"))
    for provider in "ab":
        await read((await opened(world, provider)).value)
    assert [settled.usage for settled in world.ledger.ends] == [Usage(9, 1)] * 2


@in_virtual_time
async def test_output_is_estimated_if_the_vendor_counts_only_at_the_start() -> None:
    world = World()
    world.script("a", lines(f"start:9,1/text:{'word' * 50}/finish/end"))
    await read((await opened(world)).value)
    assert world.ledger.ends[0].usage == Usage(9, 50, estimated=True)


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


async def broken_off(stream: FrameStream) -> tuple[list[str], LLMError]:
    """Returns the received lines and the error that cut them short; checks that a broken stream has
    ended."""
    came: list[str] = []
    error: LLMError | None = None
    try:
        async for batch in stream:
            came += shown(batch)
    except LLMError as caught:
        error = caught
    assert error is not None
    assert [batch async for batch in stream] == []
    await stream.aclose()
    return came, error


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (ConnectionLost("Cut."), ConnectionLost),
        ("error", ServerFailed),
        ("", TruncatedStream),
    ],
)
@in_virtual_time
async def test_a_failure_after_the_first_content_is_raised_without_failover(
    end: str | UpstreamError, kind: type[UpstreamError]
) -> None:
    world = World()
    world.script("a", lines("start", "text:1234", "text:5678", end))
    came, error = await broken_off((await opened(world)).value)
    assert came == ["start", "text:1234", "text:5678"]
    assert type(error) is kind
    assert world.asked() == ["a"]
    assert world.ledger.outcomes == [("a", "failure", kind.code)]
    assert world.ledger.ends[0].usage == Usage(100, 2, estimated=True)
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_content_in_one_piece_with_a_failure_is_delivered_before_it() -> None:
    world = World()
    world.script("a", lines("text:1234", "text:5678/error"))
    came, error = await broken_off((await opened(world)).value)
    assert came == ["text:1234", "text:5678"]
    assert type(error) is ServerFailed
    assert world.ledger.ends[0].usage == Usage(100, 2, estimated=True)
    world.assert_accounts_are_closed()


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


@in_virtual_time
async def test_a_failure_keeps_the_reported_usage() -> None:
    world = World()
    world.script("a", lines("start:3,1/text:Hi", "error"))
    await broken_off((await opened(world)).value)
    assert world.ledger.ends[0].usage == Usage(3, 1)
    assert world.ledger.ends[0].cost == Decimal("0.000024")


@in_virtual_time
async def test_text_after_the_last_usage_report_is_counted() -> None:
    world = World()
    world.script("a", lines("start:3,1/text:" + "x" * 400, "error"))
    await broken_off((await opened(world)).value)
    assert world.ledger.ends[0].usage == Usage(3, 100, estimated=True)


@in_virtual_time
async def test_a_silent_stream_is_cut_after_the_idle_limit() -> None:
    world = World(idle=10)
    world.script("a", lines("text:Hi", 9.0, "ping", 9.0, "text:!", 11.0, "text:late"))
    came, error = await broken_off((await opened(world)).value)
    assert came == ["text:Hi", "ping", "text:!"]
    assert type(error) is IdleTimeout
    assert str(error) == "The stream was silent for 10 s."
    assert world.ledger.outcomes == [("a", "failure", "idle_timeout")]
    assert world.ledger.ends[0].latency_ms == pytest.approx(28_000)
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_provider_may_have_its_own_idle_limit() -> None:
    world = World(idle=10)
    world.script("a", lines("text:Hi", 3.0, "text:late"))
    plan = plan_for([target("a", idle_timeout=2)])
    result = await world.executor.open_stream(TextOperation(), plan, call())
    _, error = await broken_off(result.value)
    assert type(error) is IdleTimeout


@in_virtual_time
async def test_the_deadline_cuts_a_stream_in_the_middle() -> None:
    world = World(idle=10)
    world.script("a", lines("text:1234", 8.0, "text:5678", 8.0, "text:late"))
    came, error = await broken_off((await opened(world, "a", seconds=15)).value)
    assert came == ["text:1234", "text:5678"]
    assert type(error) is DeadlineExceeded
    assert world.ledger.outcomes == [("a", "failure", "cut_by_deadline")]
    assert world.ledger.ends[0].latency_ms == pytest.approx(15_000)
    assert world.ledger.ends[0].usage == Usage(100, 2, estimated=True)
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_the_received_part_is_accounted_when_the_caller_disconnects() -> None:
    world = World()
    world.script("a", lines("text:1234", "text:5678", 100.0))
    stream = (await opened(world)).value
    assert shown(await anext(stream)) == ["text:1234"]
    assert shown(await anext(stream)) == ["text:5678"]
    await stream.aclose()
    await stream.aclose()
    assert world.ledger.outcomes == [("a", "cancelled", "")]
    assert world.ledger.ends[0].usage == Usage(100, 2, estimated=True)
    assert [batch async for batch in stream] == []
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_cancelled_reader_settles_the_attempt_by_closing() -> None:
    world = World()
    world.script("a", lines("start:3,1/text:Hi", 5.0, "text:!"))
    task = asyncio.ensure_future(read((await opened(world)).value))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.ledger.outcomes == [("a", "cancelled", "")]
    assert world.ledger.ends[0].usage == Usage(3, 1)
    assert world.ledger.ends[0].latency_ms == pytest.approx(1000)
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_an_internal_error_in_the_middle_settles_the_attempt_by_closing() -> None:
    world = World()
    world.script("a", lines("text:Hi", "bug"))
    with pytest.raises(ZeroDivisionError):
        await read((await opened(world)).value)
    assert world.ledger.outcomes == [("a", "cancelled", "")]
    world.assert_accounts_are_closed()
