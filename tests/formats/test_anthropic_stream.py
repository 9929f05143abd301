"""Streamed answers of Anthropic Messages: a vendor's events read, and ours as callers read them."""

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic
from anthropic.types import Message as SDKMessage
from hypothesis import given, settings
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
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from llm_routing.core.types import Completion, FinishReason, LLMRequest, Usage
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages

FORMAT = AnthropicMessages()


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def start(**usage: Any) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x"}
    ends: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
    return event("message_start", message={**message, **ends, "usage": usage})


def block(index: int, kind: str, *deltas: dict[str, Any], **fields: Any) -> bytes:
    return (
        event("content_block_start", index=index, content_block={"type": kind, **fields})
        + b"".join(event("content_block_delta", index=index, delta=delta) for delta in deltas)
        + event("content_block_stop", index=index)
    )


def stop(stop_reason: str | None = "end_turn", **usage: Any) -> bytes:
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return event("message_delta", delta=delta, usage=usage)


STOP = event("message_stop")
TEXT = {"type": "text_delta", "text": "Hello ü\u2028"}

WHOLE = (
    start(input_tokens=10, cache_read_input_tokens=5, output_tokens=1)
    + event("ping")
    + block(
        0,
        "thinking",
        {"type": "thinking_delta", "thinking": "Hm"},
        {"type": "signature_delta", "signature": "s"},
        {"type": "signature_delta", "signature": "ig"},
        thinking="",
        signature="",
    )
    + block(1, "redacted_thinking", data="xxx")
    + block(
        2, "text", TEXT, {"type": "text_delta", "text": "!"}, {"type": "citations_delta"}, text=""
    )
    + b": comment\n\n"
    + block(3, "server_tool_use", {"type": "input_json_delta", "partial_json": "{}"}, id="s1")
    + event("of_tomorrow", anything=[1])
    + block(
        4,
        "tool_use",
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"a":'},
        {"type": "input_json_delta", "partial_json": "1}"},
        id="toolu_1",
        name="f",
        input={},
    )
    + block(5, "tool_use", id="toolu_2", name="g", input={})
    + block(6, "tool_use", id="toolu_3", name="h", input={"b": 2})
    + stop("tool_use", output_tokens=20)
    + STOP
)


def read(*chunks: bytes) -> list[Frame]:
    parser = FORMAT.stream_parser()
    frames = [frame for chunk in chunks for frame in parser.feed(chunk)]
    return [*frames, *parser.close()]


def events_of(frames: Iterable[Frame]) -> list[StreamEvent]:
    return [event for frame in frames for event in frame.events]


def summed(frames: Iterable[Frame]) -> Completion:
    accumulator = Accumulator()
    for one in events_of(frames):
        accumulator.add(one)
    return accumulator.completion()


class TestFromAVendor:
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

    def test_a_rich_answer_adds_up(self) -> None:
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
    @settings(deadline=None)
    def test_how_the_bytes_are_cut_makes_no_difference(self, cuts: list[int]) -> None:
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

    def test_text_that_comes_with_its_block_is_not_lost(self) -> None:
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

    def test_empty_deltas_are_no_content(self) -> None:
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

    def test_a_signature_or_input_of_no_known_block_is_left_alone(self) -> None:
        signature = {"type": "signature_delta", "signature": "s"}
        stray = event("content_block_delta", index=9, delta=signature)
        frames = read(start(), stray, stop(), STOP)

        assert summed(frames).choices[0].content == ()
        assert b"signature" not in b"".join(frame.raw for frame in frames)

    def test_a_signature_of_a_text_is_nothing(self) -> None:
        text = block(0, "text", {"type": "signature_delta", "signature": "s"}, TEXT, text="")
        assert summed(read(start(), text, stop(), STOP)).choices[0].content == (
            TextPart("Hello ü\u2028"),
        )

    def test_a_message_delta_may_lack_its_delta_or_have_one_that_is_none(self) -> None:
        text = block(0, "text", TEXT, text="")
        counted = event("message_delta", usage={"output_tokens": 7})
        odd = event("message_delta", delta=["end_turn"], usage={"output_tokens": 8})
        completion = summed(read(start(input_tokens=1), text, counted, odd, stop(), STOP))
        assert completion.usage == Usage(1, 7)

    def test_an_input_of_no_known_block_is_a_hole(self) -> None:
        stray = {"type": "input_json_delta", "partial_json": "{}"}
        with pytest.raises(MalformedAnswer):
            read(start(), event("content_block_delta", index=9, delta=stray), stop(), STOP)

    def test_two_answers_in_one_stream_are_none(self) -> None:
        other = start().replace(b"msg_1", b"msg_2")
        text = block(0, "text", TEXT, text="")
        with pytest.raises(MalformedAnswer):
            read(start(), text, other, text, stop(), STOP)

    def test_a_refusal_comes_with_its_words(self) -> None:
        delta = {
            "stop_reason": "refusal",
            "stop_details": {"type": "refusal", "explanation": "No."},
        }

        choice = summed(read(start(), event("message_delta", delta=delta), STOP)).choices[0]

        assert choice.content == (RefusalPart("No."),)
        assert choice.finish_reason is FinishReason.REFUSAL

    def test_the_sequence_that_was_met_is_told(self) -> None:
        delta = {"stop_reason": "stop_sequence", "stop_sequence": "END"}

        choice = summed(read(start(), event("message_delta", delta=delta), STOP)).choices[0]

        assert choice.finish_reason is FinishReason.STOP_SEQUENCE
        assert choice.stop_sequence == "END"

    def test_a_later_report_without_a_number_does_not_erase_it(self) -> None:
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

    def test_a_missing_message_stop_after_the_finish_is_no_failure(self) -> None:
        frames = read(start(), stop())

        assert events_of(frames)[-2:] == [ChoiceFinished(FinishReason.STOP), AnswerEnded()]
        assert frames[-1].raw == b""

    def test_what_follows_the_end_is_left_out(self) -> None:
        frames = read(start(), stop(), STOP + b"data: [DONE]\n\n", b"data: {")

        assert frames[-1].events == (AnswerEnded(),)
        assert frames[-1].raw == STOP

    @pytest.mark.parametrize("end", [(stop(None), STOP), (STOP,)])
    def test_a_message_stop_without_a_reason_is_no_finish(self, end: tuple[bytes, ...]) -> None:
        with pytest.raises(TruncatedStream):
            read(start(), *end)

    def test_a_last_event_without_its_blank_line_counts_and_gets_one(self) -> None:
        frames = read(start(), stop()[:-2])

        assert frames[-2].events == (ChoiceFinished(FinishReason.STOP),)
        assert frames[-2].raw.endswith(b"\n\n")

    def test_a_message_stop_without_its_blank_line_is_the_end(self) -> None:
        frames = read(WHOLE[:-2])

        assert events_of(frames) == events_of(read(WHOLE))

    def test_an_event_named_by_its_line_alone_is_read(self) -> None:
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
    def test_counts_that_cannot_be_are_no_counts_and_reach_no_caller(
        self, begun: dict[str, int], ended: dict[str, int]
    ) -> None:
        frames = read(start(**begun), block(0, "text", TEXT), stop("end_turn", **ended), STOP)
        assert not [one for one in events_of(frames) if isinstance(one, UsageReported)]
        assert b'": -' not in b"".join(frame.raw for frame in frames)

    def test_an_error_event_is_that_error(self) -> None:
        error = {"type": "overloaded_error", "message": "Overloaded"}
        parser = FORMAT.stream_parser()
        parser.feed(start())

        with pytest.raises(UpstreamOverloaded, match="Overloaded"):
            parser.feed(event("error", error=error))

    def test_an_error_that_is_no_stream_at_all_is_that_error(self) -> None:
        with pytest.raises(ServerFailed, match="Boom"):
            read(b'{"type":"error","error":{"type":"api_error","message":"Boom"}}')

    @pytest.mark.parametrize("body", [b'{"type":"message"}', b"<html>", b" {"])
    def test_what_is_no_stream_at_all_is_malformed(self, body: bytes) -> None:
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
    def test_a_broken_event_is_left_out_where_the_answer_ends_well(self, broken: bytes) -> None:
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
    def test_an_answer_with_a_hole_is_none_however_well_it_ends(self, broken: bytes) -> None:
        with pytest.raises(MalformedAnswer):
            read(start(), block(0, "text", TEXT), broken, stop())
        whole = read(start(), block(0, "text", TEXT), stop(), STOP)
        assert summed(read(start(), block(0, "text", TEXT), stop(), broken, STOP)) == summed(whole)

    def test_an_error_after_the_stop_reason_is_the_end(self) -> None:
        error = event("error", error={"type": "api_error", "message": "Boom"})
        before = (start(), block(0, "text", TEXT), stop())
        assert events_of(read(*before, error)) == events_of(read(*before, STOP))

    def test_what_cannot_be_read_may_be_what_is_missed(self) -> None:
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

    def test_an_answer_whose_beginning_is_broken_makes_no_sense(self) -> None:
        for kind in ("message_start", "content_block_start"):
            with pytest.raises(MalformedAnswer):
                read(f"event: {kind}\ndata: {{\n\n".encode(), block(0, "text", TEXT), stop())

    def test_an_endless_event_is_too_large(self) -> None:
        with pytest.raises(AnswerTooLarge):
            read(b"data: ", *[b"x" * 1024 * 1024] * 9)


def render(*events: StreamEvent, request: LLMRequest | None = None) -> bytes:
    """What a caller reads of another vendor's answer, a frame for each event."""
    renderer = FORMAT.stream_renderer(request or LLMRequest((), model="debugging"))
    frames = [Frame("openai_chat", b"raw", (one,)) for one in events]
    return b"".join(renderer.render(frame) for frame in frames) + renderer.end()


def by_the_official_client(stream: bytes) -> SDKMessage:
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(
            200, content=stream, headers={"content-type": "text/event-stream"}
        )
    )
    with (
        httpx2.Client(transport=transport) as http,
        Anthropic(api_key="k", max_retries=0, http_client=http) as client,
        client.messages.stream(
            model="m", max_tokens=1, messages=[{"role": "user", "content": "Hi"}]
        ) as answer,
    ):
        return answer.get_final_message()


def blocks_in(stream: bytes) -> list[tuple[str, int]]:
    """Which blocks are opened and closed, in the order of the stream."""
    found = []
    for line in stream.splitlines():
        if line.startswith(b"data: "):
            value = json.loads(line[6:])
            if value["type"] in ("content_block_start", "content_block_stop"):
                found.append((value["type"].removeprefix("content_block_"), value["index"]))
    return found


def one_after_another(count: int) -> list[tuple[str, int]]:
    return [(kind, index) for index in range(count) for kind in ("start", "stop")]


STARTED = AnswerStarted("chatcmpl-1", "gpt-x")
FINISHED = ChoiceFinished(FinishReason.STOP)


class TestToACaller:
    def test_the_bytes_of_a_plain_answer(self) -> None:
        stream = render(
            STARTED,
            TextDelta("Hel"),
            TextDelta("lo"),
            FINISHED,
            UsageReported(Usage(input_tokens=10, output_tokens=2)),
            AnswerEnded(),
        )

        names = [line[7:] for line in stream.splitlines() if line.startswith(b"event: ")]
        values = [json.loads(line[6:]) for line in stream.splitlines() if line[:5] == b"data:"]
        assert [value["type"].encode() for value in values] == names
        message_id = values[0]["message"].pop("id")
        assert message_id.startswith("msg_")
        counts = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
        assert values == [
            {
                "type": "message_start",
                "message": {
                    "type": "message",
                    "role": "assistant",
                    "model": "gpt-x",
                    "content": [],
                    "stop_reason": None,
                    "stop_sequence": None,
                    "usage": {"input_tokens": 0, "output_tokens": 0, **counts},
                },
            },
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            },
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": "Hel"},
            },
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": "lo"},
            },
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"input_tokens": 10, "output_tokens": 2, **counts},
            },
            {"type": "message_stop"},
        ]

    def test_the_official_client_adds_it_up(self) -> None:
        message = by_the_official_client(
            render(
                AnswerStarted("chatcmpl-1", "gpt-x", Usage(input_tokens=3)),
                ThinkingDelta("H"),
                ThinkingDelta("m"),
                ThinkingEnded(signature="sig"),
                ThinkingEnded(redacted="xxx"),
                TextDelta("A"),
                ToolCallStarted(0, "call_1", "f"),
                ToolCallDelta(0, '{"a":'),
                ToolCallDelta(0, "1}"),
                ToolCallStarted(1, "call_2", "g"),
                ChoiceFinished(FinishReason.TOOL_CALLS),
                UsageReported(
                    Usage(
                        input_tokens=10, cached_input_tokens=4, output_tokens=7, reasoning_tokens=2
                    )
                ),
            )
        )

        assert [block.to_dict() for block in message.content] == [
            {"type": "thinking", "thinking": "Hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "xxx"},
            {"type": "text", "text": "A"},
            {
                "type": "tool_use",
                "id": message.content[3].id,  # type: ignore[union-attr]
                "name": "f",
                "input": {"a": 1},
            },
            {
                "type": "tool_use",
                "id": message.content[4].id,  # type: ignore[union-attr]
                "name": "g",
                "input": {},
            },
        ]
        assert message.content[3].id.startswith("toolu_")  # type: ignore[union-attr]
        assert message.content[3].id != message.content[4].id  # type: ignore[union-attr]
        assert message.stop_reason == "tool_use"
        assert message.usage.input_tokens == 6
        assert message.usage.cache_read_input_tokens == 4
        assert message.usage.output_tokens == 7
        assert message.usage.output_tokens_details is not None
        assert message.usage.output_tokens_details.thinking_tokens == 2

    def test_blocks_are_opened_and_closed_one_after_another(self) -> None:
        stream = render(
            STARTED,
            TextDelta("A"),
            ThinkingDelta("B"),
            TextDelta("C"),
            ThinkingEnded(signature="sig"),
            ThinkingEnded(),
            ThinkingDelta("D"),
            ThinkingEnded(),
            ThinkingDelta("E"),
            ToolCallStarted(0, "a", "f"),
            TextDelta("F"),
            FINISHED,
        )

        assert blocks_in(stream) == one_after_another(8)
        assert [block.type for block in by_the_official_client(stream).content] == [
            "text",
            "thinking",
            "text",
            "thinking",
            "thinking",
            "thinking",
            "tool_use",
            "text",
        ]

    def test_calls_that_come_one_after_another_are_not_held_back(self) -> None:
        renderer = FORMAT.stream_renderer(LLMRequest(()))
        first = (STARTED, ToolCallStarted(0, "a", "f"), ToolCallDelta(0, "{}"))
        renderer.render(Frame("openai_chat", b"", first))

        started = renderer.render(Frame("openai_chat", b"", (ToolCallStarted(1, "b", "g"),)))
        delta = renderer.render(Frame("openai_chat", b"", (ToolCallDelta(1, '{"x"'),)))

        assert blocks_in(started) == [("stop", 0), ("start", 1)]
        assert b"input_json_delta" in delta

    def test_calls_written_all_at_once_are_put_in_order(self) -> None:
        stream = render(
            STARTED,
            ToolCallStarted(0, "a", "f"),
            ToolCallStarted(1, "b", "g"),
            ToolCallStarted(2, "c", "h"),
            ToolCallDelta(2, '{"c":'),
            ToolCallDelta(1, '{"b":{}'),
            ToolCallDelta(0, '{"a":{}'),
            ToolCallDelta(1, "}"),
            ToolCallDelta(0, "}"),
            ToolCallDelta(0, " "),
            ToolCallDelta(2, "3}"),
            ChoiceFinished(FinishReason.TOOL_CALLS),
        )

        assert blocks_in(stream) == one_after_another(3)
        assert [block.input for block in by_the_official_client(stream).content] == [  # type: ignore[union-attr]
            {"a": {}},
            {"b": {}},
            {"c": 3},
        ]

    def test_calls_that_wait_are_given_at_the_end_whatever_came_of_the_first(self) -> None:
        stream = render(
            STARTED,
            ToolCallStarted(0, "a", "f"),
            ToolCallStarted(1, "b", "g"),
            ToolCallStarted(2, "c", "h"),
            ToolCallDelta(1, '{"b":2}'),
            ToolCallDelta(7, "{}"),
            FINISHED,
        )

        message = by_the_official_client(stream)
        assert blocks_in(stream) == one_after_another(3)
        assert [block.input for block in message.content] == [{}, {"b": 2}, {}]  # type: ignore[union-attr]
        assert message.stop_reason == "tool_use"

    def test_a_delta_of_a_call_that_is_closed_is_dropped(self) -> None:
        stream = render(
            STARTED,
            ToolCallStarted(0, "a", "f"),
            ToolCallDelta(0, "{}"),
            TextDelta("A"),
            ToolCallDelta(0, "{}"),
            FINISHED,
        )

        assert stream.count(b"input_json_delta") == 1

    def test_a_signature_alone_is_a_block(self) -> None:
        stream = render(STARTED, ThinkingEnded(signature="sig"), FINISHED)

        assert by_the_official_client(stream).content[0].to_dict() == {
            "type": "thinking",
            "thinking": "",
            "signature": "sig",
        }

    def test_a_refusal_is_said_in_words(self) -> None:
        message = by_the_official_client(
            render(STARTED, RefusalDelta("N"), RefusalDelta("o."), FINISHED)
        )

        assert message.content[0].to_dict() == {"type": "text", "text": "No."}
        assert message.stop_reason == "refusal"
        assert message.stop_details is not None

    def test_the_sequence_that_was_met_is_told(self) -> None:
        finish = ChoiceFinished(FinishReason.STOP_SEQUENCE, stop_sequence="END")

        message = by_the_official_client(render(STARTED, TextDelta("A"), finish))

        assert message.stop_reason == "stop_sequence"
        assert message.stop_sequence == "END"

    def test_other_choices_are_not_mixed_in(self) -> None:
        stream = render(
            STARTED,
            TextDelta("A"),
            TextDelta("B", choice=1),
            ChoiceFinished(FinishReason.LENGTH, choice=1),
            FINISHED,
        )

        message = by_the_official_client(stream)
        assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "A"}]
        assert message.stop_reason == "end_turn"

    def test_a_vendor_that_names_nothing_still_gives_a_message(self) -> None:
        for events in ((TextDelta("A"),), (AnswerStarted("", ""),), (AnswerEnded(),), ()):
            message = by_the_official_client(render(*events))

            assert message.id.startswith("msg_")
            assert message.model == "debugging"
            assert message.stop_reason == "end_turn"

    def test_without_any_name_the_model_is_empty(self) -> None:
        assert by_the_official_client(render(request=LLMRequest(()))).model == ""

    def test_usage_that_came_first_is_kept(self) -> None:
        stream = render(UsageReported(Usage(output_tokens=4)), STARTED, FINISHED)

        assert by_the_official_client(stream).usage.output_tokens == 4

    def test_nothing_follows_the_end(self) -> None:
        stream = render(STARTED, FINISHED, AnswerEnded())

        assert stream.count(b"event: message_stop") == 1

    def test_an_error_is_an_event_and_the_end(self) -> None:
        renderer = FORMAT.stream_renderer(LLMRequest(()))
        renderer.render(Frame("openai_chat", b"", (STARTED,)))

        stream = renderer.error(UpstreamOverloaded("Full."), "req-1")

        name, data, *_ = stream.splitlines()
        assert name == b"event: error"
        assert json.loads(data.removeprefix(b"data: ")) == {
            "type": "error",
            "error": {
                "type": "overloaded_error",
                "message": "Full.",
                "details": {"error_code": "upstream_overloaded"},
            },
            "request_id": "req-1",
        }
        assert renderer.end() == b""

    def test_the_bytes_of_the_same_format_are_relayed(self) -> None:
        renderer = FORMAT.stream_renderer(LLMRequest(()))

        stream = b"".join(renderer.render(frame) for frame in read(WHOLE)) + renderer.end()

        assert stream == WHOLE

    def test_a_relayed_answer_gets_the_stop_it_lacks(self) -> None:
        renderer = FORMAT.stream_renderer(LLMRequest(()))
        cut = WHOLE.removesuffix(STOP).removesuffix(b"\n\n")

        stream = b"".join(renderer.render(frame) for frame in read(cut)) + renderer.end()

        assert stream == WHOLE.removesuffix(STOP) + (
            b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
        )
        assert renderer.end() == b""
        assert by_the_official_client(stream).stop_reason == "tool_use"
