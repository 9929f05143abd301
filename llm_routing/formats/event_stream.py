"""The base of stream parsers: events in, frames out.

A failure is raised after the frames before it, however the bytes were cut.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final

from llm_routing.core.codec import TooManyValues, decode, decode_lenient
from llm_routing.core.errors import AnswerTooLarge, UpstreamError
from llm_routing.core.events import Frame

from .sse import EventSplitter, ServerSentEvent
from .text_delta_fast_path import TextDeltaFastPath

# The beginning of a non-empty string in a field that holds answer content.
_WORDS: Final = re.compile(
    rb'"(?:content|text|reasoning|reasoning_content|thinking|refusal|arguments|partial_json'
    rb'|transcript)"\s*:\s*"(?!")'
)
# The beginning of an object up to the name of its first field, which may be cut off.
_FIRST_FIELD: Final = re.compile(rb'\s*\{\s*(?:"(\w*)(")?|$)')
_FIELDS: Final = (
    b"id",
    b"object",
    b"created",
    b"model",
    b"choices",
    b"type",
    b"index",
    b"delta",
    b"content_block",
    b"message",
)


class EventStreamParser(ABC):
    """See `StreamParser`. Subclasses say what one event means."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self.failure: UpstreamError | None = None
        self._splitter = EventSplitter()
        self._run = TextDeltaFastPath(self.name)
        self._is_ended = False

    def feed(self, data: bytes) -> Sequence[Frame]:
        """See `StreamParser.feed`."""
        if self.failure is not None:
            raise self.failure
        if self._splitter.is_between_events and (run := self._run.match(data)) is not None:
            return [run]
        frames: list[Frame] = []
        try:
            for event in self._splitter.feed(data):
                frame = self._frame(event)
                if frame is not None:
                    frames.append(frame)
        except UpstreamError as error:
            # Errors after the end of the answer are ignored.
            if not self._is_ended:
                self.failure = error
                if not frames:
                    raise
        return frames

    @abstractmethod
    def _frame(self, event: ServerSentEvent) -> Frame | None:
        """Returns the event as a frame, or None if it is dropped. Raises `UpstreamError`."""


def decoded_event(data: bytes) -> tuple[Any, bool]:
    """Returns the value of an event's data, or None if it is not JSON, and whether it may hold lone
    surrogates."""
    try:
        return decode(data), False
    except TooManyValues:
        raise AnswerTooLarge("An event of the stream holds too many values.") from None
    except ValueError:
        pass
    with suppress(ValueError):
        return decode_lenient(data), True
    return None, False


def may_contain_content(data: bytes) -> bool:
    """Returns whether an unreadable event may hold a piece of the answer, so that dropping it would
    leave a gap: it begins like a chunk of an answer, or has a content field."""
    first = _FIRST_FIELD.match(data)
    if first is not None:
        name, is_whole = first[1] or b"", first[2] is not None
        if name in _FIELDS if is_whole else any(field.startswith(name) for field in _FIELDS):
            return True
    return _WORDS.search(data) is not None
