"""The typed events of a streamed answer, and the frames that carry them.

`llm_routing.formats` parses a vendor's bytes into events; `accumulator` adds events up to a
completion.
"""

from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct

from .hidden_fields import HidesFields
from .types import FinishReason, LLMResponse, Usage


class AnswerStarted(Struct, frozen=True):
    """The beginning of an answer, with the id and the model name that the vendor gives."""

    id: str
    model: str
    usage: Usage | None = None


class TextDelta(Struct, frozen=True):
    """A piece of text."""

    text: str
    choice: int = 0


class ThinkingDelta(Struct, frozen=True):
    """A piece of visible reasoning."""

    text: str
    choice: int = 0


class ThinkingEnded(Struct, frozen=True):
    """The end of a block of reasoning, with its signature, or the whole block if it is redacted."""

    signature: str | None = None
    redacted: str | None = None
    choice: int = 0


class RefusalDelta(Struct, frozen=True):
    """A piece of the model's refusal."""

    text: str
    choice: int = 0


class ToolCallStarted(Struct, frozen=True):
    """The beginning of tool call number `index` of a choice."""

    index: int
    id: str
    name: str
    choice: int = 0


class ToolCallDelta(Struct, frozen=True):
    """A piece of the arguments' JSON text of tool call number `index`."""

    index: int
    arguments: str
    choice: int = 0


class ChoiceFinished(Struct, frozen=True):
    """The end of a choice."""

    reason: FinishReason
    choice: int = 0
    stop_sequence: str | None = None


class UsageReported(Struct, frozen=True):
    """The tokens so far; a later report replaces an earlier one. Estimated: the vendor has not
    counted the answer up to here."""

    usage: Usage


class AnswerEnded(Struct, frozen=True):
    """The end of the answer. `response` is the whole answer with its routing facts; the router sets
    it for in-process callers."""

    response: LLMResponse | None = None


ContentEvent = (
    TextDelta | ThinkingDelta | ThinkingEnded | RefusalDelta | ToolCallStarted | ToolCallDelta
)
StreamEvent = ContentEvent | AnswerStarted | ChoiceFinished | UsageReported | AnswerEnded

CONTENT_EVENTS: tuple[type, ...] = (
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    RefusalDelta,
    ToolCallStarted,
    ToolCallDelta,
)


class Frame(HidesFields, frozen=True):
    """One frame of a vendor's stream: its bytes in the vendor's format, and the events in it.

    A comment or a ping has no events. Callers of the same `format` are sent `raw`, unless the frame
    is only `for_usage` and the caller did not request usage.
    """

    hidden_fields: ClassVar = frozenset({"raw"})

    format: str
    raw: bytes
    events: tuple[StreamEvent, ...] = ()
    for_usage: bool = False

    @property
    def has_content(self) -> bool:
        """Whether the frame contains content that callers see."""
        return any(isinstance(event, CONTENT_EVENTS) for event in self.events)


def with_usage_report(frames: Sequence[Frame], usage: Usage) -> Sequence[Frame]:
    """Returns the last frames of an answer with a report of `usage` inserted before the end. The
    report has no bytes, so callers that receive the vendor's bytes do not see it."""
    report = Frame("", b"", (UsageReported(usage),))
    for position, frame in enumerate(frames):
        if any(isinstance(event, AnswerEnded) for event in frame.events):
            return [*frames[:position], report, *frames[position:]]
    return [*frames, report]
