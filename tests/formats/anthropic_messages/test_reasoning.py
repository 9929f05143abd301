"""Reasoning settings of other formats, written for vendors of Anthropic Messages."""

import pytest

from llm_routing.core.content import (
    Message,
    Reasoning,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolChoiceMode,
)
from llm_routing.core.types import LLMRequest
from tests.formats.anthropic_messages.requests import (
    HELD,
    ask,
    assistant,
    result,
    sent,
    target,
    user,
)


class TestReasoning:
    @pytest.mark.parametrize(
        ("reasoning", "max_tokens", "budget"),
        [
            (Reasoning(effort="high"), 10_000, 8000),
            (Reasoning(effort="low"), 10_000, 2000),
            (Reasoning(effort="minimal"), 4096, 1024),
            (Reasoning(effort="extraordinary"), 10_000, 5000),
            (Reasoning(), 10_000, 5000),
            (Reasoning(budget_tokens=3000), 10_000, 3000),
            (Reasoning(budget_tokens=30_000), 10_000, 9999),
            (Reasoning(budget_tokens=10), 10_000, 1024),
            (Reasoning(effort="high"), 1025, 1024),
        ],
    )
    def test_effort_becomes_a_budget_with_room_for_the_answer(
        self, reasoning: Reasoning, max_tokens: int, budget: int
    ) -> None:
        built, ignored = sent(ask(reasoning=reasoning, max_tokens=max_tokens))

        assert built["thinking"] == {"type": "enabled", "budget_tokens": budget}
        assert ignored == ()

    def test_sampling_parameters_are_dropped_with_thinking(self) -> None:
        built, ignored = sent(ask(reasoning=Reasoning(), temperature=0.2, top_p=0.5, top_k=3))

        assert built.keys() == {"model", "max_tokens", "messages", "thinking"}
        assert ignored == ("temperature", "top_p", "top_k")

    @pytest.mark.parametrize(
        "request_",
        [
            ask(reasoning=Reasoning(), max_tokens=1024),
            ask(
                reasoning=Reasoning(),
                tools=(Tool("f"),),
                tool_choice=ToolChoice(ToolChoiceMode.REQUIRED),
            ),
            ask(
                user("Hi"),
                assistant("Calling", ToolCallPart("c", "f", "{}")),
                result("c"),
                reasoning=Reasoning(),
            ),
        ],
    )
    def test_thinking_is_dropped_if_the_vendor_would_refuse_it(self, request_: LLMRequest) -> None:
        built, ignored = sent(request_)

        assert "thinking" not in built
        assert ignored == ("reasoning",)

    @pytest.mark.parametrize(
        "messages",
        [
            (
                user("Hi"),
                assistant(ThinkingPart("Hm", signature="s"), ToolCallPart("c", "f", "{}")),
                result("c"),
            ),
            (user("Hi"), assistant("Ho"), user("And?")),
            (result("c"),),
        ],
    )
    def test_thinking_is_kept_if_the_vendor_accepts_it(self, messages: tuple[Message, ...]) -> None:
        assert "thinking" in sent(ask(*messages, reasoning=Reasoning()))[0]

    def test_disabled_thinking_is_not_written(self) -> None:
        built, ignored = sent(ask(reasoning=Reasoning(enabled=False)))

        assert "thinking" not in built
        assert ignored == ()

    def test_thinking_is_dropped_for_a_model_without_it(self) -> None:
        asked = sent(ask(reasoning=Reasoning()), target("chat"))
        not_asked = sent(ask(reasoning=Reasoning(enabled=False)), target("chat"))

        assert "thinking" not in asked[0]
        assert asked[1] == ("reasoning",)
        assert not_asked[1] == ()

    @pytest.mark.parametrize(
        ("reasoning", "thinking", "effort", "ignored"),
        [
            (Reasoning(effort="high"), True, "high", ()),
            (Reasoning(effort="minimal"), True, "low", ()),
            (Reasoning(), True, None, ()),
            (Reasoning(effort="huge"), True, None, ("reasoning.effort",)),
            (Reasoning(budget_tokens=2000), True, None, ("reasoning.budget_tokens",)),
            (Reasoning(enabled=False), False, "low", ("reasoning",)),
        ],
    )
    def test_models_without_budgets_are_sent_the_effort(
        self,
        reasoning: Reasoning,
        thinking: bool,
        effort: str | None,
        ignored: tuple[str, ...],
    ) -> None:
        built, named = sent(ask(reasoning=reasoning), target("reasoning", "no_sampling"))

        assert built.get("thinking") == ({"type": "adaptive"} if thinking else None)
        assert built.get("output_config", {}).get("effort") == effort
        assert named == ignored

    def test_effort_is_kept_with_a_schema_and_a_forced_tool(self) -> None:
        built, ignored = sent(
            ask(
                reasoning=Reasoning(effort="low"),
                response_format=HELD,
                tools=(Tool("f"),),
                tool_choice=ToolChoice(ToolChoiceMode.NAMED, "f"),
            ),
            target("reasoning", "no_sampling", "json_schema"),
        )

        assert built["output_config"].keys() == {"format", "effort"}
        assert "thinking" not in built
        assert ignored == ("reasoning",)
