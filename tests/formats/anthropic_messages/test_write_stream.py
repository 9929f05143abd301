"""Writes streamed answers for callers of Anthropic Messages."""

import json

import httpx2
from anthropic import Anthropic
from anthropic.types import Message as SDKMessage

from llm_routing.core.errors import (
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
from llm_routing.core.types import FinishReason, LLMRequest, Usage
from tests.formats.anthropic_messages.stream_events import FORMAT, STOP, WHOLE, read


def render(*events: StreamEvent, request: LLMRequest | None = None) -> bytes:
    """Returns the stream that a caller receives, with one frame per event."""
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
    """Returns the opened and closed blocks, in order."""
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


class TestWriteStream:
    def test_a_plain_answer_is_written_byte_by_byte_as_anthropic_does(self) -> None:
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

    def test_the_official_client_reads_the_whole_answer(self) -> None:
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

    def test_consecutive_calls_are_not_held_back(self) -> None:
        renderer = FORMAT.stream_renderer(LLMRequest(()))
        first = (STARTED, ToolCallStarted(0, "a", "f"), ToolCallDelta(0, "{}"))
        renderer.render(Frame("openai_chat", b"", first))

        started = renderer.render(Frame("openai_chat", b"", (ToolCallStarted(1, "b", "g"),)))
        delta = renderer.render(Frame("openai_chat", b"", (ToolCallDelta(1, '{"x"'),)))

        assert blocks_in(started) == [("stop", 0), ("start", 1)]
        assert b"input_json_delta" in delta

    def test_interleaved_calls_are_put_in_order(self) -> None:
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

    def test_waiting_calls_are_written_at_the_end_even_if_the_first_is_incomplete(self) -> None:
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

    def test_a_delta_of_a_closed_call_is_dropped(self) -> None:
        stream = render(
            STARTED,
            ToolCallStarted(0, "a", "f"),
            ToolCallDelta(0, "{}"),
            TextDelta("A"),
            ToolCallDelta(0, "{}"),
            FINISHED,
        )

        assert stream.count(b"input_json_delta") == 1

    def test_a_signature_without_text_is_a_block(self) -> None:
        stream = render(STARTED, ThinkingEnded(signature="sig"), FINISHED)

        assert by_the_official_client(stream).content[0].to_dict() == {
            "type": "thinking",
            "thinking": "",
            "signature": "sig",
        }

    def test_a_refusal_is_written_as_text(self) -> None:
        message = by_the_official_client(
            render(STARTED, RefusalDelta("N"), RefusalDelta("o."), FINISHED)
        )

        assert message.content[0].to_dict() == {"type": "text", "text": "No."}
        assert message.stop_reason == "refusal"
        assert message.stop_details is not None

    def test_the_matched_stop_sequence_is_written(self) -> None:
        finish = ChoiceFinished(FinishReason.STOP_SEQUENCE, stop_sequence="END")

        message = by_the_official_client(render(STARTED, TextDelta("A"), finish))

        assert message.stop_reason == "stop_sequence"
        assert message.stop_sequence == "END"

    def test_other_choices_are_dropped(self) -> None:
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

    def test_a_stream_without_id_and_model_is_written(self) -> None:
        for events in ((TextDelta("A"),), (AnswerStarted("", ""),), (AnswerEnded(),), ()):
            message = by_the_official_client(render(*events))

            assert message.id.startswith("msg_")
            assert message.model == "debugging"
            assert message.stop_reason == "end_turn"

    def test_without_a_model_name_the_model_is_empty(self) -> None:
        assert by_the_official_client(render(request=LLMRequest(()))).model == ""

    def test_usage_from_the_start_is_kept(self) -> None:
        stream = render(UsageReported(Usage(output_tokens=4)), STARTED, FINISHED)

        assert by_the_official_client(stream).usage.output_tokens == 4

    def test_nothing_is_written_after_the_end(self) -> None:
        stream = render(STARTED, FINISHED, AnswerEnded())

        assert stream.count(b"event: message_stop") == 1

    def test_an_error_is_an_event_that_ends_the_stream(self) -> None:
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

    def test_a_missing_message_stop_is_added_to_a_relayed_answer(self) -> None:
        renderer = FORMAT.stream_renderer(LLMRequest(()))
        cut = WHOLE.removesuffix(STOP).removesuffix(b"\n\n")

        stream = b"".join(renderer.render(frame) for frame in read(cut)) + renderer.end()

        assert stream == WHOLE.removesuffix(STOP) + (
            b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
        )
        assert renderer.end() == b""
        assert by_the_official_client(stream).stop_reason == "tool_use"
