"""Fits requests to Anthropic and to the model."""

import json
import re
from typing import Any

import pytest
from msgspec.structs import replace

from llm_routing.core.errors import UnsupportedRequest
from llm_routing.formats.registry import FORMATS
from llm_routing.formats.tool_ids import with_signature
from tests.formats.vendor_requests import (
    ANTHROPIC,
    ESSENTIAL,
    MARK,
    OLD,
    OPENAI,
    PLAIN,
    REASONING,
    USER,
    call,
    function,
    result,
    sent,
    target,
    tool,
    tool_result,
    tool_use,
)


class TestCacheMarks:
    def test_cache_marks_of_an_openai_caller_are_on_the_same_blocks(self) -> None:
        text = {"type": "text", "text": "t", "cache_control": MARK}
        body, ignored = sent(
            OPENAI,
            target("anthropic"),
            messages=[
                {"role": "system", "content": [text]},
                {"role": "user", "content": [text]},
                {"role": "assistant", "content": "a"},
                {"role": "user", "content": "whole", "cache_control": MARK},
            ],
            tools=[{**function(), "cache_control": MARK}],
        )

        assert body["system"] == [text]
        assert body["messages"][0]["content"] == [text]
        assert body["messages"][2]["content"] == [
            {"type": "text", "text": "whole", "cache_control": MARK}
        ]
        assert body["tools"][0]["cache_control"] == MARK
        assert ignored == ()


class TestOtherFieldsOfOpenAI:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("logit_bias", {"1": 1}),
            ("service_tier", "flex"),
            ("verbosity", "low"),
            ("prediction", {"type": "content", "content": "x"}),
            ("store", True),
            ("audio", {"voice": "alloy", "format": "wav"}),
            ("prompt_cache_key", "k"),
            ("min_p", 0.1),
            ("metadata", {"k": "v"}),
        ],
    )
    def test_unsupported_fields_are_named(self, field: str, value: Any) -> None:
        body, ignored = sent(OPENAI, target("anthropic"), **{field: value})

        assert field not in body
        assert ignored == (field,)

    @pytest.mark.parametrize(
        "fields",
        [{"service_tier": "auto"}, {"store": False}, {"logit_bias": {}}, {"modalities": ["text"]}],
    )
    def test_fields_without_effect_are_not_named(self, fields: Any) -> None:
        assert sent(OPENAI, target("anthropic"), **fields)[1] == ()

    @pytest.mark.parametrize("fields", ESSENTIAL)
    def test_fields_that_change_the_answer_fail_over_to_the_next_target(self, fields: Any) -> None:
        with pytest.raises(UnsupportedRequest):
            sent(OPENAI, target("anthropic"), **fields)

    def test_thinking_in_anthropics_form_is_kept_and_not_named(self) -> None:
        thinking = {"type": "enabled", "budget_tokens": 1024}

        body, ignored = sent(OPENAI, target("anthropic"), thinking=thinking, max_tokens=4000)

        assert body["thinking"] == thinking
        assert ignored == ()


class TestPrefill:
    def test_a_prefill_does_not_end_with_white_space(self) -> None:
        begun = {"role": "assistant", "content": "It \n"}

        body, _ = sent(OPENAI, target("anthropic"), messages=[USER, begun, USER, begun])

        texts = [turn["content"][0]["text"] for turn in body["messages"][1::2]]
        assert texts == ["It \n", "It"]


CHOICE = {"type": "any"}


class TestThinkingOfAnthropicsOwnCallers:
    def test_an_adaptive_model_is_sent_no_budget(self) -> None:
        thinking = {"type": "enabled", "budget_tokens": 1024, "display": "omitted"}

        body, ignored = sent(ANTHROPIC, target("anthropic", REASONING), thinking=thinking)

        assert body["thinking"] == {"type": "adaptive", "display": "omitted"}
        assert ignored == ("thinking.budget_tokens",)

    def test_an_older_model_is_sent_a_budget_within_its_limit(self) -> None:
        body, ignored = sent(
            ANTHROPIC,
            target("anthropic", OLD, limit=8192),
            thinking={"type": "adaptive"},
            output_config={"effort": "xhigh"},
            max_tokens=32_000,
            top_k=5,
        )

        assert body["max_tokens"] == 8192
        assert body["thinking"]["type"] == "enabled"
        assert 1024 <= body["thinking"]["budget_tokens"] < 8192
        assert not body.keys() & {"output_config", "top_k"}
        assert ignored == ("max_tokens", "output_config.effort", "thinking", "top_k")

    def test_a_budget_stays_below_the_limit(self) -> None:
        thinking = {"type": "enabled", "budget_tokens": 20_000}

        body, ignored = sent(
            ANTHROPIC, target("anthropic", OLD, limit=8192), thinking=thinking, max_tokens=32_000
        )

        assert body["thinking"] == {"type": "enabled", "budget_tokens": 8191}
        assert ignored == ("max_tokens", "thinking.budget_tokens")

    @pytest.mark.parametrize(
        ("capabilities", "more"),
        [
            (OLD, {"max_tokens": 1000}),
            (PLAIN, {"tools": [tool()], "tool_choice": CHOICE}),
            (REASONING, {"tools": [tool()], "tool_choice": CHOICE}),
            (PLAIN - {"reasoning"}, {"output_config": {"effort": "low"}}),
        ],
    )
    def test_thinking_is_removed_if_the_vendor_would_refuse_it(
        self, capabilities: frozenset[str], more: Any
    ) -> None:
        thinking = {"type": "enabled", "budget_tokens": 1024}

        body, ignored = sent(
            ANTHROPIC, target("anthropic", capabilities), thinking=thinking, **more
        )

        assert not body.keys() & {"thinking", "output_config"}
        assert ignored[-1] == "thinking"

    @pytest.mark.parametrize(
        ("capabilities", "fields"),
        [
            (REASONING, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
            (PLAIN, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
            (PLAIN, {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
            (OLD, {"thinking": {"type": "disabled"}}),
            (OLD, {"thinking": None}),
            (OLD, {"output_config": None}),
            (frozenset(), {"thinking": {"type": "adaptive"}}),
        ],
    )
    def test_settings_that_the_model_accepts_are_unchanged(
        self, capabilities: frozenset[str], fields: Any
    ) -> None:
        body, ignored = sent(ANTHROPIC, target("anthropic", capabilities), **fields)

        assert {name: body[name] for name in fields} == fields
        assert ignored == ()

    def test_a_schema_fails_over_if_the_model_does_not_support_schemas(self) -> None:
        wanted = {"type": "json_schema", "schema": {"type": "object", "properties": {}}}

        for fields in ({"output_config": {"format": wanted}}, {"output_format": wanted}):
            with pytest.raises(UnsupportedRequest):
                sent(ANTHROPIC, target("anthropic", OLD), **fields)
            assert sent(ANTHROPIC, target("anthropic"), **fields)[1] == ()

    def test_removing_the_effort_keeps_the_rest_of_output_config(self) -> None:
        config = {"effort": "low", "task_budget": 1}

        body, ignored = sent(
            ANTHROPIC, target("anthropic", OLD), output_config=config, thinking={"type": "disabled"}
        )

        assert body["output_config"] == {"task_budget": 1}
        assert ignored == ("output_config.effort",)

    def test_a_reduced_limit_is_named_by_the_openai_callers_field(self) -> None:
        aim = target("anthropic", limit=100)

        assert sent(OPENAI, aim, max_tokens=500)[1] == ("max_tokens",)
        body, ignored = sent(OPENAI, aim, max_completion_tokens=500)
        assert (body["max_tokens"], ignored) == (100, ("max_completion_tokens",))


class TestIdsNamesAndMarks:
    @pytest.mark.parametrize("caller", [OPENAI, ANTHROPIC])
    def test_tool_names_are_fitted_consistently_in_every_place(self, caller: str) -> None:
        name = "files.read/" + "x" * 150
        if caller == OPENAI:
            fields: dict[str, Any] = {
                "messages": [
                    USER,
                    {"role": "assistant", "tool_calls": [call("call_1", name)]},
                    result("call_1"),
                ],
                "tools": [function(name)],
                "tool_choice": {"type": "function", "function": {"name": name}},
            }
        else:
            fields = {
                "messages": [
                    USER,
                    {"role": "assistant", "content": [tool_use("toolu_1", name)]},
                    {"role": "user", "content": [tool_result("toolu_1")]},
                ],
                "tools": [tool(name)],
                "tool_choice": {"type": "tool", "name": name},
            }

        body, _ = sent(caller, target("anthropic"), **fields)

        fitted = body["tools"][0]["name"]
        assert re.fullmatch("[a-zA-Z0-9_-]{1,128}", fitted)
        assert body["tool_choice"]["name"] == fitted
        assert body["messages"][1]["content"][0]["name"] == fitted

    def test_a_signature_of_another_vendor_is_removed_from_ids(self) -> None:
        carrying = with_signature("toolu_1", "SIG==")
        messages = [
            USER,
            {"role": "assistant", "content": [tool_use(carrying)]},
            {"role": "user", "content": [tool_result(carrying)]},
        ]

        body, _ = sent(ANTHROPIC, target("anthropic"), messages=messages)

        assert body["messages"][1]["content"] == [tool_use("toolu_1")]
        assert body["messages"][2]["content"] == [tool_result("toolu_1")]

    def test_only_the_last_four_cache_marks_are_kept(self) -> None:
        text = {"type": "text", "text": "t", "cache_control": MARK}
        answered = {**result("call_1"), "content": [text]}

        body, ignored = sent(
            OPENAI,
            target("anthropic"),
            messages=[
                {"role": "system", "content": [text]},
                {"role": "user", "content": [text, text]},
                {"role": "assistant", "tool_calls": [call("call_1")], "cache_control": MARK},
                answered,
            ],
            tools=[{**function(), "cache_control": MARK}],
        )

        assert json.dumps(body).count("cache_control") == 4
        assert "cache_control" not in json.dumps([body["tools"], body["system"]])
        assert ignored == ("cache_control",)


def test_a_reduced_limit_of_the_route_is_not_named() -> None:
    aim = target("anthropic", limit=100)
    body = {"model": "m", "messages": [USER]}
    request = replace(FORMATS[OPENAI].read_request(body), max_tokens=500)

    wire = FORMATS[ANTHROPIC].write_request(request, aim)

    assert json.loads(wire.body)["max_tokens"] == 100
    assert wire.ignored == ()
