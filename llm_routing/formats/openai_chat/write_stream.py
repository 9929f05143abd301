"""Writes streamed answers for callers of OpenAI Chat Completions.

Source: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from typing import Any

from llm_routing.core.codec import encode
from llm_routing.core.errors import LLMError
from llm_routing.core.events import (
    AnswerEnded,
    AnswerStarted,
    ChoiceFinished,
    Frame,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from llm_routing.core.types import LLMRequest, Usage
from llm_routing.formats.names import OPENAI_CHAT
from llm_routing.formats.sse import KEEP_ALIVE, encode_event

from .errors import error_body
from .repair import answer_id_for_caller
from .response import NO_FINGERPRINT, call_id_for_caller, write_finish_reason
from .usage import write_usage

_DONE = encode_event(b"[DONE]")


class OpenAIStreamRenderer:
    """See `StreamRenderer`. One per answer; `created` is its time in Unix seconds."""

    keep_alive = KEEP_ALIVE

    def __init__(self, request: LLMRequest, created: int) -> None:
        self._include_usage = request.include_usage
        self._created = created
        self._id = ""
        self._model = request.model or ""
        self._started: set[int] = set()
        self._usage: Usage | None = None
        self._is_relayed = False
        self._is_ended = False

    def render(self, frame: Frame) -> bytes:
        """See `StreamRenderer.render`. A chunk that holds only usage is for callers who asked for
        it."""
        events = frame.events
        if frame.format != OPENAI_CHAT:
            return b"".join([self._render(event) for event in events])
        self._is_relayed = True
        if events and type(events[-1]) is AnswerEnded:
            self._is_ended = bool(frame.raw)
        elif frame.for_usage and not self._include_usage:
            return b""
        return frame.raw

    def end(self) -> bytes:
        """See `StreamRenderer.end`."""
        if self._is_ended:
            return b""
        self._is_ended = True
        if self._is_relayed or not self._include_usage:
            return _DONE
        return self._chunk([], write_usage(self._usage or Usage())) + _DONE

    def error(self, error: LLMError, request_id: str) -> bytes:
        """See `StreamRenderer.error`."""
        self._is_ended = True
        return encode_event(encode(error_body(error, request_id)))

    def _render(self, event: StreamEvent) -> bytes:
        match event:
            case AnswerStarted():
                self._id, self._model = event.id, event.model or self._model
                self._usage = event.usage
                return self._start(0)
            case UsageReported():
                self._usage = event.usage
                return b""
            case AnswerEnded() | ThinkingEnded():
                return b""
            case ChoiceFinished():
                reason = write_finish_reason(event.reason)
                return self._start(event.choice) + self._delta(event.choice, {}, reason)
        return self._start(event.choice) + self._delta(event.choice, _write_delta(event))

    def _start(self, choice: int) -> bytes:
        """Returns the chunk that opens a choice, once."""
        if choice in self._started:
            return b""
        self._started.add(choice)
        return self._delta(choice, {"role": "assistant", "content": "", "refusal": None})

    def _delta(self, choice: int, delta: dict[str, Any], reason: str | None = None) -> bytes:
        return self._chunk(
            [{"index": choice, "delta": delta, "logprobs": None, "finish_reason": reason}]
        )

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        chunk: dict[str, Any] = {
            "id": answer_id_for_caller(self._id),
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "system_fingerprint": NO_FINGERPRINT,
            "choices": choices,
        }
        if self._include_usage:
            chunk["usage"] = usage
        return encode_event(encode(chunk))


def _write_delta(
    event: TextDelta | ThinkingDelta | RefusalDelta | ToolCallStarted | ToolCallDelta,
) -> dict[str, Any]:
    match event:
        case TextDelta():
            return {"content": event.text}
        case ThinkingDelta():
            return {"reasoning_content": event.text}
        case RefusalDelta():
            return {"refusal": event.text}
        case ToolCallStarted():
            call = {
                "index": event.index,
                "id": call_id_for_caller(event.id),
                "type": "function",
                "function": {"name": event.name, "arguments": ""},
            }
            return {"tool_calls": [call]}
        case _:
            call = {"index": event.index, "function": {"arguments": event.arguments}}
            return {"tool_calls": [call]}
