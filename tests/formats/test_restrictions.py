"""Fields that a caller may use only if the operator allows them."""

from typing import Any

import pytest

from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.types import LLMRequest
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from llm_routing.formats.openai_embeddings.wire_format import OpenAIEmbeddings
from llm_routing.formats.restrictions import RESTRICTED, without_restricted_fields

HI = [{"role": "user", "content": "Hi"}]
NOTHING: frozenset[str] = frozenset()
FUNCTION = {"type": "function", "function": {"name": "f"}}


def asked(**body: Any) -> LLMRequest:
    return OpenAIChat().read_request({"model": "m", "messages": HI, **body})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fallbacks", [{"model": "a"}]),
        ("fallbacks", "default"),
        ("models", ["a/b", "c/d"]),
        ("route", "fallback"),
        ("service_tier", "flex"),
        ("service_tier", "priority"),
        ("speed", "fast"),
        ("transforms", ["middle-out"]),
    ],
)
def test_optional_restricted_fields_are_left_out_and_named(field: str, value: Any) -> None:
    request = asked(**{field: value}, seed=1)
    left, names = without_restricted_fields(request, NOTHING)
    assert names == (field,)
    assert left.source is not None
    assert left.source.body == {"model": "m", "messages": HI, "seed": 1}
    assert without_restricted_fields(request, frozenset({field})) == (request, ())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("billing_policy", {"type": "billing_policy", "bill_to": "user_profile"}),
        ("compound_custom", {"models": {"answering_model": "x"}}),
        ("provider", {"order": ["x"]}),
        ("plugins", [{"id": "web"}]),
        ("preset", "x"),
        ("web_search_options", {}),
        ("search_parameters", {"mode": "on"}),
        ("mcp_servers", [{"type": "url", "url": "https://mcp.test", "name": "x"}]),
        ("inference_geo", "us"),
    ],
)
def test_essential_restricted_fields_are_refused_with_the_way_to_allow_them(
    field: str, value: Any
) -> None:
    request = asked(**{field: value})
    with pytest.raises(UnsupportedRequest, match=f"add {field} to the allowed fields of a route"):
        without_restricted_fields(request, NOTHING)
    assert without_restricted_fields(request, frozenset({field})) == (request, ())


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "web_search"},
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "code_execution_20250825", "name": "code_execution"},
        {"type": "mcp_toolset", "mcp_server_name": "x"},
        {"type": "openrouter:web_search"},
    ],
)
def test_a_tool_that_the_vendor_runs_is_refused(tool: Any) -> None:
    body = {"model": "m", "messages": HI, "max_tokens": 9, "tools": [tool]}
    request = AnthropicMessages().read_request(body)
    with pytest.raises(UnsupportedRequest, match="server_tools"):
        without_restricted_fields(request, NOTHING)
    assert without_restricted_fields(request, frozenset({"server_tools"})) == (request, ())


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"service_tier": "auto"},
        {"service_tier": "default"},
        {"service_tier": "standard_only"},
        {"service_tier": None, "models": None, "provider": None, "transforms": []},
        {"speed": "standard", "inference_geo": "global"},
        {"tools": [FUNCTION, {"type": "custom", "custom": {"name": "c"}}]},
        {"store": True, "metadata": {"a": "b"}, "prompt_cache_key": "k", "verbosity": "low"},
        {"reasoning_effort": "low", "n": 2, "prediction": {"type": "content", "content": "x"}},
    ],
)
def test_other_fields_are_allowed(body: Any) -> None:
    request = asked(**body)
    assert without_restricted_fields(request, NOTHING) == (request, ())


def test_anthropics_client_side_tools_are_allowed() -> None:
    tools = [
        {"name": "plain", "input_schema": {"type": "object"}},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "memory_20250818", "name": "memory"},
        {"type": "computer_20250124", "name": "computer"},
        {"type": "tool_search_tool_bm25_20251119", "name": "search"},
    ]
    body = {"model": "m", "messages": HI, "max_tokens": 9, "tools": tools}
    request = AnthropicMessages().read_request(body)
    assert without_restricted_fields(request, NOTHING) == (request, ())


def test_restrictions_apply_to_embeddings_but_not_to_in_process_callers() -> None:
    body = {"model": "m", "input": "Hi", "provider": {"order": ["x"]}}
    with pytest.raises(UnsupportedRequest):
        without_restricted_fields(OpenAIEmbeddings().read_embedding_request(body), NOTHING)
    own = LLMRequest(asked().messages, extra={"provider": {"order": ["x"]}})
    assert without_restricted_fields(own, NOTHING) == (own, ())


def test_every_allowable_name_is_a_restricted_field() -> None:
    assert "server_tools" in RESTRICTED
    assert len(set(RESTRICTED)) == len(RESTRICTED)
