"""A streamed answer on its way: frames in the batches in which they came.

An object with an explicit end rather than a generator, so that its attempt is settled when the
caller leaves, not when the garbage collector comes by.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from .attempt import Attempt
from .errors import AnswerTooLarge, DeadlineExceeded, IdleTimeout, UpstreamError
from .events import (
    AnswerEnded,
    AnswerStarted,
    Frame,
    RefusalDelta,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    UsageReported,
)
from .ports import Answer, AttemptSettled, Clock, StreamParser
from .types import Usage

MAX_HELD_BYTES = 8 * 1024 * 1024
TAIL_SECONDS = 0.05


class AnswerStream:
    """Batches of frames, first to last. Iterate, and close it in any case.

    Iterating raises the `UpstreamError` that cut the answer short, or `DeadlineExceeded`.
    """

    def __init__(
        self,
        answer: Answer,
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
        self._has_content = False
        self._has_tail = False
        self._ended = False
        self._usage: Usage | None = None
        self._output_length = 0

    @property
    def attempt(self) -> Attempt:
        """The attempt that answers."""
        return self._attempt

    @property
    def account(self) -> AttemptSettled | None:
        """How the attempt ended; None until it has."""
        return self._attempt.settled

    async def start(self) -> None:
        """Reads up to the first content, holding it back. Raises `UpstreamError`."""
        size = 0
        while not (self._has_content or self._ended):
            data = await self._attempt.waiting(self._answer.next_chunk())
            size += len(data)
            if size > MAX_HELD_BYTES:
                raise AnswerTooLarge(f"No content within the first {MAX_HELD_BYTES} bytes.")
            self._held.extend(self._take(data))

    def __aiter__(self) -> "AnswerStream":
        return self

    async def __anext__(self) -> Sequence[Frame]:
        if self._held:
            held, self._held = self._held, []
            return held
        if self._ended:
            raise StopAsyncIteration
        try:
            return self._take(await self._next_chunk())
        except UpstreamError as error:
            self._fail(error)
            raise

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
            await self._answer.aclose()

    async def _read_tail(self) -> None:
        """The body's end often comes a moment after the last event. Only a connection that was read
        to it can serve again, and a new one costs a handshake."""
        with suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(TAIL_SECONDS):
                while await self._answer.next_chunk():
                    pass

    async def _next_chunk(self) -> bytes:
        remaining = self._deadline - self._clock.monotonic()
        limit = min(self._idle, remaining)
        try:
            async with asyncio.timeout(limit):
                return await self._attempt.waiting(self._answer.next_chunk())
        except TimeoutError:
            error = IdleTimeout(f"The stream was silent for {limit:.3g} s.")
            if limit < self._idle:
                self._fail(error, is_fair=False)
                raise DeadlineExceeded("Time ran out in the middle of the answer.") from None
            raise error from None

    def _fail(self, error: UpstreamError, *, is_fair: bool = True) -> None:
        self._ended = True
        self._attempt.fail(error, self._usage, self._output_length, is_fair=is_fair)

    def _take(self, data: bytes) -> Sequence[Frame]:
        self._size += len(data)
        if self._size > self._max_bytes:
            raise AnswerTooLarge(f"The answer is larger than {self._max_bytes} bytes.")
        frames = self._parser.feed(data) if data else self._parser.close()
        for frame in frames:
            for event in frame.events:
                if isinstance(event, TextDelta | ThinkingDelta | RefusalDelta):
                    self._output_length += len(event.text)
                elif isinstance(event, ToolCallDelta):
                    self._output_length += len(event.arguments)
                elif isinstance(event, UsageReported | AnswerStarted):
                    self._usage = event.usage or self._usage
                elif isinstance(event, AnswerEnded):
                    self._ended = True
                    self._has_tail = True
        if not self._has_content and any(frame.has_content for frame in frames):
            self._has_content = True
            self._attempt.first_token()
        if not data:
            self._ended = True
        if self._ended:
            self._attempt.succeed(self._usage, self._output_length)
        return frames
