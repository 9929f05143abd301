"""Streams that end early after the first content: the error and the accounting."""

import asyncio
from decimal import Decimal

import pytest

from llm_routing.core.errors import (
    AnswerTooLarge,
    ConnectionLost,
    DeadlineExceeded,
    IdleTimeout,
    ServerFailed,
    TruncatedStream,
    UpstreamError,
)
from llm_routing.core.types import Usage
from tests.core.fakes import World, call, lines, plan_for, target
from tests.core.text_operation import TextOperation
from tests.core.virtual_time import in_virtual_time

from .opened_streams import broken_off, opened, read, shown


@in_virtual_time
async def test_an_endless_answer_is_cut_at_the_limit_and_billed() -> None:
    world = World()
    world.script("a", lines("text:Hi", *(["text:" + "x" * 1_000_000] * 20), "finish", "end"))
    stream = (await opened(world)).value
    with pytest.raises(AnswerTooLarge):
        await read(stream)
    assert world.ledger.outcomes == [("a", "failure", "answer_too_large")]
    world.assert_accounts_are_closed()


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
