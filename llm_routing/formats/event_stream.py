"""What the parsers of streamed answers have in common: events in, frames out, and an order in which
a failure comes after the frames before it, however the bytes were cut.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Final

from llm_routing.core.errors import UpstreamError
from llm_routing.core.events import Frame

from .sse import EventSplitter, ServerSentEvent
from .text_runs import TextRun

# A string begins, and is not empty, in a field that holds a piece of the answer.
_WORDS: Final = re.compile(
    rb'"(?:content|text|reasoning|reasoning_content|thinking|refusal|arguments|partial_json'
    rb'|transcript)"\s*:\s*"(?!")'
)


class EventStreamParser(ABC):
    """See `StreamParser`. Formats say what one event means."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self.failure: UpstreamError | None = None
        self._splitter = EventSplitter()
        self._run = TextRun()
        self._is_ended = False

    def feed(self, data: bytes) -> Sequence[Frame]:
        """See `StreamParser.feed`."""
        if self.failure is not None:
            raise self.failure
        if self._splitter.is_between_events and (text := self._run.match(data)) is not None:
            return [Frame(self.name, data, (text,))]
        frames: list[Frame] = []
        try:
            for event in self._splitter.feed(data):
                frame = self._frame(event)
                if frame is not None:
                    frames.append(frame)
        except UpstreamError as error:
            # What follows the end is nobody's.
            if not self._is_ended:
                self.failure = error
                if not frames:
                    raise
        return frames

    @abstractmethod
    def _frame(self, event: ServerSentEvent) -> Frame | None:
        """The event as a frame; None where nobody is to see it. Raises `UpstreamError`."""


def shows_words(data: bytes) -> bool:
    """Whether an event that cannot be read shows that it held a piece of the answer, which without
    it has a hole."""
    return _WORDS.search(data) is not None
