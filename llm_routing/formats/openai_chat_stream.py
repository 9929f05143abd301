"""Streamed answers of OpenAI Chat Completions, read from a vendor.

Writing one for a caller is in `openai_chat_render`. Source:
https://platform.openai.com/docs/api-reference/chat-streaming, and what vendors make of it.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
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

from .event_stream import EventStreamParser, may_hold_words
from .openai_chat_answer import (
    decode_answer,
    drop_impossible_usage,
    is_error,
    made_call_id,
    objects_of,
    read_arguments,
    read_finish_reason,
    read_text,
    read_usage,
    text_of,
)
from .openai_chat_request import NAME
from .openai_errors import error_in_answer
from .sse import ServerSentEvent, encode_event
from .tool_ids import signature_in, with_signature

_DONE = b"[DONE]"


@dataclass(slots=True)
class _Call:
    """A tool call under way: its number among the calls of its choice, and its id on the wire."""

    number: int
    id: str


@dataclass(slots=True)
class _Choice:
    """One alternative answer under way."""

    index: int
    is_finished: bool = False
    calls: list[_Call] = field(default_factory=list)
    slots: dict[int, _Call] = field(default_factory=dict)

    def call(self, slot: Any, call_id: str, name: str) -> _Call | None:
        """The call that a delta goes on with, None where it begins another one.

        By OpenAI's own rule `index` decides. Vendors have left it out, have written 0 for every
        call (Ollama, Gemini), repeat id and name in every delta, or make up a new id for each: so
        a slot is taken anew only by an id and a name that are both there, the id a different one.
        """
        if isinstance(slot, int):
            known = self.slots.get(slot)
            is_another = known is not None and name and call_id not in ("", known.id)
            return None if is_another else known
        if call_id:
            return next((call for call in self.calls if call.id == call_id), None)
        return self.calls[-1] if self.calls and not name else None

    def begin(self, slot: Any, call_id: str) -> _Call:
        """One more call."""
        call = _Call(len(self.calls), call_id)
        self.calls.append(call)
        if isinstance(slot, int):
            self.slots[slot] = call
        return call


class OpenAIStreamParser(EventStreamParser):
    """See `StreamParser`. One for each answer.

    What cannot be read is left out, and forgiven where it is no piece of the answer and all choices
    end well. Once they have, nothing that follows can spoil the answer: an error is its end.
    """

    name = NAME

    def __init__(self) -> None:
        super().__init__()
        self._answer_id = ""
        self._choices: dict[int, _Choice] = {}
        self._has_data = False
        self._is_malformed = False

    def close(self) -> Sequence[Frame]:
        """See `StreamParser.close`."""
        was_malformed = self._is_malformed
        frames: list[Frame] = []
        for event in self._splitter.close():
            if not self._has_data and event.raw.lstrip()[:1] in (b"{", b"[", b"<"):
                decode_answer(event.raw)
                raise MalformedAnswer("The provider answered without a stream.")
            # What cannot be read at the very end is no more than cut off.
            with suppress(MalformedAnswer):
                frame = self._frame(event._replace(raw=event.raw + b"\n\n"))
                if frame is not None:
                    frames.append(frame)
        if not self._is_ended:
            self._is_malformed = was_malformed
            self._end()
            frames.append(Frame(NAME, b"", (AnswerEnded(),)))
        return frames

    def _frame(self, event: ServerSentEvent) -> Frame | None:
        if self._is_ended:
            return None
        data = event.data
        if data is None:
            return Frame(NAME, event.raw)
        if (text := self._run.match(event.raw)) is not None:
            return Frame(NAME, event.raw, (text,))
        self._has_data = True
        said = data.strip()
        if not said:
            # A ping that clients would choke on.
            return None
        if said == _DONE:
            self._end()
            return Frame(NAME, event.raw, (AnswerEnded(),))
        try:
            chunk = decode(data)
        except ValueError:
            chunk = None
        if is_error(chunk) or (event.event == "error" and chunk is not None):
            if self._is_finished:
                self._end()
                return Frame(NAME, b"", (AnswerEnded(),))
            raise error_in_answer(chunk)
        if not isinstance(chunk, dict):
            self._leave_out(data)
            return None
        if drop_impossible_usage(chunk):
            event = event._replace(raw=encode_event(encode(chunk), event.event))
        events = tuple(self._events(chunk))
        self._run.learn(event, events, lambda probe: self._events(decode(probe)))
        return Frame(NAME, event.raw, events)

    @property
    def _is_finished(self) -> bool:
        return bool(self._choices) and all(choice.is_finished for choice in self._choices.values())

    def _leave_out(self, data: bytes) -> None:
        """Notes what is left out. Raises where words may be missed with it."""
        self._is_malformed = True
        if may_hold_words(data) and not self._is_finished:
            raise MalformedAnswer("A piece of the answer could not be read.")

    def _end(self) -> None:
        """Nothing follows. Raises where the answer is not complete."""
        if self._is_finished:
            self._is_ended = True
            self._run.forget()
            return
        if self._is_malformed:
            raise MalformedAnswer("A piece of the stream could not be read, and it has no finish.")
        raise TruncatedStream("The stream ended before the answer was finished.")

    def _events(self, chunk: Mapping[str, Any]) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        for delta in objects_of(chunk.get("choices")):
            # Azure's first chunk has no choices and no id yet.
            if not self._choices:
                self._answer_id = text_of(chunk.get("id"))
                events.append(AnswerStarted(self._answer_id, text_of(chunk.get("model"))))
            self._read_choice(delta, events)
        usage = chunk.get("usage")
        if usage is not None and (counted := read_usage(usage)) is not None:
            events.append(UsageReported(counted))
        return events

    def _read_choice(self, given: Mapping[str, Any], events: list[StreamEvent]) -> None:
        index = given.get("index")
        index = index if isinstance(index, int) else 0
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(index)
        delta = given.get("delta")
        if isinstance(delta, dict):
            self._read_delta(delta, choice, events)
        reason = read_finish_reason(given, calls_tools=bool(choice.calls))
        if reason is not None and not choice.is_finished:
            choice.is_finished = True
            events.append(ChoiceFinished(reason, index))

    def _read_delta(
        self, delta: Mapping[str, Any], choice: _Choice, events: list[StreamEvent]
    ) -> None:
        thinking, text = read_text(delta)
        if thinking:
            events.append(ThinkingDelta(thinking, choice.index))
        if text:
            events.append(TextDelta(text, choice.index))
        refusal = delta.get("refusal")
        if isinstance(refusal, str) and refusal:
            events.append(RefusalDelta(refusal, choice.index))
        audio = delta.get("audio")
        if isinstance(audio, dict):
            # Sound has no event of its own, but it is content: nobody may wait for words.
            events.append(TextDelta(text_of(audio.get("transcript")), choice.index))
        calls = delta.get("tool_calls")
        if calls:
            for call in objects_of(calls):
                self._read_call(call, choice, events)

    def _read_call(
        self, given: Mapping[str, Any], choice: _Choice, events: list[StreamEvent]
    ) -> None:
        # A custom tool has a name and an input in place of a function's arguments.
        function = given.get("function") or given.get("custom")
        function = function if isinstance(function, dict) else {}
        call_id = text_of(given.get("id"))
        name = text_of(function.get("name"))
        slot = given.get("index")
        call = choice.call(slot, call_id, name)
        if call is None:
            call = choice.begin(slot, call_id)
            shown_id = call_id or made_call_id(f"{self._answer_id}/{choice.index}/{call.number}")
            shown_id = with_signature(shown_id, signature_in(given))
            events.append(ToolCallStarted(call.number, shown_id, name, choice.index))
        arguments = read_arguments(function.get("arguments") or function.get("input"))
        if arguments:
            events.append(ToolCallDelta(call.number, arguments, choice.index))
