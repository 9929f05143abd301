"""Reads requests of callers of OpenAI Chat Completions, and names invalid fields."""

from typing import Any

import pytest
from msgspec.structs import replace

from llm_routing.core.content import (
    AnswerFormat,
    ForeignTool,
    Message,
    Reasoning,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolChoice,
    ToolChoiceMode,
)
from llm_routing.core.types import LLMRequest
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from tests.formats.openai_chat.request_bodies import parse, refused_field

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "d", "parameters": SCHEMA, "strict": True},
}


TIME = {"type": "function", "function": {"name": "time"}}


SEARCH = {"type": "custom", "custom": {"name": "search"}}


def test_absent_fields_stay_unset() -> None:
    request = parse()
    assert request == LLMRequest(
        messages=(Message(Role.USER, (TextPart("Hi"),)),), model="m", source=request.source
    )


def test_the_body_is_kept_as_its_source() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "new_field": {"a": 1}}
    source = OpenAIChat().read_request(body).source
    assert source is not None
    assert (source.format, source.body) == ("openai_chat", body)


def test_every_setting_is_read() -> None:
    request = parse(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        max_tokens=100,
        stop=["a", "b"],
        seed=7,
        n=3,
        frequency_penalty=-1,
        presence_penalty=1.5,
        logprobs=True,
        top_logprobs=5,
        parallel_tool_calls=False,
        user="u-1",
        stream=True,
        stream_options={"include_usage": True},
        metadata={"team": "blue"},
    )
    assert (request.temperature, request.top_p, request.top_k) == (0.5, 0.9, 40)
    assert (request.max_tokens, request.stop, request.seed, request.n) == (100, ("a", "b"), 7, 3)
    assert (request.frequency_penalty, request.presence_penalty) == (-1, 1.5)
    assert (request.logprobs, request.top_logprobs) == (True, 5)
    assert request.parallel_tool_calls is False
    assert request.user == "u-1"
    assert (request.stream, request.include_usage) == (True, True)
    assert request.metadata == {"team": "blue"}


def test_stream_usage_is_included_on_request() -> None:
    assert not parse(stream=True).include_usage
    assert not parse(stream=True, stream_options={}).include_usage


def test_the_newer_name_of_a_field_takes_precedence() -> None:
    assert parse(max_tokens=1, max_completion_tokens=2).max_tokens == 2
    assert parse(max_completion_tokens=2).max_tokens == 2
    assert parse(safety_identifier="s").user == "s"


def test_null_counts_as_absent() -> None:
    names = [
        "temperature",
        "top_p",
        "top_k",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "seed",
        "n",
        "frequency_penalty",
        "presence_penalty",
        "logprobs",
        "top_logprobs",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "reasoning_effort",
        "reasoning",
        "user",
        "safety_identifier",
        "stream",
        "stream_options",
        "metadata",
    ]
    assert replace(parse(**dict.fromkeys(names)), source=None) == replace(parse(), source=None)


def test_stop_may_be_one_string() -> None:
    assert parse(stop="END").stop == ("END",)
    assert parse(stop=None).stop == ()


def test_vllms_top_k_of_minus_one_means_no_limit() -> None:
    assert parse(top_k=-1).top_k is None


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 3}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["Hi"]}, "messages.0"),
        ({"messages": [{"content": "Hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "narrator", "content": "Hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "function", "content": "Hi"}]}, "messages.0.name"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "tool", "tool_call_id": "c"}]}, "messages.0.content"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"stop": 3}, "stop"),
        ({"stop": ["a", 3]}, "stop.1"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": True}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"tools": [{"function": {"name": "f"}}]}, "tools.0.type"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools.0.function.name"),
        ({"tool_choice": "some"}, "tool_choice"),
        ({"tool_choice": {"type": "allowed"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format.json_schema.name",
        ),
        ({"reasoning_effort": 3}, "reasoning_effort"),
        ({"reasoning": {"max_tokens": 0}}, "reasoning.max_tokens"),
        ({"functions": ["f"]}, "functions.0"),
    ],
)
def test_invalid_fields_are_named_by_their_path(fields: dict[str, Any], path: str) -> None:
    assert refused_field(**fields) == path


def test_deprecated_function_fields_may_be_null() -> None:
    turn = {"role": "assistant", "content": "Hi", "function_call": None, "audio": None}
    assert parse(functions=None, messages=[turn]).messages[0].text == "Hi"


def test_tools_are_functions_or_foreign_tools() -> None:
    assert parse(tools=[WEATHER, TIME, SEARCH]).tools == (
        Tool("weather", "d", SCHEMA, strict=True),
        Tool("time"),
        ForeignTool("openai_chat", SEARCH),
    )


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (None, None),
        ("auto", ToolChoice(ToolChoiceMode.AUTO)),
        ("none", ToolChoice(ToolChoiceMode.NONE)),
        ("required", ToolChoice(ToolChoiceMode.REQUIRED)),
        ("any", ToolChoice(ToolChoiceMode.REQUIRED)),
        (
            {"type": "function", "function": {"name": "weather"}},
            ToolChoice(ToolChoiceMode.NAMED, "weather"),
        ),
        (
            {"type": "custom", "custom": {"name": "search"}},
            ToolChoice(ToolChoiceMode.NAMED, "search"),
        ),
    ],
)
def test_the_tool_choice_is_read(said: Any, meant: ToolChoice | None) -> None:
    request = parse(tools=[WEATHER, SEARCH], tool_choice=said)
    assert request.tool_choice == meant
    assert len(request.tools) == 2


def test_tools_that_are_not_allowed_are_left_out() -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "time"}}]}
    request = parse(
        tools=[WEATHER, TIME, SEARCH],
        tool_choice={"type": "allowed_tools", "allowed_tools": allowed},
    )
    assert request.tools == (Tool("time"), ForeignTool("openai_chat", SEARCH))
    assert request.tool_choice == ToolChoice(ToolChoiceMode.REQUIRED)


def test_allowed_tools_can_have_mode_auto() -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"tools": []}}
    assert parse(tool_choice=choice).tool_choice == ToolChoice(ToolChoiceMode.AUTO)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"type": "text"}, ResponseFormat(AnswerFormat.TEXT)),
        ({"type": "json_object"}, ResponseFormat(AnswerFormat.JSON_OBJECT)),
        (
            {
                "type": "json_schema",
                "json_schema": {
                    "name": "city",
                    "schema": SCHEMA,
                    "strict": True,
                    "description": "d",
                },
            },
            ResponseFormat(AnswerFormat.JSON_SCHEMA, "city", SCHEMA, True, "d"),
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "any"}},
            ResponseFormat(AnswerFormat.JSON_SCHEMA, "any"),
        ),
    ],
)
def test_the_response_format_is_read(said: Any, meant: ResponseFormat) -> None:
    assert parse(response_format=said).response_format == meant


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({}, None),
        ({"reasoning_effort": "high"}, Reasoning(effort="high")),
        ({"reasoning_effort": "none"}, Reasoning(enabled=False)),
        ({"reasoning": {"effort": "low"}}, Reasoning(effort="low")),
        ({"reasoning": {"max_tokens": 2000}}, Reasoning(budget_tokens=2000)),
        ({"reasoning": {"enabled": True}}, Reasoning()),
        ({"reasoning": {"enabled": False}}, Reasoning(enabled=False)),
        ({"reasoning": {"effort": "none"}}, Reasoning(enabled=False)),
        ({"reasoning": "somebody's own"}, None),
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, Reasoning(effort="low")),
    ],
)
def test_reasoning_settings_are_read(fields: dict[str, Any], meant: Reasoning | None) -> None:
    assert parse(**fields).reasoning == meant


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, Reasoning(budget_tokens=1024)),
        ({"type": "adaptive"}, Reasoning()),
        ({"type": "disabled"}, Reasoning(enabled=False)),
        ("much", None),
    ],
)
def test_thinking_fields_of_other_vendors_are_read(
    thinking: Any, expected: Reasoning | None
) -> None:
    assert parse(thinking=thinking).reasoning == expected
