"""Streams and the cache: recording a stream on its way to the caller, and replaying a stored one.

`executor` decides when the cache is used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from llm_routing.core.cached_answer import CachedAnswer
from llm_routing.core.errors import LLMError
from llm_routing.core.events import (
    AnswerEnded,
    ChoiceFinished,
    Frame,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ToolCallStarted,
    with_usage_report,
)
from llm_routing.core.ports import FrameStream, StreamAccount, StreamParser
from llm_routing.core.types import AttemptSummary, FinishReason, Usage

from .flight import InFlight
from .rules import MAX_ENTRY_BYTES
from .single_flight import Rule

REPLAY_BYTES = 16 * 1024


class RecordedStream:
    """Passes a stream through and stores it at its end if it may be served again."""

    def __init__(
        self,
        stream: FrameStream,
        flight: InFlight,
        rule: Rule,
        keep_as: Callable[[bytes, Usage | None], CachedAnswer],
    ) -> None:
        self._stream = stream
        self._flight = flight
        self._rule = rule
        self._keep_as = keep_as
        self._body = bytearray()
        self._size = 0
        self._reasons: set[FinishReason] = set()
        self._has_content = self._calls_tools = False

    @property
    def account(self) -> StreamAccount | None:
        """See `FrameStream`."""
        return self._stream.account

    @property
    def attempts(self) -> tuple[AttemptSummary, ...]:
        """See `FrameStream`."""
        return self._stream.attempts

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Frame]:
        try:
            batch = await self._stream.__anext__()
        except (StopAsyncIteration, LLMError):
            await self._flight.close()
            raise
        for frame in batch:
            self._size += len(frame.raw)
            if self._size > MAX_ENTRY_BYTES:
                self._body.clear()
                self._flight.finish_uncacheable()
                continue
            self._body += frame.raw
            if not self._has_content:
                self._has_content = frame.has_content
            for event in frame.events:
                if type(event) is not TextDelta:
                    self._note(event)
        return batch

    async def aclose(self) -> None:
        """Ends the upstream call. An answer that was not read to its end is not stored."""
        try:
            await self._stream.aclose()
        finally:
            await self._flight.close()

    def _note(self, event: StreamEvent) -> None:
        match event:
            case ChoiceFinished():
                self._reasons.add(event.reason)
            case ToolCallStarted():
                self._calls_tools = True
            case RefusalDelta():
                self._reasons.add(FinishReason.REFUSAL)
            case AnswerEnded():
                self._end()

    def _end(self) -> None:
        is_good = self._rule.is_stream_cacheable(
            self._reasons, has_content=self._has_content, calls_tools=self._calls_tools
        )
        # The bytes of several targets do not form one parsable body.
        if is_good and not self._stream.attempts:
            account = self._stream.account
            usage = account.usage if account else None
            self._flight.finish(self._keep_as(bytes(self._body), usage))
        else:
            self._flight.finish_uncacheable()


@dataclass(frozen=True, slots=True)
class _FromCache:
    """The account of a replayed stream: the tokens of the original answer, and no cost."""

    usage: Usage | None
    cost: Decimal | None = Decimal(0)
    time_to_first_token_ms: float | None = None


class ReplayedStream:
    """The frames of a cached answer, in batches of some kilobytes. The constructor raises
    `UpstreamError` if the body cannot be parsed."""

    def __init__(self, answer: CachedAnswer, parser: StreamParser) -> None:
        self.account: StreamAccount = _FromCache(answer.usage)
        self.attempts: tuple[AttemptSummary, ...] = ()
        self._body = answer.body
        self._parser = parser
        self._position = 0
        self._is_ended = False
        self._first: Sequence[Frame] | None = self._read()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Frame]:
        batch, self._first = self._first, None
        if batch is None:
            batch = self._read()
        return batch

    async def aclose(self) -> None:
        """Stops the replay."""
        self._is_ended = True

    def _read(self) -> Sequence[Frame]:
        if self._is_ended:
            raise StopAsyncIteration
        piece = self._body[self._position : self._position + REPLAY_BYTES]
        self._position += REPLAY_BYTES
        frames = self._parser.feed(piece) if piece else self._parser.close()
        if self._parser.failure is not None:
            raise self._parser.failure
        # It is always the last event of a batch; see `AnswerStream`.
        last = frames[-1].events[-1:] if frames else ()
        self._is_ended = not piece or any(isinstance(event, AnswerEnded) for event in last)
        usage = self.account.usage
        if self._is_ended and usage is not None and usage.estimated:
            return with_usage_report(frames, usage)
        return frames
