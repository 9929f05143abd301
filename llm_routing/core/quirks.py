"""The differences between a vendor's API and its wire format, as data.

`llm_routing.vendors` has the rows; `fit` in each wire format's folder adapts requests to them. The
default accepts everything.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Final

# Every vendor accepts these; the token limit is written under the name that it accepts.
_ENVELOPE: Final = frozenset(
    ("model", "messages", "max_tokens", "max_completion_tokens", "stream", "stream_options")
)
_ORDINARY_FIELDS: Final = _ENVELOPE | {
    *("temperature", "top_p", "stop", "seed", "user"),
    *("frequency_penalty", "presence_penalty"),
}
NO_MODEL = r"(?!)"
ANY_MODEL = r""


class ModelQuirk(StrEnum):
    """Features that one model rejects, as stated by operators and catalogues.

    NO_SAMPLING: it rejects `temperature` and `top_p`, like OpenAI's reasoning models, and like
    Claude from Opus 4.7 and Sonnet 5 on, which also reject thinking budgets.
    """

    NO_SAMPLING = "no_sampling"


@dataclass(frozen=True, slots=True)
class ToolIds:
    """The vendor's form of tool call ids: letters, digits and the characters in `others`; at most
    `max_length` of them, exactly that many if `is_exact`."""

    max_length: int
    others: str = "_-"
    is_exact: bool = False


@dataclass(frozen=True, slots=True)
class StrictLimits:
    """The vendor's limits on all enforced schemas of one request together."""

    tools: int
    optional_parameters: int
    union_parameters: int


@dataclass(frozen=True)
class Quirks:
    """The differences of one vendor.

    Fields: `fields` are the only request fields that it accepts (None: any), `refused_fields` those
    that it rejects; `message_fields` and `refused_message_fields` are the same for messages.
    `field_names` maps our field names to the vendor's, `field_values` lists the only strings that a
    field may hold. `embedding_fields` and `embedding_names` are `fields` and `field_names` for
    embedding requests. `limit_field` limits the tokens of an answer. `max_temperature` and
    `max_stops` are upper limits.

    Models are selected by patterns that are searched in the model id. `reasoning_models`: those
    models with the quirk NO_SAMPLING that reject `reasoning_refuses`. `tools_end_reasoning`: those
    of them that accept tools only with the effort `none`. `refuses_parallel_tool_calls`: models
    that reject the field `parallel_tool_calls`. `marks_cache`: models that accept `cache_control`.

    Thinking: `efforts` are the named efforts that it accepts, lowest first (empty: any), besides
    `none`, which the models of `knows_no_effort` accept. `thinking_switch`: it has DeepSeek's field
    `thinking`, thinks by default, and cannot be forced to call a tool while thinking.
    `thinking_field` is the field of an assistant message that must return its thinking together
    with tool calls. `thought_signatures`: calls carry Gemini's signatures.

    Messages: `developer_role`: it supports that role. `system_first`: it accepts one system
    message, as the first message. `assistant_after_tools`: it rejects a user message directly after
    a tool message. `part_types` are the only kinds of content parts that it accepts (None: any).
    `document_url`: it has Mistral's document part instead of OpenAI's `file`. `empty_assistant`: an
    assistant message may have neither content nor calls. `prefix_message` and
    `continue_final_message` are ways to request the continuation of a partial answer.

    Tools and answers: `tool_ids`; `max_tool_name_length` (of letters, digits, `_` and `-`; None:
    any name); `tool_types` are the only kinds of tools that it accepts (None: any); `one_answer`: n
    must be 1; `stream_usage`: streams report usage on request; `json_schema`: every model supports
    it, not only those with the capability; `strict_limits`. `reports_cost`: it reports its bill in
    `usage`; this is trusted for no other vendor, because an answer may repeat the caller's text.
    `holds_threads`: it stores conversations. `unreachable_hint` tells an operator what to do if no
    connection to it can be established.
    """

    fields: frozenset[str] | None = None
    refused_fields: frozenset[str] = frozenset()
    message_fields: frozenset[str] | None = None
    refused_message_fields: frozenset[str] = frozenset()
    field_names: tuple[tuple[str, str], ...] = ()
    field_values: tuple[tuple[str, frozenset[str]], ...] = ()
    embedding_fields: frozenset[str] | None = None
    embedding_names: tuple[tuple[str, str], ...] = ()
    limit_field: str = "max_tokens"
    max_temperature: float | None = None
    max_stops: int | None = None
    reasoning_models: str = NO_MODEL
    reasoning_refuses: frozenset[str] = frozenset()
    tools_end_reasoning: str = NO_MODEL
    refuses_parallel_tool_calls: str = NO_MODEL
    marks_cache: str = NO_MODEL
    efforts: tuple[str, ...] = ()
    knows_no_effort: str = NO_MODEL
    thinking_switch: bool = False
    thinking_field: str = ""
    thought_signatures: bool = False
    developer_role: bool = True
    system_first: bool = False
    assistant_after_tools: bool = False
    part_types: frozenset[str] | None = None
    document_url: bool = False
    empty_assistant: bool = True
    prefix_message: bool = False
    continue_final_message: bool = False
    tool_ids: ToolIds | None = None
    max_tool_name_length: int | None = None
    tool_types: frozenset[str] | None = None
    one_answer: bool = False
    stream_usage: bool = True
    json_schema: bool = True
    strict_limits: StrictLimits | None = None
    reports_cost: bool = False
    holds_threads: bool = False
    unreachable_hint: str = ""

    @cached_property
    def plain_fields(self) -> frozenset[str]:
        """The fields of ordinary requests that the vendor accepts with any value."""
        plain = _ORDINARY_FIELDS - self.refused_fields
        if self.fields is not None:
            plain &= self.fields | _ENVELOPE
        if self.max_temperature is not None:
            plain -= {"temperature"}
        if self.max_stops is not None:
            plain -= {"stop"}
        return plain - {name for name, _ in (*self.field_names, *self.field_values)}


ANY = Quirks()
"""A vendor that accepts everything."""


def words(text: str) -> frozenset[str]:
    """Splits a text into a set of words; used to write long lists of fields."""
    return frozenset(text.split())


@lru_cache(maxsize=1024)
def is_model(pattern: str, model_id: str) -> bool:
    """Returns whether a pattern of `Quirks` matches the model."""
    return re.search(pattern, model_id) is not None
