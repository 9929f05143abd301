"""Reads streamed answers of vendors of OpenAI Chat Completions.

Source: https://platform.openai.com/docs/api-reference/chat-streaming, and the deviations of
vendors.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

from llm_routing.core.codec import decode, encode
from llm_routing.core.errors import MalformedAnswer, TruncatedStream
from llm_routing.core.events import (
    AnswerEnded,
    AnswerStarted,
    ChoiceFinished,
    Frame,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from llm_routing.core.unicode import repair_strings
from llm_routing.formats.base import NO_DEFAULTS, AnswerDefaults
from llm_routing.formats.event_stream import EventStreamParser, decoded_event, may_contain_content
from llm_routing.formats.lenient import text_of
from llm_routing.formats.names import OPENAI_CHAT
from llm_routing.formats.sse import ServerSentEvent, encode_event
from llm_routing.formats.tool_ids import signature_in, with_signature
from llm_routing.formats.usage import repair_usage

from .errors import error_in_answer
from .repair import ChunkRepair, made_call_id, unreadable
from .response import decode_answer, is_error, read_finish_reason, read_text, repair_finish
from .usage import read_usage, read_vendor_cost

_DONE = b"[DONE]"


class OpenAIStreamParser(EventStreamParser):
    """See `StreamParser`. One per answer.

    An unreadable event is dropped, and forgiven if it holds no content and all choices finish.
    After the finish nothing can fail the answer: an error then ends it.
    """

    name = OPENAI_CHAT

    def __init__(self, defaults: AnswerDefaults = NO_DEFAULTS) -> None:
        super().__init__()
        self._repair = ChunkRepair(defaults)
        self._finished: dict[int, bool] = {}
        self._calling: set[int] = set()
        # Ids of calls whose name has not arrived yet, by choice and index.
        self._unnamed: dict[tuple[int, int], str] = {}
        self._has_data = False
        self._is_malformed = self._is_counted = False

    def close(self) -> Sequence[Frame]:
        """See `StreamParser.close`."""
        was_malformed = self._is_malformed
        frames: list[Frame] = []
        for event in self._splitter.close():
            if not self._has_data and event.raw.lstrip()[:1] in (b"{", b"[", b"<"):
                decode_answer(event.raw)
                raise MalformedAnswer("The provider did not answer with an event stream.")
            # An unreadable last event was merely cut off.
            with suppress(MalformedAnswer):
                frame = self._frame(event._replace(raw=event.raw + b"\n\n"))
                if frame is not None:
                    frames.append(frame)
        if not self._is_ended:
            self._is_malformed = was_malformed
            self._end()
            frames.append(Frame(OPENAI_CHAT, b"", (AnswerEnded(),)))
        return frames

    def _frame(self, event: ServerSentEvent) -> Frame | None:
        if self._is_ended:
            return None
        data = event.data
        if data is None:
            return Frame(OPENAI_CHAT, event.raw)
        if (run := self._run.match(event.raw)) is not None:
            return run
        self._has_data = True
        said = data.strip()
        if not said:
            # An empty event, which clients fail on.
            return None
        if said == _DONE:
            self._end()
            return Frame(OPENAI_CHAT, event.raw, (AnswerEnded(),))
        chunk, has_halves = decoded_event(data)
        if is_error(chunk) or (event.event == "error" and chunk is not None):
            if self._is_finished:
                self._end()
                return Frame(OPENAI_CHAT, b"", (AnswerEnded(),))
            raise error_in_answer(repair_strings(chunk) if has_halves else chunk)
        if not isinstance(chunk, dict):
            self._leave_out(data)
            return None
        try:
            frame = self._chunk_frame(event, chunk, has_halves)
        except MalformedAnswer:
            if not self._is_finished:
                raise
            # The answer is already complete.
            return None
        if has_halves or self._repair.halves:
            self._run.forget()
        else:
            self._run.learn(
                event, frame, lambda probe: self._chunk_frame(probe, decode(probe.data or b""))
            )
        return frame

    def _chunk_frame(
        self, event: ServerSentEvent, chunk: dict[str, Any], has_halves: bool = False
    ) -> Frame:
        is_rewritten = self._repair.repair(chunk)
        if has_halves or self._repair.halves:
            chunk = self._repair.join_halves(chunk)
            is_rewritten = True
        has_usage = "usage" in chunk
        vendor_cost = read_vendor_cost(chunk.get("usage"), event.data or b"")
        if repair_usage(chunk):
            is_rewritten = True
        for_usage = has_usage and not chunk["choices"] and not chunk.get("prompt_filter_results")
        events = tuple(self._events(chunk, vendor_cost))
        for choice in chunk["choices"]:
            is_rewritten = repair_finish(choice) or is_rewritten
        raw = event.raw
        if is_rewritten:
            # It pads the vendor's event, and would prevent the fast path.
            chunk.pop("obfuscation", None)
            raw = encode_event(encode(chunk), event.event)
        return Frame(OPENAI_CHAT, raw, events, for_usage)

    @property
    def _is_finished(self) -> bool:
        return bool(self._finished) and all(self._finished.values())

    def _leave_out(self, data: bytes) -> None:
        """Records that an event is dropped. Raises `MalformedAnswer` if it may hold content."""
        self._is_malformed = True
        if may_contain_content(data) and not self._is_finished:
            raise MalformedAnswer("A piece of the answer could not be read.")

    def _end(self) -> None:
        """Ends the answer. Raises `UpstreamError` if it is incomplete."""
        if self._is_finished:
            self._is_ended = True
            self._run.forget()
            return
        if self._is_malformed:
            raise MalformedAnswer(
                "An event of the stream could not be read, and the answer has no finish reason."
            )
        raise TruncatedStream("The stream ended before the answer was finished.")

    def _events(self, chunk: Mapping[str, Any], vendor_cost: Decimal | None) -> list[StreamEvent]:
        """Returns the events of a repaired chunk."""
        events: list[StreamEvent] = []
        for given in chunk["choices"]:
            # Azure's first chunk has no choices and no id yet.
            if not self._finished:
                events.append(AnswerStarted(chunk["id"], chunk["model"]))
            index = given["index"]
            is_finished = self._finished.setdefault(index, False)
            self._read_delta(given["delta"], index, events)
            reason = read_finish_reason(given, calls_tools=index in self._calling)
            if reason is not None and not is_finished:
                if any(choice == index for choice, _ in self._unnamed):
                    raise _nameless_call()
                self._finished[index] = True
                events.append(ChoiceFinished(reason, index))
        usage = chunk.get("usage")
        if usage is not None and (counted := read_usage(usage, vendor_cost)) is not None:
            # Zeros after a count are ignored.
            if counted.total_tokens or not self._is_counted:
                events.append(UsageReported(counted))
            self._is_counted = self._is_counted or counted.total_tokens > 0
        return events

    def _read_delta(self, delta: Mapping[str, Any], choice: int, events: list[StreamEvent]) -> None:
        thinking, text = read_text(delta)
        if thinking:
            events.append(ThinkingDelta(thinking, choice))
        if text:
            events.append(TextDelta(text, choice))
        if refusal := delta.get("refusal"):
            events.append(RefusalDelta(refusal, choice))
        audio = delta.get("audio")
        if isinstance(audio, dict):
            # Audio has no event of its own, but it counts as content.
            events.append(TextDelta(text_of(audio.get("transcript")), choice))
        for call in delta.get("tool_calls") or ():
            self._read_call(call, choice, events)
        if function := delta.get("function_call"):
            self._read_function_call(function, choice, events)

    def _read_call(self, call: Mapping[str, Any], choice: int, events: list[StreamEvent]) -> None:
        if custom := call.get("custom"):
            function, arguments = custom, custom.get("input")
        else:
            function = call.get("function") or {}
            arguments = function.get("arguments")
        index = call["index"]
        if "id" in call:
            self._calling.add(choice)
            self._unnamed[choice, index] = with_signature(call["id"], signature_in(call))
        if self._unnamed and (name := function.get("name")):
            call_id = self._unnamed.pop((choice, index), None)
            if call_id is not None:
                events.append(ToolCallStarted(index, call_id, name, choice))
        if arguments:
            if (choice, index) in self._unnamed:
                raise _nameless_call()
            events.append(ToolCallDelta(index, arguments, choice))

    def _read_function_call(
        self, function: Mapping[str, Any], choice: int, events: list[StreamEvent]
    ) -> None:
        """Reads a deprecated function call: one a choice, without an id."""
        call: dict[str, Any] = {"index": 0, "function": function}
        if choice not in self._calling:
            call["id"] = made_call_id(f"{self._repair.answer_id}/{choice}")
        self._read_call(call, choice, events)


def _nameless_call() -> MalformedAnswer:
    """Returns the error for a call without a function name, which cannot be executed."""
    return unreadable("a tool call without a name")
