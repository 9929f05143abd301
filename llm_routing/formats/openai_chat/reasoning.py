"""Writes reasoning settings as each vendor of OpenAI Chat Completions accepts them.

The sources are beside the vendors' rows in `llm_routing.vendors`.
"""

from typing import Any, Final

from llm_routing.core.capabilities import Capability
from llm_routing.core.content import Reasoning
from llm_routing.core.quirks import is_model
from llm_routing.core.routing_table import Target
from llm_routing.core.types import LLMRequest
from llm_routing.formats.ignored_fields import has_value

# Other names for `reasoning_effort`.
_OTHER_WORDS: Final = ("reasoning", "thinking")
# The values of DeepSeek's `thinking`.
_SWITCHES: Final = ({"type": "enabled"}, {"type": "disabled"})
_ALL_WORDS: Final = ("reasoning_effort", *_OTHER_WORDS)
_WORDS: Final = frozenset(_ALL_WORDS)
_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# The effort that a budget of reasoning tokens stands for, up to this number of tokens.
_EFFORTS_BY_BUDGET: Final = ((4096, "low"), (16_384, "medium"))


def fit_reasoning(
    body: dict[str, Any], request: LLMRequest, target: Target, ignored: list[str], *, is_own: bool
) -> None:
    """Writes the reasoning settings into `body` as vendor and model accept them. `is_own`: the body
    is the caller's own, in this format."""
    # Most callers set nothing.
    if request.reasoning is not None or body.get("tools") or not _WORDS.isdisjoint(body):
        _Fit(body, request, target, ignored, is_own).run()


class _Fit:
    def __init__(
        self,
        body: dict[str, Any],
        request: LLMRequest,
        target: Target,
        ignored: list[str],
        is_own: bool,
    ) -> None:
        self._body = body
        self._request = request
        self._quirks = target.provider.quirks
        self._model = target.model
        self._ignored = ignored
        self._is_own = is_own
        # The field that the caller used, else the common name.
        self._word = "reasoning"
        if is_own:
            found = (word for word in _ALL_WORDS if has_value(body.get(word)))
            self._word = next(found, "reasoning")

    def run(self) -> None:
        """Changes the body."""
        asked = self._request.reasoning
        if not self._is_own:
            if asked is not None and self._can_think:
                self._write(asked)
            elif asked is not None and asked.enabled:
                self._ignored.append(self._word)
        else:
            self._fit_own(asked)
        if self._body.get("tools"):
            self._fit_to_tools()

    @property
    def _can_think(self) -> bool:
        return self._model.offers(Capability.REASONING)

    def _fit_own(self, asked: Reasoning | None) -> None:
        body = self._body
        foreign = [
            word
            for word in _OTHER_WORDS
            if (value := body.get(word)) is not None and not self._takes(word, value)
        ]
        for word in foreign:
            del body[word]
        effort = body.get("reasoning_effort")
        if asked is None or not (foreign or isinstance(effort, str)):
            return
        if effort is None or self._fitted(effort) != effort:
            body.pop("reasoning_effort", None)
            self._write(asked)

    def _takes(self, field: str, value: Any) -> bool:
        quirks = self._quirks
        if field == "thinking" and quirks.thinking_switch:
            return value in _SWITCHES
        is_known = quirks.fields is None or field in quirks.fields
        return is_known and field not in quirks.refused_fields

    def _write(self, asked: Reasoning) -> None:
        if not asked.enabled:
            self._write_none()
            return
        effort = asked.effort
        if effort is None and asked.budget_tokens is not None:
            effort = "high"
            for budget, name in reversed(_EFFORTS_BY_BUDGET):
                effort = name if asked.budget_tokens <= budget else effort
        if effort is None:
            return
        fitted = self._fitted(effort)
        if fitted != effort:
            self._ignored.append(self._word)
        if fitted is not None:
            self._body["reasoning_effort"] = fitted

    def _write_none(self) -> None:
        """Switches reasoning off, if the model allows it."""
        if self._quirks.thinking_switch:
            self._body["thinking"] = {"type": "disabled"}
        elif is_model(self._quirks.knows_no_effort, self._model.model_id):
            self._body["reasoning_effort"] = "none"
        else:
            self._ignored.append(self._word)

    def _fitted(self, effort: str) -> str | None:
        """Returns the vendor's nearest effort, or None."""
        known = self._quirks.efforts
        if effort == "none":
            # The vendor's efforts are unknown, so its own effort is kept.
            takes = not known or is_model(self._quirks.knows_no_effort, self._model.model_id)
            return effort if takes and not self._quirks.thinking_switch else None
        if not known or effort in known:
            return effort
        if effort not in _EFFORTS:
            return None
        place = _EFFORTS.index(effort)
        return min(known, key=lambda name: abs(_EFFORTS.index(name) - place))

    def _fit_to_tools(self) -> None:
        quirks, body = self._quirks, self._body
        if self._model.refuses_sampling and is_model(
            quirks.tools_end_reasoning, self._model.model_id
        ):
            if body.get("reasoning_effort") not in (None, "none"):
                self._ignored.append(self._word)
            body["reasoning_effort"] = "none"
        elif quirks.thinking_switch and _forces_a_tool(body):
            reasoning = self._request.reasoning
            if reasoning is not None and reasoning.enabled:
                self._ignored.append(self._word)
            body.pop("reasoning_effort", None)
            body["thinking"] = {"type": "disabled"}


def _forces_a_tool(body: dict[str, Any]) -> bool:
    choice = body.get("tool_choice")
    return isinstance(choice, dict) or choice == "required"
