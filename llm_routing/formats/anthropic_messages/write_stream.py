"""Writes streamed answers for callers of Anthropic Messages.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from dataclasses import dataclass, field
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
from llm_routing.formats.names import ANTHROPIC_MESSAGES
from llm_routing.formats.sse import encode_event
from llm_routing.formats.tool_arguments import ObjectScanner

from .blocks import message_id, tool_id_for_caller
from .errors import error_body
from .response import stop_fields, stop_reason_for
from .usage import write_usage


@dataclass(slots=True)
class _Call:
    """A tool call, and the pieces of its arguments that have not been written yet."""

    index: int
    id: str
    name: str
    unwritten: list[str] = field(default_factory=list)
    _scanner: ObjectScanner = field(default_factory=ObjectScanner)

    def add(self, arguments: str) -> None:
        """Adds a piece of the arguments."""
        self.unwritten.append(arguments)
        self._scanner.feed(arguments)

    @property
    def is_complete(self) -> bool:
        """Whether the arguments are complete."""
        return self._scanner.is_complete


class AnthropicStreamRenderer:
    """See `StreamRenderer`. One per answer.

    Blocks are opened and closed one after another, as callers expect. If a vendor interleaves tool
    calls, a call waits until the previous one is complete.
    """

    keep_alive = encode_event(b'{"type":"ping"}', "ping")

    def __init__(self, request: LLMRequest) -> None:
        self._request = request
        self._is_relayed = False
        self._is_started = False
        self._is_ended = False
        self._block = -1
        self._open: str | None = None
        self._call: _Call | None = None
        # By index, in the order of their start.
        self._waiting: dict[int, _Call] = {}
        self._called_tools = False
        self._refused = False
        self._finish: ChoiceFinished | None = None
        self._usage: Usage | None = None

    def render(self, frame: Frame) -> bytes:
        """See `StreamRenderer.render`."""
        if frame.format == ANTHROPIC_MESSAGES:
            self._is_relayed = True
            if frame.events and type(frame.events[-1]) is AnswerEnded:
                self._is_ended = bool(frame.raw)
            return frame.raw
        return b"".join(self._render(event) for event in frame.events)

    def end(self) -> bytes:
        """See `StreamRenderer.end`."""
        if self._is_ended:
            return b""
        if self._is_relayed:
            self._is_ended = True
            return _event("message_stop")
        return self._start("", "", None) + self._end()

    def error(self, error: LLMError, request_id: str) -> bytes:
        """See `StreamRenderer.error`."""
        self._is_ended = True
        return encode_event(encode(error_body(error, request_id)), "error")

    def _render(self, event: StreamEvent) -> bytes:
        match event:
            case AnswerStarted(answer_id, model, usage):
                return self._start(answer_id, model, usage)
            case UsageReported(usage):
                self._usage = usage
                return b""
            case AnswerEnded():
                return self._start("", "", None) + self._end()
        if event.choice:
            # A caller of this format asks for one answer and can read no other.
            return b""
        if isinstance(event, ChoiceFinished):
            self._finish = event
            return b""
        return self._start("", "", None) + self._render_content(event)

    def _render_content(
        self,
        event: TextDelta
        | ThinkingDelta
        | ThinkingEnded
        | RefusalDelta
        | ToolCallStarted
        | ToolCallDelta,
    ) -> bytes:
        match event:
            case TextDelta(text):
                return self._text(text)
            case RefusalDelta(text):
                self._refused = True
                return self._text(text)
            case ThinkingDelta(text):
                return self._thinking() + self._delta("thinking_delta", thinking=text)
            case ThinkingEnded():
                return self._end_thinking(event)
            case ToolCallStarted(index, call_id, name):
                self._called_tools = True
                return self._start_call(_Call(index, call_id, name))
            case _:
                return self._continue_call(event.index, event.arguments)

    def _start(self, answer_id: str, model: str, usage: Usage | None) -> bytes:
        """Returns `message_start`, once."""
        if self._is_started:
            return b""
        self._is_started = True
        self._usage = usage or self._usage
        message: dict[str, Any] = {
            "id": message_id(answer_id),
            "type": "message",
            "role": "assistant",
            "model": model or self._request.model or "",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": write_usage(usage),
        }
        return _event("message_start", message=message)

    def _end(self) -> bytes:
        self._is_ended = True
        finish = self._finish
        stop_reason = stop_reason_for(
            finish.reason if finish else None,
            called_tools=self._called_tools,
            refused=self._refused,
        )
        stop = stop_fields(stop_reason, finish.stop_sequence if finish else None)
        return (
            self._close_all()
            + _event("message_delta", delta=stop, usage=write_usage(self._usage))
            + _event("message_stop")
        )

    def _text(self, text: str) -> bytes:
        opened = b""
        if self._open != "text":
            opened = self._open_block("text", {"type": "text", "text": ""})
        return opened + self._delta("text_delta", text=text)

    def _thinking(self) -> bytes:
        if self._open == "thinking":
            return b""
        return self._open_block("thinking", {"type": "thinking", "thinking": "", "signature": ""})

    def _end_thinking(self, event: ThinkingEnded) -> bytes:
        if event.redacted is not None:
            block = {"type": "redacted_thinking", "data": event.redacted}
            return self._open_block("redacted_thinking", block) + self._close()
        if event.signature is not None:
            opened = self._thinking()
            signature = self._delta("signature_delta", signature=event.signature)
            return opened + signature + self._close()
        return self._close() if self._open == "thinking" else b""

    def _start_call(self, call: _Call) -> bytes:
        if self._call is not None and not self._call.is_complete:
            self._waiting[call.index] = call
            return b""
        return self._open_call(call)

    def _continue_call(self, index: int, arguments: str) -> bytes:
        waiting = self._waiting.get(index)
        if waiting is not None:
            waiting.add(arguments)
            return b""
        call = self._call
        if call is None or call.index != index:
            return b""
        call.add(arguments)
        written = [self._unwritten(call)]
        while self._waiting and call.is_complete:
            call = self._next_waiting()
            written.append(self._open_call(call))
        return b"".join(written)

    def _next_waiting(self) -> _Call:
        return self._waiting.pop(next(iter(self._waiting)))

    def _unwritten(self, call: _Call) -> bytes:
        arguments = "".join(call.unwritten)
        call.unwritten.clear()
        return self._delta("input_json_delta", partial_json=arguments)

    def _open_call(self, call: _Call) -> bytes:
        block = {
            "type": "tool_use",
            "id": tool_id_for_caller(call.id),
            "name": call.name,
            "input": {},
        }
        opened = self._open_block("tool_use", block, call)
        return opened + self._unwritten(call) if call.unwritten else opened

    def _open_block(self, kind: str, block: dict[str, Any], call: _Call | None = None) -> bytes:
        closed = self._close() if call else self._close_all()
        self._block += 1
        self._open = kind
        self._call = call
        return closed + _event("content_block_start", index=self._block, content_block=block)

    def _close_all(self) -> bytes:
        """Closes the open block, and writes the calls that waited for it."""
        closed = [self._close()]
        while self._waiting:
            closed += (self._open_call(self._next_waiting()), self._close())
        return b"".join(closed)

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = self._call = None
        return _event("content_block_stop", index=self._block)

    def _delta(self, kind: str, **fields: str) -> bytes:
        delta = {"type": kind, **fields}
        return _event("content_block_delta", index=self._block, delta=delta)


def _event(kind: str, **fields: Any) -> bytes:
    return encode_event(encode({"type": kind, **fields}), kind)
