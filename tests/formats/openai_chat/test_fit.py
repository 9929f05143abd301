"""Fits fields of requests to vendors of OpenAI Chat Completions."""

import json
from typing import Any

import pytest

from llm_routing.core.content import Message, Role, TextPart
from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.types import LLMRequest
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from tests.formats.vendor_requests import (
    ANTHROPIC,
    ESSENTIAL,
    IMAGE_SOURCE,
    MARK,
    OPENAI,
    REASONING,
    USER,
    function,
    sent,
    target,
    tool,
    tool_result,
    tool_use,
)

OUR_ANSWER: dict[str, Any] = {
    "role": "assistant",
    "content": "a",
    "reasoning_content": "T",
    "refusal": None,
    "annotations": [],
}


class TestOpenAIsExtras:
    @pytest.mark.parametrize(
        ("vendor", "named"),
        [("mistral", ("store", "reasoning_content")), ("groq", ("metadata", "reasoning_content"))],
    )
    def test_fields_that_the_vendor_refuses_are_left_out(
        self, vendor: str, named: tuple[str, ...]
    ) -> None:
        body, ignored = sent(
            OPENAI,
            target(vendor),
            messages=[USER, OUR_ANSWER, USER],
            seed=1,
            store=False,
            metadata={"k": "v"},
        )

        assert body["messages"] == [USER, {"role": "assistant", "content": "a"}, USER]
        seed = {"random_seed": 1, "metadata": {"k": "v"}} if vendor == "mistral" else {"seed": 1}
        assert {name: body[name] for name in body if name not in ("model", "messages")} == seed
        assert set(ignored) == set(named) - {"store"}

    def test_openai_is_sent_unknown_fields_but_not_those_of_other_vendors(self) -> None:
        body, ignored = sent(
            OPENAI, target("openai"), messages=[USER, OUR_ANSWER, USER], top_k=5, future={"x": 1}
        )

        assert body["future"] == {"x": 1}
        assert body["messages"][1] == {
            "role": "assistant",
            "content": "a",
            "refusal": None,
            "annotations": [],
        }
        assert ignored == ("top_k", "reasoning_content")

    def test_extra_fields_of_an_in_process_caller_are_sent(self) -> None:
        request = LLMRequest((Message(Role.USER, (TextPart("Hi"),)),), extra={"novel": 1})

        assert json.loads(OpenAIChat().write_request(request, target("mistral")).body)["novel"] == 1

    def test_values_are_fitted_to_the_vendor(self) -> None:
        assert sent(OPENAI, target("groq"), service_tier="priority")[1] == ("service_tier",)
        assert sent(OPENAI, target("groq"), service_tier="flex")[0]["service_tier"] == "flex"
        body, ignored = sent(OPENAI, target("mistral"), temperature=1.8)
        assert (body["temperature"], ignored) == (1.5, ("temperature",))

    @pytest.mark.parametrize("fields", ESSENTIAL)
    def test_fields_that_change_the_answer_fail_over_to_the_next_target(
        self, fields: dict[str, Any]
    ) -> None:
        with pytest.raises(UnsupportedRequest):
            sent(OPENAI, target("groq"), **fields)

    @pytest.mark.parametrize(
        ("vendor", "model"),
        [("openai", "o1"), ("openai", "o3-mini"), ("openai", "o4-mini"), ("portkey", "@openai/o3")],
    )
    @pytest.mark.parametrize("caller", [OPENAI, ANTHROPIC])
    def test_parallel_tool_calls_are_not_sent_to_models_that_refuse_the_field(
        self, vendor: str, model: str, caller: str
    ) -> None:
        tools: dict[str, Any] = {"tools": [function()], "parallel_tool_calls": False}
        if caller == ANTHROPIC:
            choice = {"type": "auto", "disable_parallel_tool_use": True}
            tools = {"tools": [tool()], "tool_choice": choice}

        body, ignored = sent(caller, target(vendor, REASONING, model=model), **tools)

        assert "parallel_tool_calls" not in body
        assert ignored == ("parallel_tool_calls",)

    @pytest.mark.parametrize("model", ["gpt-5", "gpt-4.1", "omni-1"])
    def test_parallel_tool_calls_are_sent_to_other_models(self, model: str) -> None:
        body, ignored = sent(
            OPENAI, target("openai", model=model), tools=[function()], parallel_tool_calls=False
        )

        assert body["parallel_tool_calls"] is False
        assert ignored == ()

    def test_only_disabled_parallel_tool_calls_are_named(self) -> None:
        """`true` is the default, so leaving it out changes nothing."""
        for value, named in ((True, ()), (False, ("parallel_tool_calls",))):
            fields = {"tools": [function()], "parallel_tool_calls": value}
            body, ignored = sent(OPENAI, target("google"), **fields)
            assert "parallel_tool_calls" not in body
            assert ignored == named

    @pytest.mark.parametrize("vendor", ["groq", "deepseek", "ollama"])
    def test_a_request_for_several_answers_fails_over(self, vendor: str) -> None:
        with pytest.raises(UnsupportedRequest):
            sent(OPENAI, target(vendor), n=2)

    def test_fields_that_ollama_ignores_are_named(self) -> None:
        asked = {"tools": [function()], "tool_choice": "required", "user": "u"}

        assert set(sent(OPENAI, target("ollama"), **asked)[1]) == {"tool_choice", "user"}
        assert sent(OPENAI, target("ollama"), tools=[function()], tool_choice="auto")[1] == ()

    def test_tool_choice_none_removes_the_tools(self) -> None:
        body, ignored = sent(OPENAI, target("ollama"), tools=[function()], tool_choice="none")

        assert body.keys() == {"model", "messages"}
        assert ignored == ()

    @pytest.mark.parametrize("vendor", ["google", "mistral", "deepseek", "vllm"])
    def test_an_unsupported_kind_of_tool_fails_over(self, vendor: str) -> None:
        with pytest.raises(UnsupportedRequest):
            sent(OPENAI, target(vendor), tools=[{"type": "custom", "custom": {"name": "f"}}])


class TestStopsAndPenalties:
    def test_a_reasoning_model_is_sent_no_stop_sequences(self) -> None:
        body, ignored = sent(ANTHROPIC, target("openai", REASONING), stop_sequences=["</x>"])

        assert "stop" not in body
        assert ignored == ("stop",)

    def test_other_fields_that_a_reasoning_model_refuses_are_left_out(self) -> None:
        refused: dict[str, Any] = {
            "stop": "x",
            "presence_penalty": 0.1,
            "frequency_penalty": 0.1,
            "logprobs": True,
            "logit_bias": {"1": 1},
            "temperature": 0.5,
            "top_p": 0.5,
        }
        body, ignored = sent(OPENAI, target("openai", REASONING), **refused)

        assert not body.keys() & refused.keys()
        assert set(ignored) == refused.keys()

    def test_reasoning_models_of_other_vendors_are_sent_stop_sequences(self) -> None:
        body, ignored = sent(OPENAI, target("openrouter", REASONING), stop="x", temperature=0.5)

        assert body["stop"] == "x"
        assert ignored == ("temperature",)

    @pytest.mark.parametrize(("vendor", "most"), [("openai", 4), ("groq", 4), ("google", 5)])
    def test_stop_sequences_are_limited_to_the_vendors_maximum(
        self, vendor: str, most: int
    ) -> None:
        stops = list("abcdef")

        for caller, name in ((ANTHROPIC, "stop_sequences"), (OPENAI, "stop")):
            body, ignored = sent(caller, target(vendor), **{name: stops})
            assert body["stop"] == stops[:most]
            assert ignored == ("stop",)


class TestCacheMarks:
    @pytest.mark.parametrize(
        ("vendor", "model"), [("openrouter", "anthropic/x"), ("portkey", "@anthropic/x")]
    )
    def test_cache_marks_of_an_anthropic_caller_are_on_the_same_parts(
        self, vendor: str, model: str
    ) -> None:
        body, ignored = sent(
            ANTHROPIC,
            target(vendor, model=model),
            system=[{"type": "text", "text": "s", "cache_control": MARK}],
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "u", "cache_control": MARK},
                        {"type": "image", "source": IMAGE_SOURCE, "cache_control": MARK},
                    ],
                },
                {"role": "assistant", "content": [tool_use("toolu_1")]},
                {"role": "user", "content": [{**tool_result("toolu_1"), "cache_control": MARK}]},
            ],
            tools=[tool(cache_control=MARK)],
        )

        system, user, _, answer = body["messages"]
        assert system["content"] == [{"type": "text", "text": "s", "cache_control": MARK}]
        assert [part["cache_control"] for part in user["content"]] == [MARK, MARK]
        assert answer["content"] == [{"type": "text", "text": "r", "cache_control": MARK}]
        assert body["tools"][0]["cache_control"] == MARK
        assert ignored == ()

    def test_a_cache_mark_of_a_whole_message_is_moved_to_its_part(self) -> None:
        body, _ = sent(OPENAI, target("openrouter"), messages=[{**USER, "cache_control": MARK}])

        assert body["messages"] == [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Hi", "cache_control": MARK}],
            }
        ]

    @pytest.mark.parametrize("vendor", ["openai", "google", "mistral", "groq", "deepseek", "vllm"])
    def test_unsupported_cache_marks_are_named(self, vendor: str) -> None:
        part = {"type": "text", "text": "u", "cache_control": MARK}
        message = {"role": "user", "content": [part]}
        questions = (
            (OPENAI, {"messages": [message]}),
            (OPENAI, {"messages": [{**USER, "cache_control": MARK}]}),
            (OPENAI, {"tools": [{**function(), "cache_control": MARK}]}),
            (ANTHROPIC, {"messages": [message]}),
            (ANTHROPIC, {"tools": [tool(cache_control=MARK)]}),
            (ANTHROPIC, {"system": [part]}),
        )

        for caller, fields in questions:
            body, ignored = sent(caller, target(vendor), **fields)
            assert "cache_control" not in json.dumps(body)
            assert ignored == ("cache_control",)

    def test_an_empty_cache_mark_is_left_out_without_being_named(self) -> None:
        part = {"type": "text", "text": "u", "cache_control": None}

        body, ignored = sent(
            OPENAI, target("openai"), messages=[{"role": "user", "content": [part]}]
        )

        assert body["messages"][0]["content"] == [{"type": "text", "text": "u"}]
        assert ignored == ()

    def test_cache_marks_on_tool_calls_are_left_out(self) -> None:
        used = {**tool_use("toolu_1"), "cache_control": MARK}
        messages = [
            USER,
            {"role": "assistant", "content": [used]},
            {"role": "user", "content": [tool_result("toolu_1")]},
        ]

        body, ignored = sent(ANTHROPIC, target("openrouter"), messages=messages)

        assert "cache_control" not in json.dumps(body)
        assert ignored == ("cache_control",)


class TestOtherFieldsOfAnthropic:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("container", "c"),
            ("service_tier", "standard_only"),
            ("context_management", {"edits": [{"type": "clear_tool_uses_20250919"}]}),
            ("output_config.task_budget", {"type": "tokens", "total": 9}),
            ("thinking.display", "summarized"),
            ("tools.defer_loading", True),
            ("system.citations", [{"type": "char_location"}]),
        ],
    )
    def test_unsupported_fields_are_named(self, field: str, value: Any) -> None:
        outer, _, inner = field.partition(".")
        fields: dict[str, Any] = {field: value}
        if inner:
            given: dict[str, Any] = {
                "output_config": {"effort": "high"},
                "thinking": {"type": "adaptive"},
                "tools": tool(),
                "system": {"type": "text", "text": "s"},
            }[outer]
            changed = {**given, inner: value}
            fields = {outer: [changed] if outer in ("tools", "system") else changed}

        body, ignored = sent(ANTHROPIC, target("openai"), **fields)

        assert ignored == (field,)
        assert not body.keys() & {"container", "service_tier"}

    @pytest.mark.parametrize(
        "fields",
        [
            {"service_tier": "auto"},
            {"container": None},
            {"context_management": {"edits": []}},
            {"inference_geo": "global"},
        ],
    )
    def test_fields_without_effect_are_not_named(self, fields: Any) -> None:
        assert sent(ANTHROPIC, target("openai"), **fields)[1] == ()

    def test_mcp_servers_fail_over(self) -> None:
        with pytest.raises(UnsupportedRequest):
            sent(ANTHROPIC, target("openai"), mcp_servers=[{"type": "url", "url": "https://x"}])

    def test_an_inference_location_fails_over(self) -> None:
        with pytest.raises(UnsupportedRequest, match="inference_geo"):
            sent(ANTHROPIC, target("openai"), inference_geo="us")

    def test_the_list_of_ignored_fields_is_bounded(self) -> None:
        fields = {f"field-{number}-{'x' * 500}": 1 for number in range(500)}

        _, ignored = sent(ANTHROPIC, target("openai"), **fields)

        assert len(", ".join(ignored)) < 4096
