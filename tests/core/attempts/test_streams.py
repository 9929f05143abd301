"""Streams that are read to the end: batches of frames, the end of the body, and the usage."""

import asyncio
from decimal import Decimal

import pytest

from llm_routing.core.attempts.stream import TAIL_SECONDS
from llm_routing.core.errors import (
    ConnectionLost,
    UpstreamError,
)
from llm_routing.core.types import Usage
from tests.core.fakes import World, lines
from tests.core.virtual_time import in_virtual_time

from .opened_streams import REPORT, opened, read, shown


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


@pytest.mark.parametrize("comes_in_time", [True, False])
@in_virtual_time
async def test_no_chunk_is_lost_when_its_reader_is_cancelled(comes_in_time: bool) -> None:
    world = World()
    world.script("a", lines("text:Hel", "text:lo"))
    stream = (await opened(world)).value
    assert shown(await anext(stream)) == ["text:Hel"]
    (answer,) = world.transport.answers
    chunk: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer, "next_chunk", lambda within: chunk)
        reading = asyncio.create_task(stream.__anext__())
        await asyncio.sleep(0)
        if comes_in_time:
            chunk.set_result(b"text:first\n")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    if comes_in_time:
        assert shown(await anext(stream)) == ["text:first"]
    assert shown(await anext(stream)) == ["text:lo"]
    await stream.aclose()
