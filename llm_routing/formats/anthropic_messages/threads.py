"""Seals the ids of answers in threads, so that they tell which target answered (`core.threads`)."""

from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from llm_routing.core.codec import decode, encode
from llm_routing.core.errors import UpstreamError
from llm_routing.core.events import AnswerStarted, Frame
from llm_routing.core.ports import StreamParser
from llm_routing.core.types import Completion
from llm_routing.formats.names import ANTHROPIC_MESSAGES
from llm_routing.formats.sse import EventSplitter, encode_event

from .blocks import message_id

Seal = Callable[[str], str]


def with_sealed_id(completion: Completion, seal: Seal) -> Completion:
    """Returns the completion with its sealed id, also in its bytes."""
    sealed = seal(message_id(completion.id))
    raw = completion.raw
    if completion.format == ANTHROPIC_MESSAGES:
        raw = encode({**decode(raw), "id": sealed})
    return replace(completion, id=sealed, raw=raw)


class IdSealingParser:
    """A parser that replaces the id of the answer by its sealed id."""

    def __init__(self, parser: StreamParser, seal: Seal) -> None:
        self._parser = parser
        self._seal = seal

    @property
    def failure(self) -> UpstreamError | None:
        """See `StreamParser.failure`."""
        return self._parser.failure

    def feed(self, data: bytes) -> Sequence[Frame]:
        """See `StreamParser.feed`."""
        return self._sealed(self._parser.feed(data))

    def close(self) -> Sequence[Frame]:
        """See `StreamParser.close`."""
        return self._sealed(self._parser.close())

    def _sealed(self, frames: Iterable[Frame]) -> list[Frame]:
        return [
            self._with_id(frame, frame.events[0])
            if frame.events and isinstance(frame.events[0], AnswerStarted)
            else frame
            for frame in frames
        ]

    def _with_id(self, frame: Frame, started: AnswerStarted) -> Frame:
        sealed = self._seal(message_id(started.id))
        events = (replace(started, id=sealed), *frame.events[1:])
        raw = frame.raw
        if frame.format == ANTHROPIC_MESSAGES:
            first, *rest = EventSplitter().feed(raw)
            value = decode(first.data or b"{}")
            value["message"]["id"] = sealed
            shown = encode_event(encode(value), first.event)
            raw = b"".join((shown, *(event.raw for event in rest)))
        return replace(frame, raw=raw, events=events)
