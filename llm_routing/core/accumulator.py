"""Adds up stream events to the completion that a non-streamed request would have returned."""

from .content import Part, RefusalPart, TextPart, ThinkingPart, ToolCallPart
from .events import (
    AnswerStarted,
    ChoiceFinished,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from .types import Choice, Completion, FinishReason, Usage


class _ChoiceSoFar:
    def __init__(self) -> None:
        self.thinking: list[ThinkingPart] = []
        self.thought: list[str] = []
        self.text: list[str] = []
        self.refusal: list[str] = []
        self.calls: dict[int, tuple[str, str, list[str]]] = {}
        self.reason: FinishReason | None = None
        self.stop_sequence: str | None = None

    def end_thought(self, signature: str | None, redacted: str | None) -> None:
        text = "".join(self.thought)
        self.thought.clear()
        self.thinking.append(ThinkingPart(text, signature, redacted))

    def content(self) -> tuple[Part, ...]:
        parts: list[Part] = list(self.thinking)
        if self.thought:
            parts.append(ThinkingPart("".join(self.thought)))
        if self.text:
            parts.append(TextPart("".join(self.text)))
        if self.refusal:
            parts.append(RefusalPart("".join(self.refusal)))
        parts.extend(
            ToolCallPart(call_id, name, "".join(arguments))
            for _, (call_id, name, arguments) in sorted(self.calls.items())
        )
        return tuple(parts)


class Accumulator:
    """Adds up events. Its memory is bounded by the limits of the stream."""

    def __init__(self) -> None:
        self._id = ""
        self._model = ""
        self._usage: Usage | None = None
        self._choices: dict[int, _ChoiceSoFar] = {}

    def add(self, event: StreamEvent) -> None:
        """Adds one event."""
        match event:
            case AnswerStarted():
                self._id, self._model = event.id, event.model
                self._usage = event.usage or self._usage
            case UsageReported():
                self._usage = event.usage
            case TextDelta():
                self._choice(event.choice).text.append(event.text)
            case ThinkingDelta():
                self._choice(event.choice).thought.append(event.text)
            case ThinkingEnded():
                self._choice(event.choice).end_thought(event.signature, event.redacted)
            case RefusalDelta():
                self._choice(event.choice).refusal.append(event.text)
            case ToolCallStarted():
                self._choice(event.choice).calls[event.index] = (event.id, event.name, [])
            case ToolCallDelta():
                call = self._choice(event.choice).calls.get(event.index)
                if call is not None:
                    call[2].append(event.arguments)
            case ChoiceFinished():
                choice = self._choice(event.choice)
                choice.reason, choice.stop_sequence = event.reason, event.stop_sequence
            case _:
                pass

    def completion(self) -> Completion:
        """Returns the completion so far."""
        return Completion(
            id=self._id,
            model=self._model,
            choices=tuple(
                Choice(choice.content(), choice.reason, index, choice.stop_sequence)
                for index, choice in sorted(self._choices.items())
            ),
            usage=self._usage,
        )

    def _choice(self, index: int) -> _ChoiceSoFar:
        return self._choices.setdefault(index, _ChoiceSoFar())
