"""Complete answers, written for callers of OpenAI Chat Completions."""

import json
import re
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from llm_routing.core.content import (
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from llm_routing.core.types import (
    Choice,
    Completion,
    FinishReason,
    LLMResponse,
    RoutingFacts,
    Usage,
)
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from tests.formats.openai_chat.answers import answer


class TestRendering:
    """Answers for callers."""

    def render(self, completion: Completion) -> dict[str, Any]:
        response = LLMResponse(completion, RoutingFacts("req-1", "anthropic", "claude"))
        body = OpenAIChat().write_response(response, created=1_700_000_000)
        # Validates strictly with the official client's type: no missing fields, no wrong types.
        ChatCompletion.model_validate_json(body, strict=True)
        return json.loads(body)

    def test_an_answer_in_this_format_is_relayed_byte_by_byte(self) -> None:
        body = answer(service_tier="flex", x_unknown={"a": [1, 2]})
        response = LLMResponse(
            OpenAIChat().read_response(body), RoutingFacts("req-1", "openai", "gpt")
        )
        assert OpenAIChat().write_response(response) is body

    def test_an_answer_of_another_format_is_written_like_openais(self) -> None:
        rendered = self.render(
            Completion(
                "msg_1",
                "claude",
                (
                    Choice(
                        (ThinkingPart("hm", signature="s"), TextPart("a"), TextPart("b")),
                        FinishReason.STOP_SEQUENCE,
                    ),
                ),
                Usage(10, 5, 4, 3, 2),
                "anthropic_messages",
                b"{}",
            )
        )
        assert re.fullmatch(r"chatcmpl-[0-9a-f]{24}", rendered.pop("id"))
        assert rendered == {
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "claude",
            "system_fingerprint": "",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "ab",
                        "refusal": None,
                        "annotations": [],
                        "reasoning_content": "hm",
                    },
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 15,
                "prompt_tokens_details": {
                    "cached_tokens": 4,
                    "audio_tokens": 0,
                    "cache_write_tokens": 3,
                },
                "cache_creation_input_tokens": 3,
                "cache_read_input_tokens": 4,
                "completion_tokens_details": {
                    "reasoning_tokens": 2,
                    "audio_tokens": 0,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0,
                },
            },
        }

    def test_with_calls_the_content_is_null_and_ids_look_like_openais(self) -> None:
        parts = (ToolCallPart("toolu_1", "f", "{}"), ToolCallPart("call_2", "g", ""))
        completion = Completion("chatcmpl-9", "m", (Choice(parts, FinishReason.TOOL_CALLS),), None)
        rendered = self.render(completion)
        assert rendered["id"] == "chatcmpl-9"
        message = rendered["choices"][0]["message"]
        assert message["content"] is None
        first, second = message["tool_calls"]
        assert first["id"].startswith("call_")
        assert first["function"] == {"name": "f", "arguments": "{}"}
        assert second["id"] == "call_2"
        assert rendered["choices"][0]["finish_reason"] == "tool_calls"
        assert rendered["usage"]["total_tokens"] == 0

    def test_with_a_refusal_the_content_is_null(self) -> None:
        completion = Completion("", "", (Choice((RefusalPart("no"),), FinishReason.REFUSAL),), None)
        rendered = self.render(completion)
        message = rendered["choices"][0]["message"]
        assert (message["content"], message["refusal"]) == (None, "no")
        assert rendered["choices"][0]["finish_reason"] == "content_filter"
        assert rendered["model"] == "claude"

    def test_an_empty_answer_has_empty_content(self) -> None:
        rendered = self.render(Completion("i", "m", (Choice((), None),), None))
        assert rendered["choices"][0]["message"]["content"] == ""
        assert rendered["choices"][0]["finish_reason"] == "stop"

    @pytest.mark.parametrize(
        ("reason", "written"),
        [
            (FinishReason.LENGTH, "length"),
            (FinishReason.CONTENT_FILTER, "content_filter"),
            (FinishReason.PAUSE, "stop"),
        ],
    )
    def test_every_finish_reason_is_one_of_openais(
        self, reason: FinishReason, written: str
    ) -> None:
        completion = Completion("i", "m", (Choice((TextPart("a"),), reason),), None)
        assert self.render(completion)["choices"][0]["finish_reason"] == written
