"""The native stream: `delta`, `tool_call`, and at the end `done` or `error`."""

from typing import Any

from msgspec.structs import replace

from llm_routing.api.errors import native_body
from llm_routing.core.accumulator import Accumulator
from llm_routing.core.codec import encode
from llm_routing.core.errors import LLMError
from llm_routing.core.events import (
    ChoiceFinished,
    Frame,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)
from llm_routing.core.types import LLMResponse
from llm_routing.formats.sse import KEEP_ALIVE, encode_event

from .pending import ResponseStream


class NativeStreamRenderer:
    """See `formats.base.StreamRenderer`. `done` holds the same object as an answer without
    streaming."""

    keep_alive = KEEP_ALIVE

    def __init__(self, stream: ResponseStream) -> None:
        self._stream = stream
        self._accumulator = Accumulator()

    def render(self, frame: Frame) -> bytes:
        """Returns the events of a frame, possibly none."""
        return b"".join([self._render(event) for event in frame.events])

    def end(self) -> bytes:
        """Returns the event `done`."""
        completion = self._accumulator.completion()
        if completion.usage is None:
            completion = replace(completion, usage=self._stream.usage)
        response = LLMResponse(completion, self._stream.response_facts())
        return _event("done", response.dict())

    def error(self, error: LLMError, request_id: str) -> bytes:
        """Returns the event `error`."""
        return _event("error", native_body(error, request_id))

    def _render(self, event: StreamEvent) -> bytes:
        self._accumulator.add(event)
        match event:
            case TextDelta():
                return _event("delta", {"text": event.text})
            case ThinkingDelta():
                return _event("delta", {"thinking": event.text})
            case RefusalDelta():
                return _event("delta", {"refusal": event.text})
            case ChoiceFinished():
                return self._tool_calls()
        return b""

    def _tool_calls(self) -> bytes:
        """Returns the tool calls, which are complete only at the end: a vendor may interleave their
        parts."""
        return b"".join(
            [
                _event("tool_call", {"id": call.id, "name": call.name, "arguments": call.arguments})
                for choice in self._accumulator.completion().choices[:1]
                for call in choice.tool_calls
            ]
        )


def _event(name: str, data: dict[str, Any]) -> bytes:
    return encode_event(encode(data), name)
