"""Reads streamed answers of vendors of Anthropic Messages.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from msgspec.structs import replace

from llm_routing.core.codec import decode, encode
from llm_routing.core.errors import InvalidRequest, MalformedAnswer, TruncatedStream
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
from llm_routing.core.unicode import repair_strings
from llm_routing.formats.base import NO_DEFAULTS, AnswerDefaults
from llm_routing.formats.event_stream import EventStreamParser, decoded_event, may_contain_content
from llm_routing.formats.fields import Fields
from llm_routing.formats.names import ANTHROPIC_MESSAGES
from llm_routing.formats.sse import ServerSentEvent, encode_event
from llm_routing.formats.usage import repair_usage

from .errors import error_in_answer
from .repair import EventRepair, UnexpectedShape
from .response import decoded, finish_reason, refusal_texts
from .usage import Counts, counts_output, merged_counts, read_usage, write_usage

_COUNTING: Final = frozenset({"message_start", "message_delta"})
_BLANK_LINE: Final = b"\n\n"
# If one of these is missing, the answer has a gap or the rest makes no sense.
_PIECES: Final = frozenset({"message_start", "content_block_start", "content_block_delta"})
# These hold no content; if one is missing, the answer does not end properly.
_WORDLESS: Final = frozenset({"ping", "content_block_stop", "message_delta", "message_stop"})


class AnthropicStreamParser(EventStreamParser):
    """See `StreamParser`. One per answer. Events after `message_stop` are dropped.

    An unreadable event is dropped too, and forgiven if it holds no content and the rest is
    complete: every block began and ended, and there is a stop reason. After the stop reason an
    error ends the answer.
    """

    name = ANTHROPIC_MESSAGES

    def __init__(self, defaults: AnswerDefaults = NO_DEFAULTS) -> None:
        super().__init__()
        self._repair = EventRepair(defaults)
        self._counts: Counts = {}
        self._is_miscounted = self._is_counted = False
        self._signatures: dict[int, list[str]] = {}
        self._tool_calls: dict[int, int] = {}
        self._without_input: set[int] = set()
        self._open_blocks: set[int] = set()
        self._has_data = False
        self._is_malformed = False
        self._is_finished = False
        self._readers: dict[str, Callable[[Fields], Iterator[StreamEvent]]] = {
            "message_start": self._read_start,
            "content_block_start": self._read_block_start,
            "content_block_delta": self._read_delta,
            "content_block_stop": self._read_block_stop,
            "message_delta": self._read_message_delta,
            "message_stop": self._read_stop,
        }

    def close(self) -> Sequence[Frame]:
        """See `StreamParser.close`."""
        if self._is_ended:
            return []
        frames: list[Frame] = []
        for event in self._splitter.close():
            if not self._has_data and event.raw.lstrip()[:1] in (b"{", b"<"):
                decoded(event.raw)
                raise MalformedAnswer("The provider did not answer with an event stream.")
            # Its blank line is missing, but more events follow if it is relayed.
            whole = event._replace(raw=event.raw + _BLANK_LINE)
            was_malformed = self._is_malformed
            # An unreadable last event was merely cut off.
            with suppress(MalformedAnswer):
                if (frame := self._frame(whole)) is not None:
                    frames.append(frame)
            self._is_malformed = was_malformed
        if not self._is_finished:
            self._refuse_gaps()
            raise TruncatedStream("The stream ended before the answer was finished.")
        if not self._is_ended:
            frames.append(Frame(ANTHROPIC_MESSAGES, b"", (AnswerEnded(),)))
        return frames

    def _frame(self, event: ServerSentEvent) -> Frame | None:
        if self._is_ended:
            return None
        if event.data is None:
            return Frame(ANTHROPIC_MESSAGES, event.raw)
        if (run := self._run.match(event.raw)) is not None:
            return run
        self._has_data = True
        kind = event.event
        value, has_halves = decoded_event(event.data)
        try:
            fields = Fields(value)
            kind = fields.string("type") or kind
            if kind == "error":
                if self._is_finished:
                    self._is_ended = True
                    return Frame(ANTHROPIC_MESSAGES, b"", (AnswerEnded(),))
                raise error_in_answer(repair_strings(value))
            frame = self._read(event, kind, value, has_halves=has_halves)
        except (InvalidRequest, UnexpectedShape) as error:
            is_missed = kind in _PIECES or (
                kind not in _WORDLESS and may_contain_content(event.data)
            )
            if is_missed and not self._is_finished:
                raise MalformedAnswer("An event of the stream cannot be read.") from error
            self._is_malformed = True
            self._run.forget()
            return None
        if kind == "content_block_delta" and not (has_halves or self._repair.halves):
            self._run.learn(
                event, frame, lambda probe: self._read(probe, kind, decode(probe.data or b""))
            )
        else:
            # The set of open blocks may have changed, and with it the meaning of a delta.
            self._run.forget()
        return frame

    def _read(
        self, event: ServerSentEvent, kind: str, value: dict[str, Any], *, has_halves: bool = False
    ) -> Frame:
        """Returns the event as a frame, with the vendor's own bytes if they are complete."""
        owner = value.get("message") if kind == "message_start" else value
        counted, is_repaired = self._repaired_usage(owner) if kind in _COUNTING else (None, False)
        values, is_rewritten = self._repair.repair(kind, value)
        if has_halves or self._repair.halves:
            lost, value = self._repair.join_halves(value)
            values += lost
            is_rewritten = True
        values.append(value)
        raw = event.raw
        if is_rewritten or is_repaired or (kind and event.event != kind):
            raw = b"".join([encode_event(encode(one), one["type"] or "") for one in values])
        # Callers expect zeros, but the vendor did not count them.
        for one in values:
            if one["type"] == "message_start":
                one["message"]["usage"] = counted if one is value else None
        if kind == "message_delta":
            value["usage"] = counted
        events: list[StreamEvent] = []
        for one in values:
            if (reader := self._readers.get(one["type"])) is not None:
                events += reader(Fields(one))
        return Frame(ANTHROPIC_MESSAGES, raw, tuple(events))

    def _repaired_usage(self, owner: Any) -> tuple[Any, bool]:
        """Returns the usage that counts, and whether the vendor's was changed: callers see
        integers, and zeros in place of impossible counts."""
        if not isinstance(owner, dict):
            return None, False
        is_repaired = repair_usage(owner)
        counted = owner.get("usage")
        if is_repaired and counted is None:
            self._is_miscounted = True
            owner["usage"] = write_usage(None)
        return counted, is_repaired

    def _refuse_gaps(self) -> None:
        """Raises `MalformedAnswer` if a dropped event may be one that is missing."""
        if self._is_malformed:
            raise MalformedAnswer(
                "An event of the stream could not be read, and the answer is incomplete without it."
            )

    def _read_start(self, event: Fields) -> Iterator[StreamEvent]:
        message = event.required_object("message")
        self._counts = merged_counts(self._counts, message.get("usage"))
        yield AnswerStarted(
            message.string("id") or "", message.string("model") or "", read_usage(self._counts)
        )

    def _read_block_start(self, event: Fields) -> Iterator[StreamEvent]:
        index = event.required_integer("index", 0)
        block = event.required_object("content_block")
        self._open_blocks.add(index)
        match block.required_string("type"):
            case "text":
                if text := block.string("text"):
                    yield TextDelta(text)
            case "thinking":
                self._signatures[index] = [block.string("signature") or ""]
                if thinking := block.string("thinking"):
                    yield ThinkingDelta(thinking)
            case "redacted_thinking":
                yield ThinkingEnded(redacted=block.required_string("data"))
            case "tool_use":
                call = self._tool_calls[index] = len(self._tool_calls)
                yield ToolCallStarted(
                    call, block.required_string("id"), block.required_string("name")
                )
                given = block.object("input")
                if given and given.value:
                    yield ToolCallDelta(call, encode(given.value).decode())
                else:
                    self._without_input.add(index)
            case _:
                # A block that only this format has; its callers receive the bytes.
                pass

    def _read_delta(self, event: Fields) -> Iterator[StreamEvent]:
        index = event.required_integer("index", 0)
        delta = event.required_object("delta")
        if index not in self._open_blocks:
            self._refuse_gaps()
        match delta.required_string("type"):
            case "text_delta":
                if text := delta.string("text"):
                    yield TextDelta(text)
            case "thinking_delta":
                if thinking := delta.string("thinking"):
                    yield ThinkingDelta(thinking)
            case "signature_delta":
                if index in self._signatures:
                    self._signatures[index].append(delta.string("signature") or "")
            case "input_json_delta":
                arguments = delta.string("partial_json")
                if arguments and index in self._tool_calls:
                    self._without_input.discard(index)
                    yield ToolCallDelta(self._tool_calls[index], arguments)
            case _:
                pass

    def _read_block_stop(self, event: Fields) -> Iterator[StreamEvent]:
        index = event.required_integer("index", 0)
        if index not in self._open_blocks:
            self._refuse_gaps()
        self._open_blocks.discard(index)
        signature = self._signatures.pop(index, None)
        if signature is not None:
            yield ThinkingEnded(signature="".join(signature) or None)
        if index in self._without_input:
            # A call without input streams no delta, and means an empty object.
            self._without_input.discard(index)
            yield ToolCallDelta(self._tool_calls[index], "{}")

    def _read_message_delta(self, event: Fields) -> Iterator[StreamEvent]:
        delta = event.required_object("delta")
        for words in refusal_texts(delta):
            yield RefusalDelta(words)
        if stop_reason := delta.string("stop_reason"):
            if self._open_blocks:
                self._refuse_gaps()
            self._is_finished = True
            yield ChoiceFinished(
                finish_reason(stop_reason), stop_sequence=delta.string("stop_sequence")
            )
        self._counts = merged_counts(self._counts, event.get("usage"))
        usage = None if self._is_miscounted else read_usage(self._counts)
        if usage is not None:
            # `message_start` does not count the answer yet.
            self._is_counted = self._is_counted or counts_output(event.get("usage"))
            yield UsageReported(usage if self._is_counted else replace(usage, estimated=True))

    def _read_stop(self, _event: Fields) -> Iterator[StreamEvent]:
        if not self._is_finished:
            self._refuse_gaps()
            raise TruncatedStream("The stream ended without a stop reason.")
        self._is_ended = True
        yield AnswerEnded()
