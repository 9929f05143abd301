"""Writes reasoning settings as each Claude model accepts them.

Models that refuse sampling parameters (Claude Opus 4.7 and later) also refuse a budget; models
without structured outputs are older than effort and adaptive thinking. Sources:
https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking, /extended-thinking, /effort
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from llm_routing.core.capabilities import Capability
from llm_routing.core.content import Reasoning
from llm_routing.core.routing_table import ModelSpec

MIN_BUDGET: Final = 1024

# The share of the answer's tokens that an effort may spend on reasoning.
_SHARES: Final = {
    "minimal": 0.1,
    "low": 0.2,
    "medium": 0.5,
    "high": 0.8,
    "xhigh": 0.9,
    "max": 0.95,
}
# The vendor refuses these beside a budget.
_SAMPLING: Final = ("temperature", "top_k", "top_p")


def write_thinking(
    body: dict[str, Any], reasoning: Reasoning | None, model: ModelSpec, ignored: list[str]
) -> None:
    """Writes the reasoning settings of a caller of another format into `body`."""
    if reasoning is None:
        return
    if not model.offers(Capability.REASONING):
        if reasoning.enabled:
            ignored.append("reasoning")
    elif model.refuses_sampling:
        _write_adaptive(body, reasoning, ignored)
    elif reasoning.enabled:
        budget = _budget(body, reasoning.budget_tokens, reasoning.effort)
        if budget is None:
            ignored.append("reasoning")
        else:
            body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _write_adaptive(body: dict[str, Any], reasoning: Reasoning, ignored: list[str]) -> None:
    """Writes adaptive thinking. Reasoning cannot be switched off in some of these models."""
    effort = reasoning.effort if reasoning.enabled else "minimal"
    if not reasoning.enabled or _forces_a_tool(body):
        ignored.append("reasoning")
    else:
        body["thinking"] = {"type": "adaptive"}
    if reasoning.budget_tokens is not None:
        ignored.append("reasoning.budget_tokens")
    if effort in _SHARES:
        config = body.setdefault("output_config", {})
        config["effort"] = "low" if effort == "minimal" else effort
    elif effort is not None:
        ignored.append("reasoning.effort")


def fit_own_thinking(body: dict[str, Any], model: ModelSpec, ignored: list[str]) -> None:
    """Fits the reasoning settings in a body of Anthropic's own format to the model."""
    thinking = body.get("thinking")
    kind = thinking.get("type") if isinstance(thinking, Mapping) else None
    can_think = model.offers(Capability.REASONING)
    is_adaptive = model.refuses_sampling
    is_old = not is_adaptive and not model.offers(Capability.JSON_SCHEMA)
    effort = _take_effort(body, ignored) if is_old or not can_think else None
    if kind not in ("enabled", "adaptive"):
        return
    assert isinstance(thinking, Mapping), "it has a type"
    if not can_think or _forces_a_tool(body):
        del body["thinking"]
        ignored.append("thinking")
    elif kind == "enabled" and is_adaptive:
        rest = {name: value for name, value in thinking.items() if name != "budget_tokens"}
        body["thinking"] = {**rest, "type": "adaptive"}
        ignored.append("thinking.budget_tokens")
    elif kind == "enabled" or is_old:
        asked = thinking.get("budget_tokens")
        budget = _budget(body, asked, effort)
        if budget is None:
            del body["thinking"]
            ignored.append("thinking")
        elif kind == "adaptive":
            body["thinking"] = {"type": "enabled", "budget_tokens": budget}
            ignored.append("thinking")
            ignored += [name for name in _SAMPLING if body.pop(name, None) is not None]
        elif budget != asked:
            body["thinking"] = {**thinking, "budget_tokens": budget}
            ignored.append("thinking.budget_tokens")


def _take_effort(body: dict[str, Any], ignored: list[str]) -> str | None:
    """Removes the effort from a body, for a model that does not know it."""
    config = body.get("output_config")
    if not isinstance(config, Mapping) or config.get("effort") is None:
        return None
    rest = {name: value for name, value in config.items() if name != "effort"}
    if rest:
        body["output_config"] = rest
    else:
        del body["output_config"]
    ignored.append("output_config.effort")
    return str(config["effort"])


def _budget(body: Mapping[str, Any], asked: int | None, effort: str | None) -> int | None:
    """Returns the reasoning budget that the vendor accepts. Returns None beside a forced tool,
    after tool calls that began without reasoning, or without room for an answer."""
    max_tokens: int = body["max_tokens"]
    if (
        _forces_a_tool(body)
        or max_tokens <= MIN_BUDGET
        or _continues_without_thinking(body["messages"])
    ):
        return None
    share = _SHARES.get(effort or "medium", _SHARES["medium"])
    wanted = asked or int(max_tokens * share)
    return max(min(wanted, max_tokens - 1), MIN_BUDGET)


def _forces_a_tool(body: Mapping[str, Any]) -> bool:
    choice = body.get("tool_choice")
    return isinstance(choice, Mapping) and choice.get("type") in ("any", "tool")


def _continues_without_thinking(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Returns whether the last turn holds results of calls that no reasoning preceded."""
    if len(messages) < 2 or _first_type(messages[-1]) != "tool_result":
        return False
    return _first_type(messages[-2]) not in ("thinking", "redacted_thinking")


def _first_type(message: Mapping[str, Any]) -> str:
    content = message["content"]
    return str(content[0]["type"]) if content and isinstance(content, list) else "text"
