"""Reads streamed answers of vendors of Anthropic Messages."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.accumulator import Accumulator
from llm_routing.core.content import (
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from llm_routing.core.errors import (
    AnswerTooLarge,
    MalformedAnswer,
    ServerFailed,
    TruncatedStream,
    UpstreamOverloaded,
)
from llm_routing.core.events import (
    AnswerEnded,
    AnswerStarted,
    ChoiceFinished,
    Frame,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    UsageReported,
)
from llm_routing.core.types import Completion, FinishReason, Usage
from tests.formats.anthropic_messages.stream_events import (
    FORMAT,
    STOP,
    TEXT,
    WHOLE,
    block,
    event,
    read,
    start,
    stop,
)


def events_of(frames: Iterable[Frame]) -> list[StreamEvent]:
    return [event for frame in frames for event in frame.events]


def summed(frames: Iterable[Frame]) -> Completion:
    accumulator = Accumulator()
    for one in events_of(frames):
        accumulator.add(one)
    return accumulator.completion()


class TestReadStream:
    def test_events_are_read_one_by_one(self) -> None:
        frames = read(
            start(input_tokens=10, output_tokens=1),
            block(0, "text", TEXT, text=""),
            stop(output_tokens=7),
            STOP,
        )

        assert [frame.events for frame in frames] == [
            (AnswerStarted("msg_1", "claude-x", Usage(input_tokens=10, output_tokens=1)),),
            (),
            (TextDelta("Hello ü\u2028"),),
            (),
            (
                ChoiceFinished(FinishReason.STOP),
                UsageReported(Usage(input_tokens=10, output_tokens=7)),
            ),
            (AnswerEnded(),),
        ]
        assert {frame.format for frame in frames} == {"anthropic_messages"}

    def test_events_of_all_kinds_add_up_to_the_answer(self) -> None:
        completion = summed(read(WHOLE))

        assert completion.id == "msg_1"
        assert completion.model == "claude-x"
        assert completion.choices[0].content == (
            ThinkingPart("Hm", signature="sig"),
            ThinkingPart(redacted="xxx"),
            TextPart("Hello ü\u2028!"),
            ToolCallPart("toolu_1", "f", '{"a":1}'),
            ToolCallPart("toolu_2", "g", "{}"),
            ToolCallPart("toolu_3", "h", '{"b":2}'),
        )
        assert completion.choices[0].finish_reason is FinishReason.TOOL_CALLS
        assert completion.usage == Usage(input_tokens=15, cached_input_tokens=5, output_tokens=20)

    @given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
    def test_the_cut_of_the_bytes_makes_no_difference(self, cuts: list[int]) -> None:
        edges = [0, *sorted(cuts), len(WHOLE)]
        chunks = [WHOLE[a:b] for a, b in pairwise(edges)]

        frames = read(*chunks)

        assert frames == read(WHOLE)
        assert b"".join(frame.raw for frame in frames) == WHOLE

    @given(st.integers(0, len(WHOLE)))
    def test_a_stream_cut_anywhere_is_complete_only_after_its_finish(self, length: int) -> None:
        finish = len(WHOLE) - len(STOP) - len(b"\n\n")

        if length < finish:
            with pytest.raises(TruncatedStream):
                read(WHOLE[:length])
        else:
            frames = read(WHOLE[:length])
            assert summed(frames) == summed(read(WHOLE))
            assert isinstance(events_of(frames)[-1], AnswerEnded)

    def test_text_in_a_block_start_is_not_lost(self) -> None:
        frames = read(
            start(),
            block(0, "thinking", thinking="Hm", signature="sig"),
            block(1, "text", text="Hi"),
            stop(),
            STOP,
        )

        assert summed(frames).choices[0].content == (
            ThinkingPart("Hm", signature="sig"),
            TextPart("Hi"),
        )

    def test_empty_deltas_are_not_content(self) -> None:
        frames = read(
            start(),
            block(
                0,
                "thinking",
                {"type": "thinking_delta", "thinking": ""},
                {"type": "signature_delta"},
            ),
            block(1, "text", {"type": "text_delta", "text": ""}),
            stop(),
            STOP,
        )

        assert [event for event in events_of(frames) if isinstance(event, TextDelta)] == []
        assert ThinkingEnded() in events_of(frames)
        assert ThinkingDelta("") not in events_of(frames)

    def test_a_signature_or_input_of_an_unknown_block_is_ignored(self) -> None:
        signature = {"type": "signature_delta", "signature": "s"}
        stray = event("content_block_delta", index=9, delta=signature)
        frames = read(start(), stray, stop(), STOP)

        assert summed(frames).choices[0].content == ()
        assert b"signature" not in b"".join(frame.raw for frame in frames)

    def test_a_signature_of_a_text_block_is_ignored(self) -> None:
        text = block(0, "text", {"type": "signature_delta", "signature": "s"}, TEXT, text="")
        assert summed(read(start(), text, stop(), STOP)).choices[0].content == (
            TextPart("Hello ü\u2028"),
        )

    def test_a_message_delta_may_have_a_missing_or_null_delta(self) -> None:
        text = block(0, "text", TEXT, text="")
        counted = event("message_delta", usage={"output_tokens": 7})
        odd = event("message_delta", delta=["end_turn"], usage={"output_tokens": 8})
        completion = summed(read(start(input_tokens=1), text, counted, odd, stop(), STOP))
        assert completion.usage == Usage(1, 7)

    def test_an_input_without_its_block_makes_the_answer_incomplete(self) -> None:
        stray = {"type": "input_json_delta", "partial_json": "{}"}
        with pytest.raises(MalformedAnswer):
            read(start(), event("content_block_delta", index=9, delta=stray), stop(), STOP)

    def test_two_answers_in_one_stream_are_malformed(self) -> None:
        other = start().replace(b"msg_1", b"msg_2")
        text = block(0, "text", TEXT, text="")
        with pytest.raises(MalformedAnswer):
            read(start(), text, other, text, stop(), STOP)

    def test_a_refusal_includes_its_explanation(self) -> None:
        delta = {
            "stop_reason": "refusal",
            "stop_details": {"type": "refusal", "explanation": "No."},
        }

        choice = summed(read(start(), event("message_delta", delta=delta), STOP)).choices[0]

        assert choice.content == (RefusalPart("No."),)
        assert choice.finish_reason is FinishReason.REFUSAL

    def test_the_matched_stop_sequence_is_read(self) -> None:
        delta = {"stop_reason": "stop_sequence", "stop_sequence": "END"}

        choice = summed(read(start(), event("message_delta", delta=delta), STOP)).choices[0]

        assert choice.finish_reason is FinishReason.STOP_SEQUENCE
        assert choice.stop_sequence == "END"

    def test_a_later_usage_report_without_a_count_keeps_the_earlier_one(self) -> None:
        usage = {"input_tokens": 0, "cache_read_input_tokens": None, "output_tokens": 9}

        completion = summed(
            read(
                start(input_tokens=10, cache_read_input_tokens=5, output_tokens=1),
                event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage),
                STOP,
            )
        )

        assert completion.usage == Usage(input_tokens=15, cached_input_tokens=5, output_tokens=9)

    def test_without_counts_there_is_no_usage(self) -> None:
        assert summed(read(start(), stop(), STOP)).usage is None

    def test_a_missing_message_stop_after_the_stop_reason_is_not_a_failure(self) -> None:
        frames = read(start(), stop())

        assert events_of(frames)[-2:] == [ChoiceFinished(FinishReason.STOP), AnswerEnded()]
        assert frames[-1].raw == b""

    def test_events_after_the_end_are_dropped(self) -> None:
        frames = read(start(), stop(), STOP + b"data: [DONE]\n\n", b"data: {")

        assert frames[-1].events == (AnswerEnded(),)
        assert frames[-1].raw == STOP

    @pytest.mark.parametrize("end", [(stop(None), STOP), (STOP,)])
    def test_a_message_stop_without_a_stop_reason_is_not_a_finish(
        self, end: tuple[bytes, ...]
    ) -> None:
        with pytest.raises(TruncatedStream):
            read(start(), *end)

    def test_a_last_event_without_its_blank_line_is_completed(self) -> None:
        frames = read(start(), stop()[:-2])

        assert frames[-2].events == (ChoiceFinished(FinishReason.STOP),)
        assert frames[-2].raw.endswith(b"\n\n")

    def test_a_message_stop_without_its_blank_line_ends_the_answer(self) -> None:
        frames = read(WHOLE[:-2])

        assert events_of(frames) == events_of(read(WHOLE))

    def test_an_event_named_only_by_its_event_line_is_read(self) -> None:
        nameless = b'event: message_delta\ndata: {"delta":{"stop_reason":"end_turn"}}\n\n'

        assert ChoiceFinished(FinishReason.STOP) in events_of(read(start(), nameless))

    def test_a_stream_without_a_finish_is_truncated(self) -> None:
        with pytest.raises(TruncatedStream):
            read(start(), block(0, "text", TEXT), stop(None))

    def test_an_empty_stream_is_truncated(self) -> None:
        with pytest.raises(TruncatedStream):
            read()

    @pytest.mark.parametrize(
        ("begun", "ended"),
        [
            ({"input_tokens": -1}, {"output_tokens": 7}),
            ({"input_tokens": 1}, {"output_tokens": -7}),
        ],
    )
    def test_impossible_counts_are_ignored_and_not_relayed(
        self, begun: dict[str, int], ended: dict[str, int]
    ) -> None:
        frames = read(start(**begun), block(0, "text", TEXT), stop("end_turn", **ended), STOP)
        assert not [one for one in events_of(frames) if isinstance(one, UsageReported)]
        assert b'": -' not in b"".join(frame.raw for frame in frames)

    def test_an_error_event_raises_its_error(self) -> None:
        error = {"type": "overloaded_error", "message": "Overloaded"}
        parser = FORMAT.stream_parser()
        parser.feed(start())

        with pytest.raises(UpstreamOverloaded, match="Overloaded"):
            parser.feed(event("error", error=error))

    def test_an_error_body_instead_of_a_stream_raises_its_error(self) -> None:
        with pytest.raises(ServerFailed, match="Boom"):
            read(b'{"type":"error","error":{"type":"api_error","message":"Boom"}}')

    @pytest.mark.parametrize("body", [b'{"type":"message"}', b"<html>", b" {"])
    def test_a_body_that_is_not_a_stream_is_malformed(self, body: bytes) -> None:
        with pytest.raises(MalformedAnswer):
            read(body)

    @pytest.mark.parametrize(
        "broken",
        [
            b"data: {\n\n",
            b"data: 3\n\n",
            event("message_start"),
            event("content_block_start", index=0),
            event("content_block_start", index=0, content_block=["text"]),
            event("content_block_start", index=0, content_block={"type": "tool_use", "input": "{"}),
            event("content_block_delta", index=0, delta="text"),
            event("content_block_delta", index=0, delta={"text": 3}),
            event("content_block_delta", index=0, delta={"partial_json": "{}"}),
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": 3}),
        ],
    )
    def test_a_broken_event_is_malformed(self, broken: bytes) -> None:
        with pytest.raises(MalformedAnswer):
            read(broken)

    @pytest.mark.parametrize(
        "broken",
        [
            b"event: ping\ndata: {\n\n",
            b'event: ping\ndata: {"type": "ping", "nothing\n\n',
            b"data: {oops\n\n",
            b"data: 3\n\n",
        ],
    )
    def test_a_broken_event_is_dropped_if_the_answer_is_complete_without_it(
        self, broken: bytes
    ) -> None:
        frames = read(start(), block(0, "text", TEXT), broken, stop())
        assert broken not in [frame.raw for frame in frames]
        assert summed(frames) == summed(read(start(), block(0, "text", TEXT), stop()))

    @pytest.mark.parametrize(
        "broken",
        [
            event("content_block_delta", index=0, delta=TEXT)[:-8] + b"\n\n",
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": 3}),
            b"event: content_block_delta\ndata: {\n\n",
            b'data: {"type": "content_block_delta", "ind\n\n',
            b'data: {"ty\n\n',
            b'data: {"type": "content_block_delta", "delta": {"partial_json": "{\n\n',
        ],
    )
    def test_an_answer_with_missing_content_is_malformed_even_with_a_finish(
        self, broken: bytes
    ) -> None:
        with pytest.raises(MalformedAnswer):
            read(start(), block(0, "text", TEXT), broken, stop())
        whole = read(start(), block(0, "text", TEXT), stop(), STOP)
        assert summed(read(start(), block(0, "text", TEXT), stop(), broken, STOP)) == summed(whole)

    def test_an_error_after_the_stop_reason_ends_the_answer(self) -> None:
        error = event("error", error={"type": "api_error", "message": "Boom"})
        before = (start(), block(0, "text", TEXT), stop())
        assert events_of(read(*before, error)) == events_of(read(*before, STOP))

    def test_an_unreadable_event_is_malformed_if_something_is_missing(self) -> None:
        broken = b"data: {oops\n\n"
        delta = event("content_block_delta", index=0, delta=TEXT)
        begun = event("content_block_start", index=0, content_block={"type": "text"})
        for events in (
            (broken, delta),
            (broken, event("content_block_stop", index=0)),
            (begun, delta, broken, stop()),
            (begun, delta, event("content_block_stop", index=0), broken, STOP),
            (begun, broken),
        ):
            with pytest.raises(MalformedAnswer):
                read(start(), *events)

    def test_an_answer_with_a_broken_start_is_malformed(self) -> None:
        for kind in ("message_start", "content_block_start"):
            with pytest.raises(MalformedAnswer):
                read(f"event: {kind}\ndata: {{\n\n".encode(), block(0, "text", TEXT), stop())

    def test_an_endless_event_is_too_large(self) -> None:
        with pytest.raises(AnswerTooLarge):
            read(b"data: ", *[b"x" * 1024 * 1024] * 9)
