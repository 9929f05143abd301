"""The typed events of a streamed answer, and the frames that carry them.

How a vendor's bytes become events is in `llm_routing.formats`; how events add up to a completion
is in `accumulate`.
"""

from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct

from .hidden_fields import HidesFields
from .types import FinishReason, LLMResponse, Usage


class AnswerStarted(Struct, frozen=True):
    """The vendor has begun: its id of the answer and the model it names."""

    id: str
    model: str
    usage: Usage | None = None


class TextDelta(Struct, frozen=True):
    """More text."""

    text: str
    choice: int = 0


class ThinkingDelta(Struct, frozen=True):
    """More visible reasoning."""

    text: str
    choice: int = 0


class ThinkingEnded(Struct, frozen=True):
    """A block of reasoning is complete; its proof, or the whole block where it is redacted."""

    signature: str | None = None
    redacted: str | None = None
    choice: int = 0


class RefusalDelta(Struct, frozen=True):
    """More of the model's refusal."""

    text: str
    choice: int = 0


class ToolCallStarted(Struct, frozen=True):
    """Tool call number `index` of a choice begins."""

    index: int
    id: str
    name: str
    choice: int = 0


class ToolCallDelta(Struct, frozen=True):
    """More of the arguments' JSON text of tool call number `index`."""

    index: int
    arguments: str
    choice: int = 0


class ChoiceFinished(Struct, frozen=True):
    """A choice is complete."""

    reason: FinishReason
    choice: int = 0
    stop_sequence: str | None = None


class UsageReported(Struct, frozen=True):
    """Tokens so far; a later report replaces an earlier one. Estimated: the vendor has not counted
    the answer to here."""

    usage: Usage


class AnswerEnded(Struct, frozen=True):
    """The vendor says that nothing follows. `response` is filled in by the router for callers in
    process: the whole answer and how it came about."""

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
    """One frame of a vendor's stream: its bytes in the vendor's format, and what they mean.

    A comment or a ping has no events. A caller who speaks `format` is sent `raw`, unless the frame
    is `for_usage` alone and the caller did not ask for usage.
    """

    hidden_fields: ClassVar = frozenset({"raw"})

    format: str
    raw: bytes
    events: tuple[StreamEvent, ...] = ()
    for_usage: bool = False

    @property
    def has_content(self) -> bool:
        """Whether a caller would see a piece of the answer in it."""
        return any(isinstance(event, CONTENT_EVENTS) for event in self.events)


def with_usage_report(frames: Sequence[Frame], usage: Usage) -> Sequence[Frame]:
    """The last frames of an answer, with a report of `usage` before its end. The report has no
    bytes, so that callers who are sent the vendor's own bytes do not see it."""
    report = Frame("", b"", (UsageReported(usage),))
    for position, frame in enumerate(frames):
        if any(isinstance(event, AnswerEnded) for event in frame.events):
            return [*frames[:position], report, *frames[position:]]
    return [*frames, report]
