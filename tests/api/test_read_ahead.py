"""Waiting for something slow: interrupted by silences, never broken off."""

import asyncio
from collections.abc import Sequence

import pytest

from llm_routing.api.streams.read_ahead import IDLE, ReadAhead
from llm_routing.core.errors import IdleTimeout
from tests.core.virtual_time import in_virtual_time

Item = str | float | Exception


class Script:
    """Gives texts, waits seconds, raises exceptions."""

    def __init__(self, *items: Item) -> None:
        self.left: list[Item] = list(items)
        self.is_closed = self.was_cancelled = False

    async def __anext__(self) -> str:
        while self.left:
            item = self.left.pop(0)
            if isinstance(item, Exception):
                raise item
            if isinstance(item, str):
                return item
            try:
                # A limit in here belongs to the task that waits in here.
                async with asyncio.timeout(1000):
                    await asyncio.sleep(item)
            except asyncio.CancelledError:
                self.was_cancelled = True
                raise
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.is_closed = True


async def read(script: Script, silence: float = 15) -> Sequence[object]:
    reader = ReadAhead(script, silence)
    found: list[object] = []
    try:
        while True:
            found.append(await reader.next())
    except StopAsyncIteration:
        return found
    finally:
        await reader.aclose()


@in_virtual_time
async def test_every_silence_is_reported_and_no_item_is_lost() -> None:
    script = Script("a", 14.0, "b", "c", 50.0, "d", 16.0)
    assert await read(script) == ["a", "b", "c", *[IDLE] * 3, "d", IDLE]
    assert script.is_closed
    assert not script.was_cancelled


@in_virtual_time
async def test_without_an_interval_it_waits_quietly() -> None:
    script = Script("a", 100.0, "b")
    assert await read(script, silence=0) == ["a", "b"]
    assert script.is_closed


@in_virtual_time
async def test_errors_of_the_source_are_raised_in_order() -> None:
    reader = ReadAhead(Script("a", 20.0, IdleTimeout("Silent.")), 15)
    assert await reader.next() == "a"
    assert await reader.next() is IDLE
    with pytest.raises(IdleTimeout):
        await reader.next()
    await reader.aclose()


@in_virtual_time
async def test_no_more_than_one_item_is_read_ahead() -> None:
    script = Script(*"abcdefgh")
    reader = ReadAhead(script, 15)
    assert await reader.next() == "a"
    await asyncio.sleep(60)
    before = len(script.left)
    assert before >= 5
    for expected in "bcdefgh":
        assert await reader.next() == expected
    await reader.aclose()


@in_virtual_time
async def test_closing_ends_a_pending_wait() -> None:
    script = Script("a", 100.0)
    reader = ReadAhead(script, 15)
    assert [await reader.next() for _ in range(2)] == ["a", IDLE]
    await reader.aclose()
    assert script.was_cancelled
    assert script.is_closed


@in_virtual_time
async def test_a_call_that_is_cancelled_has_taken_nothing() -> None:
    reader = ReadAhead(Script(5.0, "a", "b"), 15)
    waiting = asyncio.create_task(reader.next())
    await asyncio.sleep(1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert [await reader.next() for _ in range(2)] == ["a", "b"]
    await reader.aclose()
