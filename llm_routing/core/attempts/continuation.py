"""Continues a broken stream on the next target."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from llm_routing.core.errors import UpstreamError
from llm_routing.core.events import (
    AnswerStarted,
    Frame,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    UsageReported,
)
from llm_routing.core.ports import StreamAccount
from llm_routing.core.types import AttemptSummary, Usage

from .chain import Result
from .stream import AnswerStream

_COUNTS = tuple(
    name for name in Usage.__struct_fields__ if name not in ("vendor_cost", "estimated")
)

TakeOver = Callable[[str], Awaitable[Result[AnswerStream] | None]]
"""Calls the next target that can continue the text; returns None if there is none."""


@dataclass(frozen=True, slots=True)
class _Account:
    usage: Usage | None
    cost: Decimal | None
    time_to_first_token_ms: float | None


class ContinuedStream:
    """A `ports.FrameStream` over the streams of several targets, one after another.

    Its frames name no wire format, so that callers receive one rewritten answer instead of the
    bytes of two. Only plain text can be continued: for any other answer, or if no target can
    continue it, iterating raises the failure that cut the answer short.
    """

    def __init__(self, stream: AnswerStream, take_over: TakeOver) -> None:
        self.attempts: tuple[AttemptSummary, ...] = ()
        self._stream = stream
        self._take_over = take_over
        self._earlier: list[StreamAccount] = []
        self._text: list[str] = []
        self._is_plain = True
        self._overlap = ""

    @property
    def account(self) -> StreamAccount | None:
        """The outcome of the last stream, with the usage of the earlier ones added."""
        last = self._stream.account
        if last is None or not self._earlier:
            return last
        accounts = [*self._earlier, last]
        costs = [account.cost for account in accounts if account.cost is not None]
        return _Account(
            usage=_sum((*self._usages(), *([last.usage] if last.usage else ()))),
            cost=sum(costs, Decimal(0)) if len(costs) == len(accounts) else None,
            time_to_first_token_ms=accounts[0].time_to_first_token_ms,
        )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Frame]:
        """Returns the next batch; see `FrameStream`."""
        while True:
            try:
                batch = await self._stream.__anext__()
            except UpstreamError as error:
                await self._go_on_after(error)
                continue
            return [Frame("", frame.raw, self._read(frame.events)) for frame in batch]

    async def aclose(self) -> None:
        """Closes the current stream; see `FrameStream`."""
        await self._stream.aclose()

    async def _go_on_after(self, error: UpstreamError) -> None:
        """Replaces the broken stream by the next one. Raises `error` if there is none."""
        text = "".join(self._text)
        failed = self._stream
        if not self._is_plain or not text.strip() or not error.retryable_elsewhere:
            raise error
        await failed.aclose()
        result = await self._take_over(text.rstrip())
        if result is None:
            raise error
        assert failed.account is not None, "a stream that broke has been settled"
        self._earlier.append(failed.account)
        self.attempts = (
            *self.attempts[:-1],
            failed.attempt.summary(error),
            *result.attempts,
        )
        self._stream = result.value
        # No vendor continues a text that ends in white space, so the white space was not sent; the
        # caller already has it.
        self._overlap = text[len(text.rstrip()) :]

    def _read(self, events: Sequence[StreamEvent]) -> tuple[StreamEvent, ...]:
        """Notes the events and returns them as the caller receives them."""
        if self._earlier:
            events = [told for event in events if (told := self._joined(event)) is not None]
        for event in events:
            match event:
                case TextDelta(text, choice=0):
                    self._text.append(text)
                case AnswerStarted() | UsageReported() | ThinkingDelta() | ThinkingEnded():
                    pass
                case _:
                    self._is_plain = False
        return tuple(events)

    def _usages(self) -> Iterable[Usage]:
        """Returns the usage of the streams that broke off."""
        return [account.usage for account in self._earlier if account.usage is not None]

    def _joined(self, event: StreamEvent) -> StreamEvent | None:
        """Returns an event of a later stream as a part of the first one; None if the caller already
        has its content."""
        match event:
            case AnswerStarted():
                return None
            case UsageReported(usage):
                return UsageReported(_sum((*self._usages(), usage)))
            case TextDelta(text) if self._overlap:
                if self._overlap.startswith(text):
                    self._overlap = self._overlap.removeprefix(text)
                    return None
                rest, self._overlap = text.removeprefix(self._overlap), ""
                return TextDelta(rest)
        return event


def _sum(usages: Iterable[Usage]) -> Usage:
    known = list(usages)
    return Usage(
        **{name: sum(getattr(usage, name) for usage in known) for name in _COUNTS},
        estimated=any(usage.estimated for usage in known),
    )
