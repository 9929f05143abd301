"""What callers of OpenAI Chat Completions may send, and how a mistake is named."""

import copy
from typing import Any

import pytest
from msgspec.structs import replace

from llm_routing.core.content import (
    AnswerFormat,
    ForeignPart,
    ForeignTool,
    ImagePart,
    Message,
    Part,
    Reasoning,
    RefusalPart,
    ResponseFormat,
    Role,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolChoiceMode,
    ToolResultPart,
)
from llm_routing.core.errors import InvalidRequest
from llm_routing.core.types import LLMRequest
from llm_routing.formats.openai_chat.wire_format import OpenAIChat

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "d", "parameters": SCHEMA, "strict": True},
}
TIME = {"type": "function", "function": {"name": "time"}}
SEARCH = {"type": "custom", "custom": {"name": "search"}}


def parse(**fields: Any) -> LLMRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    before = copy.deepcopy(body)
    request = OpenAIChat().read_request(body)
    assert body == before
    return request


def parse_message(**message: Any) -> Message:
    (read,) = parse(messages=[message]).messages
    return read


def refused_field(**fields: Any) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    return caught.value.field


def test_a_small_request_says_nothing_it_was_not_told() -> None:
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


def test_usage_in_a_stream_is_for_those_who_ask() -> None:
    assert not parse(stream=True).include_usage
    assert not parse(stream=True, stream_options={}).include_usage


def test_the_newer_name_of_a_field_counts() -> None:
    assert parse(max_tokens=1, max_completion_tokens=2).max_tokens == 2
    assert parse(max_completion_tokens=2).max_tokens == 2
    assert parse(safety_identifier="s").user == "s"


def test_null_is_as_good_as_nothing() -> None:
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


def test_no_limit_in_the_words_of_vllm_is_no_top_k() -> None:
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
        ({"tool_choice": "any"}, "tool_choice"),
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
def test_a_mistake_is_named_by_its_path(fields: dict[str, Any], path: str) -> None:
    assert refused_field(**fields) == path


def test_null_fields_of_the_old_functions_are_no_mistake() -> None:
    turn = {"role": "assistant", "content": "Hi", "function_call": None, "audio": None}
    assert parse(functions=None, messages=[turn]).messages[0].text == "Hi"


@pytest.mark.parametrize("role", ["system", "developer"])
def test_the_developer_speaks_as_the_system(role: str) -> None:
    assert parse_message(role=role, content="Be brief") == Message(
        Role.SYSTEM, (TextPart("Be brief"),)
    )


def test_a_users_parts_are_read_in_order() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}
    file = {"type": "file", "file": {"file_id": "f-1"}}
    message = parse_message(
        role="user",
        name="ada",
        content=[
            {"type": "text", "text": "Look"},
            {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
            {"type": "image_url", "image_url": "https://x/z.png"},
            audio,
            file,
        ],
    )
    assert message.name == "ada"
    assert message.content == (
        TextPart("Look"),
        ImagePart(url="https://x/y.png", detail="low"),
        ImagePart(data="iVBO", media_type="image/png"),
        ImagePart(url="https://x/z.png"),
        ForeignPart("openai_chat", audio),
        ForeignPart("openai_chat", file),
    )


@pytest.mark.parametrize("url", ["data:image/png,abc", "data:;base64,abc", "data:image/png;base64"])
def test_an_inline_image_needs_its_type_and_base64(url: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    path = refused_field(messages=[{"role": "user", "content": content}])
    assert path == "messages.0.content.0.image_url.url"


def test_an_inline_image_may_carry_further_parameters() -> None:
    url = "data:image/svg+xml;charset=utf-8;base64,PHN2"
    message = parse_message(role="user", content=[{"type": "image_url", "image_url": {"url": url}}])
    assert message.content == (ImagePart(data="PHN2", media_type="image/svg+xml"),)


def test_the_assistants_turn_has_thoughts_words_refusal_and_calls() -> None:
    custom = {"id": "c2", "type": "custom", "custom": {"name": "search", "input": "x"}}
    message = parse_message(
        role="assistant",
        reasoning_content="hm",
        content=[{"type": "text", "text": "No"}, {"type": "refusal", "refusal": "never"}],
        refusal="sorry",
        audio={"id": "a-1"},
        tool_calls=[
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{"}},
            custom,
            {"id": "c3", "function": {"name": "g"}},
        ],
    )
    assert message.content == (
        ThinkingPart("hm"),
        TextPart("No"),
        RefusalPart("never"),
        RefusalPart("sorry"),
        ForeignPart("openai_chat", {"type": "audio", "audio": {"id": "a-1"}}),
        ToolCallPart("c1", "f", "{"),
        ForeignPart("openai_chat", custom),
        ToolCallPart("c3", "g", ""),
    )


def test_thoughts_have_another_name_at_openrouter() -> None:
    message = parse_message(role="assistant", content="x", reasoning="hm")
    assert message.content == (ThinkingPart("hm"), TextPart("x"))


def test_the_content_of_an_assistants_turn_may_be_missing() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = parse_message(role="assistant", content=None, tool_calls=calls)
    assert message.content == (ToolCallPart("c1", "f", "{}"),)
    assert parse_message(role="assistant").content == ()


def test_the_result_of_a_tool_names_its_call() -> None:
    content = [
        {"type": "text", "text": "21°"},
        {"type": "image_url", "image_url": {"url": "https://x/map.png"}},
    ]
    assert parse_message(role="tool", tool_call_id="c1", content="21°").content == (
        ToolResultPart("c1", (TextPart("21°"),)),
    )
    assert parse_message(role="tool", tool_call_id="c1", content=content).content == (
        ToolResultPart("c1", (TextPart("21°"), ImagePart(url="https://x/map.png"))),
    )


def test_the_result_of_a_tool_cannot_be_sound() -> None:
    content = [{"type": "input_audio", "input_audio": {}}]
    path = refused_field(messages=[{"role": "tool", "tool_call_id": "c", "content": content}])
    assert path == "messages.0.content"


def test_tools_are_functions_or_of_this_format_alone() -> None:
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
def test_the_choice_of_tools(said: Any, meant: ToolChoice | None) -> None:
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


def test_allowed_tools_may_be_left_to_the_model() -> None:
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
def test_the_shape_of_the_answer(said: Any, meant: ResponseFormat) -> None:
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
def test_how_much_to_think(fields: dict[str, Any], meant: Reasoning | None) -> None:
    assert parse(**fields).reasoning == meant


MARK = {"type": "ephemeral"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "user", "content": "a"}, TextPart("a", MARK)),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            RefusalPart("No.", MARK),
        ),
        (
            {"role": "tool", "tool_call_id": "c", "content": ""},
            ToolResultPart("c", (TextPart(""),), cache_control=MARK),
        ),
    ],
)
def test_the_mark_of_a_message_is_on_its_last_part(message: Any, expected: Part) -> None:
    assert parse_message(**message, cache_control=MARK).content[-1] == expected


@pytest.mark.parametrize(
    "content", [[], [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]]
)
def test_where_there_is_nothing_to_mark_there_is_no_mark(content: Any) -> None:
    message = parse_message(role="user", content=content, cache_control=MARK)

    assert len(message.content) == len(content)


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, Reasoning(budget_tokens=1024)),
        ({"type": "adaptive"}, Reasoning()),
        ({"type": "disabled"}, Reasoning(enabled=False)),
        ("much", None),
    ],
)
def test_the_word_of_others_for_thinking(thinking: Any, expected: Reasoning | None) -> None:
    assert parse(thinking=thinking).reasoning == expected
