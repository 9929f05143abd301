"""Endless streams without content: bounded memory, turns for other tasks, and the deadline."""

import asyncio
import time
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from llm_routing.core.attempts.stream import AnswerStream
from llm_routing.core.errors import AnswerTooLarge, DeadlineExceeded
from llm_routing.core.ports import StreamParser
from llm_routing.formats.anthropic_messages.read_stream import AnthropicStreamParser
from llm_routing.formats.openai_chat.read_stream import OpenAIStreamParser

MIB = 2**20
CHUNK_BYTES = 64 * 1024
EMPTY_DELTA = (
    b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{}}]}\n\n'
)
NOISE = [
    pytest.param(OpenAIStreamParser, b"\n", id="blank lines"),
    pytest.param(OpenAIStreamParser, b"\r", id="blank lines of CR"),
    pytest.param(OpenAIStreamParser, b": x\n\n", id="comments"),
    pytest.param(OpenAIStreamParser, b"data:\n\n", id="empty events"),
    pytest.param(OpenAIStreamParser, EMPTY_DELTA, id="empty deltas"),
    pytest.param(AnthropicStreamParser, b"\n", id="blank lines of Anthropic"),
    pytest.param(AnthropicStreamParser, b'event: ping\ndata: {"type":"ping"}\n\n', id="pings"),
]


class Source:
    """A response that always has data: a number of chunks, then silence."""

    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012  # as the protocol has it

    def __init__(self, piece: bytes, chunks: float, first: bytes = b"") -> None:
        self._chunk = piece * (CHUNK_BYTES // max(1, len(piece)))
        self._left = chunks
        self._first = first
        self.is_silent = asyncio.Event()

    async def next_chunk(self, within: float | None = None) -> bytes:
        async with asyncio.timeout(within):
            return await self._next_chunk()

    async def _next_chunk(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        if self._left <= 0:
            self.is_silent.set()
            await asyncio.Event().wait()
        self._left -= 1
        return self._chunk

    async def read(self, max_bytes: int) -> bytes:
        raise NotImplementedError

    async def aclose(self) -> None:
        pass


class Attempt:
    """An attempt that ignores all reports."""

    settled = None
    waiting: AbstractContextManager[None] = nullcontext()

    @property
    def slot(self) -> "Attempt":
        return self

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class RealClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def time(self) -> float:
        return self.now().timestamp()


def stream_of(source: Source, parser: StreamParser, seconds: float = 600) -> AnswerStream:
    return AnswerStream(
        source,
        parser,
        cast("Any", Attempt()),
        RealClock(),
        idle=600,
        deadline=time.monotonic() + seconds,
        max_bytes=10**12,
    )


async def read_out(stream: AnswerStream) -> None:
    async for _ in stream:
        pass


async def until_silent(reading: "asyncio.Task[None]", source: Source) -> int:
    """Counts the turns of other tasks until the source falls silent, then stops reading."""
    turns = 0
    async with asyncio.timeout(120):
        while not source.is_silent.is_set() and not reading.done():
            turns += 1
            await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait({reading})
    return turns


@pytest.mark.parametrize(("parser", "piece"), NOISE)
def test_before_the_first_content_memory_is_bounded_and_other_tasks_run(
    parser: Callable[[], StreamParser], piece: bytes
) -> None:
    async def run() -> int:
        source = Source(piece, 2)
        return await until_silent(
            asyncio.ensure_future(stream_of(source, parser()).start()), source
        )

    tracemalloc.start()
    try:
        turns = asyncio.run(run())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * MIB
    # With one turn per chunk there would be three.
    assert turns > 5


CONTENT = EMPTY_DELTA.replace(b'"delta":{}', b'"delta":{"role":"assistant","content":"Hi"}')


def test_a_buffered_answer_holds_a_bounded_number_of_comments() -> None:
    async def run() -> int:
        source = Source(b"\n", 3, CONTENT)
        stream = stream_of(source, OpenAIStreamParser())
        await stream.start()
        return await until_silent(asyncio.ensure_future(stream.buffer()), source)

    tracemalloc.start()
    try:
        assert asyncio.run(run()) > 4
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_a_buffered_answer_is_bounded_by_its_memory() -> None:
    async def run() -> None:
        source = Source(CONTENT, float("inf"))
        stream = AnswerStream(
            source,
            OpenAIStreamParser(),
            cast("Any", Attempt()),
            RealClock(),
            idle=600,
            deadline=time.monotonic() + 600,
            max_bytes=MIB,
        )
        with pytest.raises(AnswerTooLarge):
            await stream.buffer()

    asyncio.run(run())


@pytest.mark.parametrize("is_buffered", [False, True])
def test_endless_data_ends_at_the_deadline(is_buffered: bool) -> None:
    async def run() -> None:
        source = Source(b": x\n\n", float("inf"), CONTENT)
        stream = stream_of(source, OpenAIStreamParser(), seconds=0.5)
        await stream.start()
        with pytest.raises(DeadlineExceeded):
            await (stream.buffer() if is_buffered else read_out(stream))

    asyncio.run(run())


def test_the_first_comments_are_kept() -> None:
    async def run() -> None:
        stream = stream_of(Source(b"", 0, b": hello\n\n" + CONTENT), OpenAIStreamParser())
        await stream.start()
        assert next(frame.raw for frame in await anext(stream)) == b": hello\n\n"

    asyncio.run(run())


def test_a_single_piece_that_is_too_large_is_rejected_at_once() -> None:
    async def run() -> None:
        stream = AnswerStream(
            Source(b": x\n\n", 1),
            OpenAIStreamParser(),
            cast("Any", Attempt()),
            RealClock(),
            idle=600,
            deadline=time.monotonic() + 600,
            max_bytes=1024,
        )
        with pytest.raises(AnswerTooLarge):
            await stream.start()

    asyncio.run(run())
