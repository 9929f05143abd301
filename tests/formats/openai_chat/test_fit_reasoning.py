"""Reasoning settings, fitted to vendors of OpenAI Chat Completions."""

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
    def test_an_anthropic_callers_effort_gives_way_to_its_tools(self, stream: bool) -> None:
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

    def test_no_thinking_is_what_was_asked(self) -> None:
        body, ignored = sent(
            ANTHROPIC, target("openai", REASONING), tools=[tool()], thinking={"type": "disabled"}
        )

        assert body["reasoning_effort"] == "none"
        assert ignored == ()

    @pytest.mark.parametrize("vendor", ["openai", "portkey"])
    def test_an_openai_callers_effort_is_named_as_it_wrote_it(self, vendor: str) -> None:
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
    def test_older_models_think_beside_tools(self, model: str) -> None:
        body, ignored = sent(
            OPENAI,
            target("openai", REASONING, model=model),
            tools=[function()],
            reasoning_effort="high",
        )

        assert body["reasoning_effort"] == "high"
        assert ignored == ()

    @pytest.mark.parametrize("model", ["gpt-5.4", "gpt-5.6-terra", "gpt-6-astra", "gpt-10"])
    def test_the_default_effort_of_newer_ones_is_refused_too(self, model: str) -> None:
        body, ignored = sent(OPENAI, target("openai", REASONING, model=model), tools=[function()])

        assert body["reasoning_effort"] == "none"
        assert ignored == ()

    @pytest.mark.parametrize("vendor", ["openai", "mistral", "ollama", "openrouter"])
    def test_without_tools_no_thinking_is_said_where_it_can_be(self, vendor: str) -> None:
        body, ignored = sent(ANTHROPIC, target(vendor, REASONING), thinking={"type": "disabled"})

        assert body["reasoning_effort"] == "none"
        assert ignored == ()


class TestForcedTools:
    @pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "f"}])
    def test_deepseek_does_not_think_beside_a_forced_tool(self, choice: Any) -> None:
        body, ignored = sent(ANTHROPIC, target("deepseek"), tools=[tool()], tool_choice=choice)

        assert body["thinking"] == {"type": "disabled"}
        assert body["tool_choice"]
        assert ignored == ()

    def test_thinking_that_was_asked_for_is_named(self) -> None:
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

    def test_it_thinks_where_the_choice_is_free(self) -> None:
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
    def test_it_is_switched_in_its_own_words(
        self, thinking: Any, kept: Any, effort: str | None
    ) -> None:
        body, ignored = sent(OPENAI, target("deepseek"), thinking=thinking)

        assert body.get("thinking") == kept
        assert body.get("reasoning_effort") == effort
        assert ignored == ()

    def test_it_has_a_word_of_its_own_for_no_thinking(self) -> None:
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
    def test_the_nearest_one_is_asked_for_and_a_change_named(
        self, vendor: str, asked: str, given: str
    ) -> None:
        body, ignored = sent(OPENAI, target(vendor), reasoning_effort=asked)

        assert body["reasoning_effort"] == given
        assert ignored == (() if asked == given else ("reasoning_effort",))

    def test_one_that_nobody_knows_is_left_out(self) -> None:
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
    def test_other_dialects_words_are_translated(self, field: Any, given: str | None) -> None:
        body, ignored = sent(OPENAI, target("openai"), **field)

        assert body.get("reasoning_effort") == given
        assert not body.keys() & field.keys()
        assert ignored == ()

    def test_what_cannot_be_said_is_named(self) -> None:
        body, ignored = sent(OPENAI, target("vllm"), thinking={"type": "disabled"})

        assert body.keys() == {"model", "messages"}
        assert ignored == ("thinking",)

    def test_openrouter_takes_its_own_word(self) -> None:
        body, _ = sent(OPENAI, target("openrouter"), reasoning={"effort": "low"})

        assert body["reasoning"] == {"effort": "low"}
