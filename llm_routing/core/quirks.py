"""The differences between a vendor's API and its wire format, as data.

The rows are in `llm_routing.vendors`; the formats fit requests to them (`openai_chat_fit`,
`anthropic_fit`). The default takes everything.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

NO_MODEL = r"(?!)"
ANY_MODEL = r""


class ModelQuirk(StrEnum):
    """Features that one model refuses, as operators and catalogues state them.

    NO_SAMPLING: it refuses `temperature` and `top_p`, like OpenAI's reasoning models and Claude
    from Opus 4.7 and Sonnet 5 on, which refuse thinking budgets too.
    """

    NO_SAMPLING = "no_sampling"


@dataclass(frozen=True, slots=True)
class ToolIds:
    """The ids of tool calls: letters and digits, and the characters of `others`; at most
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


@dataclass(frozen=True, slots=True)
class Quirks:
    """The differences of one vendor.

    Fields: `fields` are the only ones of a request that it takes (None: any), `refused_fields`
    those it refuses; `message_fields` and `refused_message_fields` are the same for messages.
    `field_names` maps our names of fields to the vendor's, `field_values` gives the only strings
    that a field may hold. `embedding_fields` and `embedding_names` are `fields` and `field_names`
    of requests for embeddings. `limit_field` bounds the tokens of an answer. `max_temperature` and
    `max_stops` are upper limits.

    Models are told by patterns that are searched in the model id: `reasoning_models` says which of
    the models with the quirk NO_SAMPLING refuse `reasoning_refuses`, `tools_end_reasoning`
    which of them take tools only with the effort `none`, `refuses_parallel_tool_calls` which models
    refuse the field `parallel_tool_calls`, `marks_cache` which models take `cache_control`.

    Thinking: `efforts` are the named efforts it knows, least first (empty: any), besides `none`,
    which the models of `knows_no_effort` take. `thinking_switch`: it has DeepSeek's field
    `thinking`, and thinks unless told otherwise; no tool can be forced meanwhile. `thinking_field`
    is the field of an assistant's message in which its thinking has to come back beside tool calls.
    `thought_signatures`: calls carry Gemini's signatures.

    Messages: `developer_role`: it knows that role. `system_first`: it takes one system message, the
    first of all. `assistant_after_tools`: it takes no user's message straight after a tool's.
    `part_types` are the only kinds of content parts it takes (None: any). `document_url`: it has
    Mistral's part for documents in place of OpenAI's `file`. `empty_assistant`: an assistant's
    message may have neither content nor calls. `prefix_message` and `continue_final_message` are
    ways to ask for the end of an answer begun.

    Tools and answers: `tool_ids`; `max_tool_name_length` (of letters, digits, `_` and `-`; None:
    any name); `tool_types` are the only kinds of tools it takes (None: any); `one_answer`: n must
    be 1; `stream_usage`: streams give usage if asked; `json_schema`: every model takes it, not only
    those with the capability; `strict_limits`. `reports_cost`: it states in `usage` what it bills;
    no other vendor is believed, because an answer may repeat what a caller wrote. `holds_threads`:
    it holds conversations.
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


ANY = Quirks()
"""A vendor that takes everything."""


def words(text: str) -> frozenset[str]:
    """Splits a text into a set of words; used to write long lists of fields."""
    return frozenset(text.split())


@lru_cache(maxsize=1024)
def is_model(pattern: str, model_id: str) -> bool:
    """Whether a pattern of `Quirks` matches the model."""
    return re.search(pattern, model_id) is not None
