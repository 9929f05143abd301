"""The events of a stream in process (`router.stream`). `AnswerEnded` is the last one.

Defined in `core.events`, where the frames that carry them are too.
"""

from .core.events import (
    AnswerEnded,
    AnswerStarted,
    ChoiceFinished,
    ContentEvent,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)

__all__ = [
    "AnswerEnded",
    "AnswerStarted",
    "ChoiceFinished",
    "ContentEvent",
    "RefusalDelta",
    "StreamEvent",
    "TextDelta",
    "ThinkingDelta",
    "ThinkingEnded",
    "ToolCallDelta",
    "ToolCallStarted",
    "UsageReported",
]
