"""Fits reasoning settings to vendors of OpenAI Chat Completions."""

from typing import Any

import pytest

from tests.formats.vendor_requests import (
    ANTHROPIC,
    OPENAI,
    REASONING,
    function,
    sent,
    target,
    tool,
)


class TestToolsOfReasoningModels:
    @pytest.mark.parametrize("stream", [False, True])
    def test_effort_is_dropped_for_models_that_accept_tools_only_without_it(
        self, stream: bool
    ) -> None:
        body, ignored = sent(
            ANTHROPIC,
            target("openai", REASONING),
            tools=[tool()],
            thinking={"type": "adaptive"},
            output_config={"effort": "high"},
            stream=stream,
        )

        assert body["reasoning_effort"] == "none"
        assert body["tools"]
        assert ignored == ("reasoning",)

    def test_disabled_thinking_is_not_named(self) -> None:
        body, ignored = sent(
            ANTHROPIC, target("openai", REASONING), tools=[tool()], thinking={"type": "disabled"}
        )

        assert body["reasoning_effort"] == "none"
        assert ignored == ()

    @pytest.mark.parametrize("vendor", ["openai", "portkey"])
    def test_a_dropped_effort_is_named_by_the_openai_callers_field(self, vendor: str) -> None:
        model = "@openai/gpt-6-luna" if vendor == "portkey" else "gpt-6-luna"
        body, ignored = sent(
            OPENAI,
            target(vendor, REASONING, model=model),
            tools=[function()],
            reasoning_effort="high",
        )

        assert body["reasoning_effort"] == "none"
        assert ignored == ("reasoning_effort",)

    @pytest.mark.parametrize("model", ["o3", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.2"])
    def test_older_models_keep_the_effort_with_tools(self, model: str) -> None:
        body, ignored = sent(
            OPENAI,
            target("openai", REASONING, model=model),
            tools=[function()],
            reasoning_effort="high",
        )

        assert body["reasoning_effort"] == "high"
        assert ignored == ()

    @pytest.mark.parametrize("model", ["gpt-5.4", "gpt-5.6-terra", "gpt-6-astra", "gpt-10"])
    def test_newer_models_are_sent_effort_none_with_tools(self, model: str) -> None:
        body, ignored = sent(OPENAI, target("openai", REASONING, model=model), tools=[function()])

        assert body["reasoning_effort"] == "none"
        assert ignored == ()

    @pytest.mark.parametrize("vendor", ["openai", "mistral", "ollama", "openrouter"])
    def test_disabled_thinking_is_written_if_the_model_supports_it(self, vendor: str) -> None:
        body, ignored = sent(ANTHROPIC, target(vendor, REASONING), thinking={"type": "disabled"})

        assert body["reasoning_effort"] == "none"
        assert ignored == ()


class TestForcedTools:
    @pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "f"}])
    def test_deepseeks_thinking_is_disabled_with_a_forced_tool(self, choice: Any) -> None:
        body, ignored = sent(ANTHROPIC, target("deepseek"), tools=[tool()], tool_choice=choice)

        assert body["thinking"] == {"type": "disabled"}
        assert body["tool_choice"]
        assert ignored == ()

    def test_requested_thinking_that_is_disabled_is_named(self) -> None:
        body, ignored = sent(
            OPENAI,
            target("deepseek"),
            tools=[function()],
            tool_choice="required",
            reasoning_effort="high",
        )

        assert body["thinking"] == {"type": "disabled"}
        assert "reasoning_effort" not in body
        assert ignored == ("reasoning_effort",)

    def test_thinking_is_kept_with_a_free_tool_choice(self) -> None:
        body, _ = sent(OPENAI, target("deepseek"), tools=[function()], tool_choice="auto")

        assert "thinking" not in body

    @pytest.mark.parametrize(
        ("thinking", "kept", "effort"),
        [
            ({"type": "enabled"}, {"type": "enabled"}, None),
            ({"type": "adaptive"}, None, None),
            ({"type": "enabled", "budget_tokens": 1024}, None, "low"),
        ],
    )
    def test_thinking_is_switched_by_deepseeks_field(
        self, thinking: Any, kept: Any, effort: str | None
    ) -> None:
        body, ignored = sent(OPENAI, target("deepseek"), thinking=thinking)

        assert body.get("thinking") == kept
        assert body.get("reasoning_effort") == effort
        assert ignored == ()

    def test_thinking_is_disabled_by_deepseeks_field(self) -> None:
        body, ignored = sent(OPENAI, target("deepseek"), reasoning_effort="none")

        assert body["thinking"] == {"type": "disabled"}
        assert "reasoning_effort" not in body
        assert ignored == ()


class TestEffort:
    @pytest.mark.parametrize(
        ("vendor", "asked", "given"),
        [
            ("openai", "max", "xhigh"),
            ("google", "xhigh", "high"),
            ("mistral", "low", "high"),
            ("together", "minimal", "low"),
            ("deepseek", "max", "max"),
            ("groq", "default", "default"),
        ],
    )
    def test_the_nearest_effort_is_written_and_a_change_is_named(
        self, vendor: str, asked: str, given: str
    ) -> None:
        body, ignored = sent(OPENAI, target(vendor), reasoning_effort=asked)

        assert body["reasoning_effort"] == given
        assert ignored == (() if asked == given else ("reasoning_effort",))

    def test_an_unknown_effort_is_left_out(self) -> None:
        body, ignored = sent(OPENAI, target("mistral"), reasoning_effort="deep")

        assert "reasoning_effort" not in body
        assert ignored == ("reasoning_effort",)

    @pytest.mark.parametrize(
        ("field", "given"),
        [
            ({"reasoning": {"effort": "low"}}, "low"),
            ({"reasoning": {"max_tokens": 5000}}, "medium"),
            ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
            ({"thinking": {"type": "adaptive"}}, None),
            ({"thinking": {"type": "disabled"}}, "none"),
        ],
    )
    def test_settings_of_other_vendors_are_translated(self, field: Any, given: str | None) -> None:
        body, ignored = sent(OPENAI, target("openai"), **field)

        assert body.get("reasoning_effort") == given
        assert not body.keys() & field.keys()
        assert ignored == ()

    def test_unsupported_settings_are_named(self) -> None:
        body, ignored = sent(OPENAI, target("vllm"), thinking={"type": "disabled"})

        assert body.keys() == {"model", "messages"}
        assert ignored == ("thinking",)

    def test_openrouters_own_field_is_kept(self) -> None:
        body, _ = sent(OPENAI, target("openrouter"), reasoning={"effort": "low"})

        assert body["reasoning"] == {"effort": "low"}
