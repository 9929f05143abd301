"""A streamed answer in progress: frames in the batches in which they arrived.

An object that is closed explicitly, not a generator, so that its attempt is settled when the caller
disconnects and not when the garbage collector runs.
"""

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Self

from llm_routing.core.errors import (
    AnswerTooLarge,
    ConnectionLost,
    DeadlineCut,
    DeadlineExceeded,
    IdleTimeout,
    UpstreamError,
)
from llm_routing.core.events import (
    AnswerEnded,
    AnswerStarted,
    Frame,
    RefusalDelta,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    UsageReported,
    with_usage_report,
)
from llm_routing.core.ports import AttemptSettled, Clock, StreamParser, UpstreamResponse
from llm_routing.core.types import AttemptSummary, Usage

from .attempt import Attempt

MAX_HELD_BYTES = 8 * 1024 * 1024
"""Maximum size of the data before the first content."""
MAX_EMPTY_BYTES = 64 * 1024
"""Above this size, frames without events (comments, blank lines) are no longer held back."""
FRAME_BYTES = 512
"""Memory overhead of a frame, and of each of its events."""
SLICE_BYTES = 2048
"""Larger pieces are parsed in slices, since they may hold thousands of blank lines."""
BUSY_SECONDS = 0.002
"""Seconds of parsing after which the event loop runs other tasks."""
TAIL_SECONDS = 0.05


class AnswerStream:
    """Batches of frames, first to last. Always close it.

    Iterating raises the `UpstreamError` that cut the answer short, or `DeadlineExceeded`.
    """

    def __init__(
        self,
        answer: UpstreamResponse,
        parser: StreamParser,
        attempt: Attempt,
        clock: Clock,
        *,
        idle: float,
        deadline: float,
        max_bytes: int,
    ) -> None:
        self._answer = answer
        self._parser = parser
        self._attempt = attempt
        self._clock = clock
        self._idle = idle
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._size = 0
        self._held: list[Frame] = []
        self._held_bytes = 0
        self._unparsed = b""
        self._was_busy = False
        self._is_open = False
        self._has_content = False
        self._has_tail = False
        self._ended = False
        self._failure: UpstreamError | None = None
        self._usage: Usage | None = None
        self._is_counted = False
        self._output_length = 0
        self.attempts: tuple[AttemptSummary, ...] = ()

    @property
    def attempt(self) -> Attempt:
        """The attempt that this stream belongs to."""
        return self._attempt

    @property
    def account(self) -> AttemptSettled | None:
        """The outcome of the attempt; None until it has ended."""
        return self._attempt.settled

    async def start(self) -> None:
        """Reads up to the first content and holds it back. Raises `UpstreamError`."""
        while not (self._has_content or self._ended or self._failure):
            self._hold(self._take(await self._next_data()), MAX_HELD_BYTES)
            if self._size > MAX_HELD_BYTES:
                raise AnswerTooLarge(f"No content within the first {MAX_HELD_BYTES} bytes.")
        if self._failure is not None:
            if self._has_content:
                # The content that came with the failure is billed although no caller sees it.
                self._fail(self._failure)
            raise self._failure

    async def buffer(self) -> None:
        """Reads to the end and holds everything back. Raises the same errors as iterating."""
        while not self._ended:
            frames = await self._advance()
            try:
                self._hold(frames, 2 * self._max_bytes)
            except AnswerTooLarge as failure:
                self._fail(failure)
                raise

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Sequence[Frame]]:
        # Not `async`: a coroutine around a coroutine would cost time for every frame.
        return self._advance() if not self._held and not self._ended else self._rest()

    async def _rest(self) -> Sequence[Frame]:
        """Returns the frames that were held back. Raises `StopAsyncIteration` if there are none."""
        held, self._held = self._held, []
        self._is_open = True
        if not held:
            raise StopAsyncIteration
        return held

    async def aclose(self) -> None:
        """Ends the upstream call. An answer that was not read to its end counts as cancelled."""
        if not self._ended:
            self._ended = True
            self._attempt.cancel(self._usage, self._output_length)
        try:
            if self._has_tail:
                self._has_tail = False
                await self._read_tail()
        finally:
            try:
                await self._answer.aclose()
            finally:
                self._attempt.slot.release()

    async def _read_tail(self) -> None:
        """Reads the end of the body, which often arrives a moment after the last event. A
        connection can be reused only if its body was read completely, and a new one costs a
        handshake."""
        with suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(TAIL_SECONDS):
                while await self._answer.next_chunk():
                    pass

    async def _advance(self) -> Sequence[Frame]:
        if self._failure is not None:
            self._fail(self._failure)
            raise self._failure
        chunk: Awaitable[bytes]
        limit = self._deadline - self._clock.monotonic()
        if limit > self._idle:
            limit = self._idle
        if limit <= 0:
            # If data is always available, the code never waits, so no timer can end it.
            return self._cut_by_deadline()
        try:
            if self._is_open and not self._was_busy:
                chunk = self._answer.next_chunk(limit)
            else:
                chunk = self._next_data(limit)
            data = await chunk
        except asyncio.CancelledError:
            self._keep(chunk)
            raise
        except TimeoutError:
            if limit < self._idle:
                return self._cut_by_deadline()
            return self._cut(IdleTimeout(f"The stream was silent for {limit:.3g} s."))
        except (ConnectionLost, IdleTimeout) as lost:
            return self._cut(lost)
        except UpstreamError as failure:
            self._fail(failure)
            raise
        try:
            return self._take(data)
        except UpstreamError as failure:
            self._fail(failure)
            raise

    async def _next_data(self, within: float | None = None) -> bytes:
        """Returns the next data to parse when there is any; empty at the end of the answer. The
        wait for it counts as one for the provider, which is of interest while the stream opens."""
        with self._attempt.waiting:
            if self._was_busy:
                self._was_busy = False
                await asyncio.sleep(0)
            data, self._unparsed = self._unparsed, b""
            return data or await self._answer.next_chunk(within)

    def _keep(self, chunk: Awaitable[bytes]) -> None:
        """Keeps a chunk that arrived in the moment in which its reader was cancelled."""
        if isinstance(chunk, asyncio.Future) and chunk.done() and not chunk.cancelled():
            with suppress(Exception):
                self._unparsed = chunk.result()
                self._was_busy = True

    def _take_slices(self, data: bytes) -> Sequence[Frame]:
        """Returns the frames of as much of `data` as can be parsed within `BUSY_SECONDS`; the rest
        is parsed next. Raises the same errors as `_take`, after the frames before the failure."""
        self._was_busy = True
        until = self._clock.monotonic() + BUSY_SECONDS
        frames: list[Frame] = []
        position = 0
        while position < len(data) and not (self._ended or self._failure):
            try:
                frames += self._take(data[position : position + SLICE_BYTES])
            except UpstreamError as failure:
                if not frames:
                    raise
                self._failure = failure
            position += SLICE_BYTES
            if self._clock.monotonic() >= until:
                self._unparsed = data[position:]
                break
        return frames

    def _hold(self, frames: Sequence[Frame], most: int) -> None:
        """Holds frames back. Raises `AnswerTooLarge` if they take more than `most` bytes of
        memory."""
        for frame in frames:
            if frame.events or self._held_bytes < MAX_EMPTY_BYTES:
                self._held.append(frame)
                self._held_bytes += len(frame.raw) + FRAME_BYTES * (1 + len(frame.events))
        if self._held_bytes > most:
            raise AnswerTooLarge(f"The part held back is larger than {most} bytes.")

    def _cut(self, error: UpstreamError) -> Sequence[Frame]:
        """Returns the rest of an answer that `error` cut. Raises it if the answer is incomplete."""
        # An answer with its finish is complete, however the connection ended.
        with suppress(UpstreamError):
            return self._take(b"")
        self._fail(error)
        raise error

    def _cut_by_deadline(self) -> Sequence[Frame]:
        """Does the same as `_cut` when the request's deadline has passed."""
        try:
            return self._cut(DeadlineCut("Time ran out in the middle of the answer."))
        except DeadlineCut as cut:
            raise DeadlineExceeded(cut.message) from None

    def _fail(self, error: UpstreamError) -> None:
        self._ended = True
        counts_against_target = not isinstance(error, DeadlineCut)
        self._attempt.fail(
            error, self._usage, self._output_length, counts_against_target=counts_against_target
        )

    def _take(self, data: bytes) -> Sequence[Frame]:
        """Returns the frames of `data`, or of its beginning; of an empty one the last frames.
        Raises `UpstreamError`."""
        size = len(data)
        if size > SLICE_BYTES:
            return self._take_slices(data)
        self._size += size
        if self._size > self._max_bytes:
            raise AnswerTooLarge(f"The answer is larger than {self._max_bytes} bytes.")
        frames = self._parser.feed(data) if data else self._parser.close()
        for frame in frames:
            for event in frame.events:
                if type(event) is TextDelta or isinstance(event, ThinkingDelta | RefusalDelta):
                    self._output_length += len(event.text)
                elif isinstance(event, ToolCallDelta):
                    self._output_length += len(event.arguments)
                elif isinstance(event, UsageReported | AnswerStarted):
                    self._usage = event.usage or self._usage
                    if isinstance(event, UsageReported) and not event.usage.estimated:
                        self._is_counted = True
                elif isinstance(event, AnswerEnded):
                    self._ended = True
                    self._has_tail = True
        if not self._has_content and any(frame.has_content for frame in frames):
            self._has_content = True
            self._attempt.first_token()
        self._failure = self._parser.failure
        if not data:
            self._ended = True
        if self._ended:
            self._attempt.succeed(self._usage, self._output_length, is_counted=self._is_counted)
            frames = self._with_recorded_usage(frames)
        return frames

    def _with_recorded_usage(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """Returns the last frames; if the recorded usage differs from the vendor's last report, a
        report of it is inserted before the end."""
        settled = self._attempt.settled
        if settled is None or settled.usage is None or settled.usage is self._usage:
            return frames
        return with_usage_report(frames, settled.usage)
