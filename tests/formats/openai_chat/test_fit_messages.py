"""Fits messages to vendors of OpenAI Chat Completions."""

import json
import re
from typing import Any

import pytest

from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.types import LLMResponse, RoutingFacts
from llm_routing.formats.operations import ChatOperation
from llm_routing.formats.registry import FORMATS
from llm_routing.formats.tool_ids import split_signature, with_signature
from tests.formats.vendor_requests import (
    ANTHROPIC,
    IMAGE_SOURCE,
    OPENAI,
    USER,
    call,
    result,
    sent,
    target,
    tool,
    tool_result,
    tool_use,
)


@pytest.mark.parametrize("vendor", ["vllm", "ollama", "together", "mistral"])
class TestSystemMessages:
    def test_system_messages_of_an_anthropic_caller_are_merged_first(self, vendor: str) -> None:
        body, _ = sent(
            ANTHROPIC,
            target(vendor),
            system="top",
            messages=[USER, {"role": "system", "content": "mid"}],
        )

        assert body["messages"] == [{"role": "system", "content": "top\n\nmid"}, USER]

    def test_system_messages_of_an_openai_caller_are_merged_first(self, vendor: str) -> None:
        body, _ = sent(
            OPENAI,
            target(vendor),
            messages=[
                {"role": "system", "content": "one"},
                {"role": "developer", "content": [{"type": "text", "text": "two"}]},
                USER,
            ],
        )

        assert body["messages"] == [{"role": "system", "content": "one\n\ntwo"}, USER]

    def test_parts_with_more_than_text_stay_parts(self, vendor: str) -> None:
        part = {"type": "text", "text": "two", "x": 1}
        messages = [
            {"role": "system", "content": "one"},
            USER,
            {"role": "system", "content": [part]},
        ]

        body, _ = sent(OPENAI, target(vendor), messages=messages)

        content = [{"type": "text", "text": "one"}, part]
        assert body["messages"] == [{"role": "system", "content": content}, USER]

    def test_a_single_system_message_at_the_start_is_unchanged(self, vendor: str) -> None:
        messages = [{"role": "system", "content": "one"}, USER]

        assert sent(OPENAI, target(vendor), messages=messages)[0]["messages"] == messages


class TestOrder:
    @pytest.mark.parametrize(
        "content",
        [
            [tool_result("toolu_1"), {"type": "text", "text": "next"}],
            [tool_result("toolu_1", [{"type": "image", "source": IMAGE_SOURCE}])],
        ],
    )
    def test_for_mistral_a_user_message_after_a_tool_message_is_separated(
        self, content: Any
    ) -> None:
        body, _ = sent(
            ANTHROPIC,
            target("mistral"),
            messages=[
                USER,
                {"role": "assistant", "content": [tool_use("toolu_1")]},
                {"role": "user", "content": content},
            ],
        )

        roles = [message["role"] for message in body["messages"]]
        assert roles == ["user", "assistant", "tool", "assistant", "user"]
        assert body["messages"][3]["content"]

    def test_an_openai_callers_user_message_after_a_tool_message_is_separated(self) -> None:
        messages = [USER, {"role": "assistant", "tool_calls": [call("a")]}, result("a"), USER]

        body, _ = sent(OPENAI, target("mistral"), messages=messages)

        assert [message["role"] for message in body["messages"]][-2:] == ["assistant", "user"]

    def test_mistral_is_sent_no_empty_assistant_message(self) -> None:
        nothing: list[Any] = ["", None, []]
        for empty in nothing:
            messages = [USER, {"role": "assistant", "content": empty}, USER]

            assert sent(OPENAI, target("mistral"), messages=messages)[0]["messages"] == [USER, USER]

    def test_a_prefill_is_marked_for_mistral(self) -> None:
        begun = {"role": "assistant", "content": "It"}

        body, _ = sent(OPENAI, target("mistral"), messages=[USER, begun])

        assert body["messages"] == [USER, {**begun, "prefix": True}]


FILE: dict[str, Any] = {
    "type": "file",
    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUFB"},
}


class TestParts:
    @pytest.mark.parametrize("vendor", ["google", "groq", "deepseek", "together", "ollama", "vllm"])
    def test_an_unsupported_part_fails_over(self, vendor: str) -> None:
        with pytest.raises(UnsupportedRequest):
            sent(OPENAI, target(vendor), messages=[{"role": "user", "content": [FILE]}])

    @pytest.mark.parametrize("vendor", ["openai", "mistral", "vllm"])
    def test_an_image_that_is_only_a_url_gets_the_object_of_openai(self, vendor: str) -> None:
        part = {"type": "image_url", "image_url": "https://x/y.png"}

        body, _ = sent(OPENAI, target(vendor), messages=[{"role": "user", "content": [part]}])

        (written,) = body["messages"][0]["content"]
        assert written == {"type": "image_url", "image_url": {"url": "https://x/y.png"}}

    def test_documents_are_written_as_mistrals_document_part(self) -> None:
        unnamed = {"type": "file", "file": {"file_data": FILE["file"]["file_data"]}}

        body, _ = sent(
            OPENAI, target("mistral"), messages=[{"role": "user", "content": [FILE, unnamed]}]
        )

        document = {"type": "document_url", "document_url": "data:application/pdf;base64,QUFB"}
        assert body["messages"][0]["content"] == [{**document, "document_name": "a.pdf"}, document]

    @pytest.mark.parametrize("file", [{"file_id": "file-1"}, None])
    def test_a_file_id_of_openai_fails_over(self, file: Any) -> None:
        part = {"type": "file", "file": file}

        with pytest.raises(UnsupportedRequest):
            sent(OPENAI, target("mistral"), messages=[{"role": "user", "content": [part]}])

    def test_a_refusal_is_written_as_text(self) -> None:
        refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}

        body, _ = sent(OPENAI, target("mistral"), messages=[USER, refused, USER])

        assert body["messages"][1]["content"] == [{"type": "text", "text": "No."}]

    @pytest.mark.parametrize("vendor", ["openai", "openrouter", "sandbox"])
    def test_other_vendors_are_sent_the_callers_parts(self, vendor: str) -> None:
        messages = [{"role": "user", "content": [FILE]}]

        assert sent(OPENAI, target(vendor), messages=messages)[0]["messages"] == messages


class TestIds:
    @pytest.mark.parametrize(
        ("caller", "ids"),
        [
            (OPENAI, ("call_abcDEF123456", "call_abcDEF123457")),
            (ANTHROPIC, ("toolu_01ABC", "toolu_01ABD")),
        ],
    )
    def test_ids_for_mistral_have_nine_letters_and_digits(
        self, caller: str, ids: tuple[str, str]
    ) -> None:
        if caller == OPENAI:
            calls = [call(one) for one in ids]
            messages = [
                USER,
                {"role": "assistant", "content": None, "tool_calls": calls},
                *map(result, ids),
            ]
        else:
            messages = [
                USER,
                {"role": "assistant", "content": [tool_use(one) for one in ids]},
                {"role": "user", "content": [tool_result(one) for one in ids]},
            ]

        body, _ = sent(caller, target("mistral"), messages=messages)

        called = [one["id"] for one in body["messages"][1]["tool_calls"]]
        assert all(re.fullmatch("[a-zA-Z0-9]{9}", one) for one in called)
        assert len(set(called)) == 2
        assert [message["tool_call_id"] for message in body["messages"][2:]] == called

    def test_mistrals_own_ids_are_kept(self) -> None:
        messages = [USER, {"role": "assistant", "tool_calls": [call("abcDEF123")]}]

        body, _ = sent(OPENAI, target("mistral"), messages=[*messages, result("abcDEF123")])

        assert body["messages"][1]["tool_calls"][0]["id"] == "abcDEF123"

    def test_a_too_long_id_is_shortened_for_openai(self) -> None:
        long = "toolu_" + "x" * 60
        messages = [
            USER,
            {"role": "assistant", "content": [tool_use(long)]},
            {"role": "user", "content": [tool_result(long)]},
        ]

        body, _ = sent(ANTHROPIC, target("openai"), messages=messages)

        (called,) = body["messages"][1]["tool_calls"]
        assert len(called["id"]) <= 40
        assert body["messages"][2]["tool_call_id"] == called["id"]


SIGNED = {"google": {"thought_signature": "SIG=="}}


class TestThoughtSignatures:
    def answer(self, *, stream: bool) -> tuple[str, bytes]:
        """Returns Google's call as an Anthropic caller receives it: its id, and the whole
        answer."""
        request = FORMATS[ANTHROPIC].read_request(
            {"model": "m", "max_tokens": 9, "messages": [USER], "stream": stream}
        )
        operation, aim = ChatOperation(request), target("google")
        made = call("function-call-1", extra_content=SIGNED)
        if not stream:
            message = {"role": "assistant", "tool_calls": [made]}
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
            completion = operation.parse(aim, json.dumps({"choices": [choice]}).encode())
            facts = RoutingFacts("req-1", "google", "big-1")
            shown = FORMATS[ANTHROPIC].write_response(LLMResponse(completion, facts))
            (block,) = json.loads(shown)["content"]
            return block["id"], shown
        delta = {"role": "assistant", "tool_calls": [{**made, "index": 0}]}
        choice = {"index": 0, "delta": delta, "finish_reason": "tool_calls"}
        data = f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n".encode()
        parser = operation.stream_parser(aim)
        renderer = FORMATS[ANTHROPIC].stream_renderer(request)
        frames = [*parser.feed(data), *parser.close()]
        shown = b"".join(map(renderer.render, frames)) + renderer.end()
        (found,) = re.findall(rb'"id":"(toolu_[^"]*)"', shown)
        return found.decode(), shown

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_signature_returns_through_an_anthropic_caller(self, stream: bool) -> None:
        call_id, _ = self.answer(stream=stream)
        assert re.fullmatch("[a-zA-Z0-9_-]+", call_id)
        messages = [
            USER,
            {"role": "assistant", "content": [tool_use(call_id)]},
            {"role": "user", "content": [tool_result(call_id)]},
        ]

        body, ignored = sent(ANTHROPIC, target("google"), messages=messages, tools=[tool()])

        (made,) = body["messages"][1]["tool_calls"]
        assert made["extra_content"] == SIGNED
        assert made["id"] == body["messages"][2]["tool_call_id"]
        assert ignored == ()

    @pytest.mark.parametrize("vendor", ["openai", "mistral"])
    def test_signatures_are_not_sent_to_other_vendors(self, vendor: str) -> None:
        call_id, _ = self.answer(stream=False)
        messages = [
            USER,
            {"role": "assistant", "content": [tool_use(call_id)]},
            {"role": "user", "content": [tool_result(call_id)]},
        ]

        body, _ = sent(ANTHROPIC, target(vendor), messages=messages, tools=[tool()])

        assert "_sig_" not in json.dumps(body)

    @pytest.mark.parametrize("caller", [OPENAI, ANTHROPIC])
    def test_a_call_of_another_vendor_gets_googles_placeholder_signature(self, caller: str) -> None:
        messages: list[Any]
        if caller == OPENAI:
            messages = [
                USER,
                {"role": "assistant", "tool_calls": [call("call_1"), call("call_2")]},
                result("call_1"),
                result("call_2"),
            ]
        else:
            messages = [
                USER,
                {"role": "assistant", "content": [tool_use("toolu_1"), tool_use("toolu_2")]},
                {"role": "user", "content": [tool_result("toolu_1"), tool_result("toolu_2")]},
            ]

        body, _ = sent(caller, target("google"), messages=messages)

        first, second = body["messages"][1]["tool_calls"]
        stand_in = first["extra_content"]["google"]["thought_signature"]
        assert stand_in == "skip_thought_signature_validator"
        # Of parallel calls only the first has a signature.
        assert "extra_content" not in second

    def test_a_signature_of_an_openai_caller_is_unchanged(self) -> None:
        messages = [
            USER,
            {"role": "assistant", "tool_calls": [call("call_1", extra_content=SIGNED)]},
            result("call_1"),
        ]

        body, _ = sent(OPENAI, target("google"), messages=messages)
        elsewhere, ignored = sent(OPENAI, target("openai"), messages=messages)

        assert body["messages"] == messages
        assert "extra_content" not in json.dumps(elsewhere)
        assert ignored == ("extra_content",)

    @pytest.mark.parametrize("signature", ["SIG==", "?\x7fü", "a" * 5000])
    @pytest.mark.parametrize("call_id", ["call_1", "a_sig_b"])
    def test_any_signature_fits_into_an_id(self, call_id: str, signature: str) -> None:
        carrying = with_signature(call_id, signature)

        assert re.fullmatch("[a-zA-Z0-9_-]+", carrying)
        assert split_signature(carrying)[1] == signature

    @pytest.mark.parametrize("call_id", ["a_sig_b", "a_sig_", "_sig_12345678ü", "a_sig_12345678QQ"])
    def test_an_id_that_only_looks_signed_has_no_signature(self, call_id: str) -> None:
        assert split_signature(call_id) == (call_id, None)


class TestReturnedThinking:
    def test_thinking_is_returned_to_deepseek_with_a_call(self) -> None:
        thinking = {"type": "thinking", "thinking": "T", "signature": ""}
        messages = [
            USER,
            {"role": "assistant", "content": [thinking, tool_use("toolu_1")]},
            {"role": "user", "content": [tool_result("toolu_1")]},
        ]

        body, ignored = sent(ANTHROPIC, target("deepseek"), messages=messages)

        assert body["messages"][1]["reasoning_content"] == "T"
        assert ignored == ()

    @pytest.mark.parametrize(
        ("field", "value"), [("reasoning_content", "T"), ("reasoning", "T"), ("refusal", None)]
    )
    def test_thinking_is_returned_under_any_of_its_field_names(
        self, field: str, value: Any
    ) -> None:
        message = {"role": "assistant", "tool_calls": [call("call_1")], field: value}

        body, _ = sent(OPENAI, target("deepseek"), messages=[USER, message, result("call_1")])

        assert body["messages"][1]["reasoning_content"] == (value or "")

    def test_thinking_without_a_call_is_left_out_and_named(self) -> None:
        thinking = {"type": "thinking", "thinking": "T", "signature": ""}
        message = {"role": "assistant", "content": [thinking, {"type": "text", "text": "x"}]}

        body, ignored = sent(ANTHROPIC, target("deepseek"), messages=[USER, message, USER])

        assert "reasoning_content" not in body["messages"][1]
        assert ignored == ("thinking",)
