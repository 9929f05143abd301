"""Reads and writes complete answers of Anthropic Messages."""

import json
from typing import Any

import pytest
from anthropic.types import Message as SDKMessage

from llm_routing.core.content import (
    ForeignPart,
    ImagePart,
    Part,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from llm_routing.core.errors import MalformedAnswer, UpstreamOverloaded
from llm_routing.core.types import (
    Choice,
    Completion,
    FinishReason,
    LLMResponse,
    RoutingFacts,
    Usage,
)
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages
from llm_routing.formats.base import AnswerDefaults

FORMAT = AnthropicMessages()


def answer(**fields: Any) -> bytes:
    return json.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-x",
            "content": [{"type": "text", "text": "Hello"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 5},
            **fields,
        }
    ).encode()


def response(
    *content: Part,
    finish_reason: FinishReason | None = FinishReason.STOP,
    usage: Usage | None = None,
    **fields: Any,
) -> LLMResponse:
    completion = Completion(
        **{
            "id": "chatcmpl-1",
            "model": "gpt-x",
            "choices": (Choice(content, finish_reason),),
            "usage": usage,
            "format": "openai_chat",
            "raw": b"raw",
            **fields,
        }
    )
    return LLMResponse(completion, RoutingFacts("req-1", "openai", "openai/gpt-x"))


def rendered(given: LLMResponse) -> dict[str, Any]:
    """Returns the body for the caller, after checking it with the official SDK's types."""
    body = FORMAT.write_response(given)
    SDKMessage.model_validate_json(body, strict=True)
    value: dict[str, Any] = json.loads(body)
    return value


class TestReadResponse:
    def test_a_plain_text_answer_is_read(self) -> None:
        raw = answer()

        assert FORMAT.read_response(raw) == Completion(
            id="msg_1",
            model="claude-x",
            choices=(Choice((TextPart("Hello"),), FinishReason.STOP),),
            usage=Usage(input_tokens=10, output_tokens=5),
            format="anthropic_messages",
            raw=raw,
        )

    def test_blocks_of_every_kind(self) -> None:
        search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
        completion = FORMAT.read_response(
            answer(
                content=[
                    {"type": "thinking", "thinking": "Hm", "signature": "sig"},
                    {"type": "redacted_thinking", "data": "xxx"},
                    {"type": "text", "text": "A", "citations": []},
                    search,
                    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
                ]
            )
        )

        assert completion.choices[0].content == (
            ThinkingPart("Hm", signature="sig"),
            ThinkingPart(redacted="xxx"),
            TextPart("A"),
            ForeignPart("anthropic_messages", search, "[Used the tool web_search.]"),
            ToolCallPart("toolu_1", "f", '{"a":1}'),
        )

    @pytest.mark.parametrize(
        ("stop_reason", "expected"),
        [
            ("end_turn", FinishReason.STOP),
            ("max_tokens", FinishReason.LENGTH),
            ("model_context_window_exceeded", FinishReason.LENGTH),
            ("stop_sequence", FinishReason.STOP_SEQUENCE),
            ("tool_use", FinishReason.TOOL_CALLS),
            ("refusal", FinishReason.REFUSAL),
            ("pause_turn", FinishReason.PAUSE),
            ("of_tomorrow", FinishReason.STOP),
            (None, None),
        ],
    )
    def test_stop_reasons(self, stop_reason: str | None, expected: FinishReason | None) -> None:
        completion = FORMAT.read_response(answer(stop_reason=stop_reason, stop_sequence="END"))

        assert completion.choices[0].finish_reason is expected
        assert completion.choices[0].stop_sequence == "END"

    def test_the_explanation_of_a_refusal_is_kept(self) -> None:
        details = {"type": "refusal", "category": None, "explanation": "No."}

        completion = FORMAT.read_response(
            answer(stop_reason="refusal", content=[], stop_details=details)
        )
        silent = FORMAT.read_response(answer(stop_details={**details, "explanation": None}))

        assert completion.choices[0].content == (RefusalPart("No."),)
        assert silent.choices[0].content == (TextPart("Hello"),)

    def test_input_tokens_include_cached_ones(self) -> None:
        completion = FORMAT.read_response(
            answer(
                usage={
                    "input_tokens": 10,
                    "cache_creation_input_tokens": 200,
                    "cache_read_input_tokens": 3000,
                    "cache_creation": {
                        "ephemeral_5m_input_tokens": 150,
                        "ephemeral_1h_input_tokens": 50,
                    },
                    "output_tokens": 50,
                    "output_tokens_details": {"thinking_tokens": 40},
                    "server_tool_use": {"web_search_requests": 2},
                    "service_tier": "standard",
                }
            )
        )

        assert completion.usage == Usage(
            input_tokens=3210,
            output_tokens=50,
            cached_input_tokens=3000,
            cache_write_tokens=200,
            cache_write_1h_tokens=50,
            reasoning_tokens=40,
            web_searches=2,
        )

    @pytest.mark.parametrize(
        "usage",
        [
            {"input_tokens": -1, "output_tokens": 5},
            {"input_tokens": 1, "output_tokens": 10**19},
            {"input_tokens": 1, "output_tokens_details": {"thinking_tokens": 2**31}},
        ],
    )
    def test_impossible_counts_are_ignored_and_not_relayed(self, usage: Any) -> None:
        completion = FORMAT.read_response(answer(usage=usage))
        assert completion.usage is None
        shown = json.loads(completion.raw or b"")["usage"]
        assert shown["input_tokens"] == shown["output_tokens"] == 0

    def test_an_incomplete_answer_is_completed_for_strict_clients(self) -> None:
        blocks = [
            {"text": "a \ud83d b"},
            {"type": "thinking", "thinking": "Hm"},
            {"type": "tool_use", "name": "f", "input": '{"a": 1}'},
            {"type": "tool_use", "name": "g", "input": None},
        ]
        body = json.dumps({"content": blocks, "stop_reason": "tool_calls"}).encode()
        head = AnswerDefaults("request-1", 1_700_000_000, "model-1")
        completion = FORMAT.read_response(body, head)
        read = SDKMessage.model_validate_json(completion.raw, strict=True)

        assert read.id.startswith("msg_")
        assert (read.model, read.stop_reason) == ("model-1", "tool_use")
        assert completion.choices[0].text == "a \ufffd b"
        assert completion.usage is None
        assert [part.arguments for part in completion.choices[0].tool_calls] == ['{"a":1}', "{}"]

    def test_content_may_be_a_string(self) -> None:
        completion = FORMAT.read_response(answer(content="Hello"))
        assert completion.choices[0].text == "Hello"
        assert json.loads(completion.raw)["content"] == [{"type": "text", "text": "Hello"}]

    @pytest.mark.parametrize("usage", [None, {}])
    def test_missing_usage_is_none(self, usage: Any) -> None:
        assert FORMAT.read_response(answer(usage=usage)).usage is None

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>Bad gateway</html>",
            b"[]",
            b'{"type":"message"}',
            answer(content={"text": "Hello"}),
            answer(content=5),
            answer(content=["Hello"]),
            answer(content=[{"type": "text"}]),
            answer(content=[{"type": "text", "text": {"value": "Hello"}}]),
            answer(content=[{"type": "tool_use", "id": "t", "name": "f", "input": "{"}]),
        ],
    )
    def test_a_body_that_is_not_an_answer_is_malformed(self, body: bytes) -> None:
        with pytest.raises(MalformedAnswer):
            FORMAT.read_response(body)

    def test_an_error_inside_a_200_is_that_error(self) -> None:
        body = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'

        with pytest.raises(UpstreamOverloaded, match="Overloaded"):
            FORMAT.read_response(body)


class TestWriteResponse:
    def test_bytes_of_a_vendor_of_the_same_format_are_relayed(self) -> None:
        raw = b'{"id":"msg_1", "future":1}'

        given = response(TextPart("Hi"), format="anthropic_messages", raw=raw)

        assert FORMAT.write_response(given) == raw

    def test_an_answer_without_bytes_is_written_again(self) -> None:
        given = response(TextPart("Hi"), format="anthropic_messages", raw=b"", id="msg_9")

        assert rendered(given)["id"] == "msg_9"

    def test_an_answer_of_another_format_is_written_in_this_one(self) -> None:
        body = rendered(response(TextPart("Hi"), usage=Usage(input_tokens=10, output_tokens=5)))

        assert body.pop("id").startswith("msg_")
        assert body == {
            "type": "message",
            "role": "assistant",
            "model": "gpt-x",
            "content": [{"type": "text", "text": "Hi"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": 10,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 5,
            },
        }

    def test_blocks_of_every_kind(self) -> None:
        own = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
        body = rendered(
            response(
                ThinkingPart("Hm"),
                ThinkingPart("Hm", signature="sig"),
                ThinkingPart(redacted="xxx"),
                TextPart(""),
                TextPart("A"),
                ToolCallPart("call_1", "f", '{"a":1}'),
                ToolCallPart("toolu_2", "g", '{"a":'),
                ImagePart(url="https://x"),
                ForeignPart("openai_chat", {"type": "audio"}),
                ForeignPart("anthropic_messages", own),
                finish_reason=FinishReason.TOOL_CALLS,
            )
        )

        call_id = body["content"][4]["id"]
        assert call_id.startswith("toolu_")
        assert body["content"] == [
            {"type": "thinking", "thinking": "Hm", "signature": ""},
            {"type": "thinking", "thinking": "Hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "xxx"},
            {"type": "text", "text": "A"},
            {"type": "tool_use", "id": call_id, "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {"INVALID_JSON": '{"a":'}},
            own,
        ]

    def test_ids_are_stable_and_different_for_different_answers(self) -> None:
        first = rendered(response(TextPart("Hi")))["id"]

        assert rendered(response(TextPart("Hi")))["id"] == first
        assert rendered(response(TextPart("Hi"), id="chatcmpl-2"))["id"] != first

    def test_missing_fields_are_filled_in(self) -> None:
        body = rendered(response(TextPart("Hi"), id="", model="", usage=None))

        assert body["id"].startswith("msg_")
        assert body["id"] != rendered(response(TextPart("Hi")))["id"]
        assert body["model"] == "openai/gpt-x"
        assert body["usage"]["input_tokens"] == body["usage"]["output_tokens"] == 0

    def test_an_answer_without_choices_is_empty(self) -> None:
        body = rendered(response(choices=()))

        assert body["content"] == []
        assert body["stop_reason"] == "end_turn"

    @pytest.mark.parametrize(
        ("content", "reason", "expected"),
        [
            ((), FinishReason.STOP, "end_turn"),
            ((), None, "end_turn"),
            ((), FinishReason.LENGTH, "max_tokens"),
            ((), FinishReason.STOP_SEQUENCE, "stop_sequence"),
            ((), FinishReason.TOOL_CALLS, "tool_use"),
            ((), FinishReason.PAUSE, "pause_turn"),
            ((), FinishReason.REFUSAL, "refusal"),
            ((), FinishReason.CONTENT_FILTER, "refusal"),
            ((ToolCallPart("c", "f", "{}"),), FinishReason.STOP, "tool_use"),
            ((ToolCallPart("c", "f", "{}"),), FinishReason.LENGTH, "max_tokens"),
            ((RefusalPart("No."),), FinishReason.STOP, "refusal"),
        ],
    )
    def test_stop_reasons(
        self, content: tuple[Part, ...], reason: FinishReason | None, expected: str
    ) -> None:
        assert rendered(response(*content, finish_reason=reason))["stop_reason"] == expected

    def test_the_matched_stop_sequence_is_written(self) -> None:
        choice = Choice((), FinishReason.STOP_SEQUENCE, stop_sequence="END")

        assert rendered(response(choices=(choice,)))["stop_sequence"] == "END"

    def test_a_refusal_is_written_as_text(self) -> None:
        body = rendered(response(RefusalPart("No.")))

        assert body["content"] == [{"type": "text", "text": "No."}]
        assert body["stop_details"] == {"type": "refusal", "category": None, "explanation": None}

    def test_input_tokens_exclude_cached_ones(self) -> None:
        usage = Usage(
            input_tokens=3210,
            output_tokens=50,
            cached_input_tokens=3000,
            cache_write_tokens=200,
            cache_write_1h_tokens=50,
            reasoning_tokens=40,
        )

        assert rendered(response(usage=usage))["usage"] == {
            "input_tokens": 10,
            "cache_creation_input_tokens": 200,
            "cache_read_input_tokens": 3000,
            "cache_creation": {"ephemeral_5m_input_tokens": 150, "ephemeral_1h_input_tokens": 50},
            "output_tokens": 50,
            "output_tokens_details": {"thinking_tokens": 40},
        }

    def test_inconsistent_counts_never_become_negative(self) -> None:
        usage = Usage(input_tokens=10, cached_input_tokens=30)

        assert rendered(response(usage=usage))["usage"]["input_tokens"] == 0


class TestCountingTokens:
    def test_the_token_count_is_relayed(self) -> None:
        assert FORMAT.read_count_tokens(b'{"input_tokens":14}') == 14
        assert FORMAT.read_count_tokens(FORMAT.write_count_tokens(14)) == 14
        assert json.loads(FORMAT.write_count_tokens(14)) == {"input_tokens": 14}

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"input_tokens":-1}'])
    def test_a_count_that_is_not_a_number_is_malformed(self, body: bytes) -> None:
        with pytest.raises(MalformedAnswer):
            FORMAT.read_count_tokens(body)

    def test_an_error_inside_a_200_is_that_error(self) -> None:
        body = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'

        with pytest.raises(UpstreamOverloaded):
            FORMAT.read_count_tokens(body)
