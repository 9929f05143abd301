"""Reads complete answers of vendors of OpenAI Chat Completions."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from llm_routing.core.content import (
    ForeignPart,
    Part,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from llm_routing.core.errors import (
    ContentFiltered,
    MalformedAnswer,
    RateLimited,
    ServerFailed,
    UpstreamOverloaded,
)
from llm_routing.core.types import (
    Choice,
    Completion,
    FinishReason,
    Usage,
)
from llm_routing.formats.base import AnswerDefaults
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from tests.formats.openai_chat.answers import answer

CUSTOM = {"id": "c", "type": "custom", "custom": {"name": "s", "input": ""}}


def parse(**fields: Any) -> Completion:
    return OpenAIChat().read_response(answer(**fields))


def choice_of(message: dict[str, Any], finish_reason: Any = "stop", **fields: Any) -> Choice:
    (choice,) = parse(
        choices=[{"index": 0, "message": message, "finish_reason": finish_reason, **fields}]
    ).choices
    return choice


def call(arguments: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "arguments": arguments}, **fields}


def test_an_answer_is_read_and_its_bytes_kept() -> None:
    body = answer(usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
    assert OpenAIChat().read_response(body) == Completion(
        id="chatcmpl-1",
        model="m",
        choices=(Choice((TextPart("Hi"),), FinishReason.STOP),),
        usage=Usage(3, 2),
        format="openai_chat",
        raw=body,
    )


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": None}, ()),
        ({"content": ""}, ()),
        ({"content": None, "refusal": "no"}, (RefusalPart("no"),)),
        ({"content": "a", "reasoning_content": "t"}, (ThinkingPart("t"), TextPart("a"))),
        ({"content": "a", "reasoning": "t"}, (ThinkingPart("t"), TextPart("a"))),
        ({"content": "a", "reasoning": {"x": 1}}, (TextPart("a"),)),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]},
                    {"type": "text", "text": "a"},
                    {"type": "reference", "reference_ids": [1]},
                    {"type": "text", "text": "b"},
                ]
            },
            (ThinkingPart("t"), TextPart("ab")),
        ),
        (
            {"content": "a", "tool_calls": [call('{"x":1}', id="c1"), call({"x": 1}, id="c2")]},
            (TextPart("a"), ToolCallPart("c1", "f", '{"x":1}'), ToolCallPart("c2", "f", '{"x":1}')),
        ),
        ({"tool_calls": None}, ()),
        ({"tool_calls": [None, call("{}", id="c1")]}, (ToolCallPart("c1", "f", "{}"),)),
        (
            {"content": ["a", None, {"type": "thinking", "thinking": "t"}]},
            (ThinkingPart("t"), TextPart("a")),
        ),
        (
            {"tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "s"}}]},
            (ForeignPart("openai_chat", CUSTOM),),
        ),
    ],
)
def test_all_parts_of_an_answer_are_read(message: dict[str, Any], parts: tuple[Part, ...]) -> None:
    assert choice_of(message).content == parts


@pytest.mark.parametrize(
    "message",
    [
        {"tool_calls": [{"id": "c1", "type": "function"}]},
        {"tool_calls": [{"id": "c1", "function": None}]},
        {"tool_calls": [{"id": "c1", "function": {"arguments": "{}"}}]},
        {"tool_calls": [{"id": "c1", "function": {"name": "", "arguments": "{}"}}]},
        {"tool_calls": [call("{}", id="c1"), {}]},
        {"tool_calls": [{"id": "c1", "type": "custom"}]},
        {"function_call": {"arguments": "{}"}},
    ],
)
def test_a_tool_call_without_a_name_is_malformed(message: dict[str, Any]) -> None:
    """OpenAI's clients require a function and its name; nobody can execute a call named ""."""
    with pytest.raises(MalformedAnswer, match="a tool call without a name"):
        choice_of({"content": None, **message})


@pytest.mark.parametrize("part", [{"type": "text"}, {"type": "text", "text": None}])
def test_a_text_part_without_text_is_malformed(part: dict[str, Any]) -> None:
    with pytest.raises(MalformedAnswer, match="a part of the content"):
        choice_of({"content": [{"type": "text", "text": "a"}, part]})


def test_a_deprecated_function_call_is_a_tool_call() -> None:
    message = {"content": None, "function_call": {"name": "f", "arguments": {"x": 1}}}
    choice = choice_of(message, "function_call")
    (called,) = choice.tool_calls
    assert (called.name, called.arguments) == ("f", '{"x":1}')
    assert choice.finish_reason is FinishReason.TOOL_CALLS


def test_an_incomplete_answer_is_completed_for_strict_clients() -> None:
    body = json.dumps(
        {
            "choices": [
                {
                    "message": {
                        "content": [{"type": "text", "text": "a \ud83d b"}],
                        "tool_calls": [{"function": {"name": "f", "arguments": {"x": "\ud83d"}}}],
                    }
                }
            ],
            "usage": [],
        }
    ).encode()
    completion = OpenAIChat().read_response(
        body, AnswerDefaults("request-1", 1_700_000_000, "model-1")
    )
    read = ChatCompletion.model_validate_json(completion.raw, strict=True)
    assert (read.object, read.created, read.model) == ("chat.completion", 1_700_000_000, "model-1")
    (choice,) = read.choices
    assert (choice.index, choice.finish_reason) == (0, "stop")
    assert (choice.message.role, choice.message.content) == ("assistant", "a \ufffd b")
    assert choice.message.tool_calls is not None
    called = choice.message.tool_calls[0]
    assert called.type == "function"
    assert called.id.startswith("call_")
    assert called.function.arguments == '{"x":"\ufffd"}'


@pytest.mark.parametrize(
    ("said", "told"), [("MAX_TOKENS", "length"), ("eos", "stop"), ("", "stop")]
)
def test_finish_reasons_of_other_vendors_are_replaced_by_openais(said: str, told: str) -> None:
    message = {"role": "assistant", "content": "a"}
    raw = parse(choices=[{"index": 0, "message": message, "finish_reason": said}]).raw
    assert json.loads(raw)["choices"][0]["finish_reason"] == told


def test_calls_without_an_id_get_one() -> None:
    message = {"tool_calls": [call("{}"), call("{}", id="")]}
    first, second = choice_of(message).tool_calls
    assert first.id.startswith("call_")
    assert first.id != second.id
    assert choice_of(message).tool_calls == (first, second)
    other = parse(id="chatcmpl-2", choices=[{"message": message}]).choices[0].tool_calls
    assert other[0].id != first.id


def test_choices_and_their_logprobs_are_read() -> None:
    logprobs = {"content": [{"token": "Hi", "logprob": -0.1}]}
    first, second, third = parse(
        choices=[
            {"index": 1, "message": {"content": "b"}, "logprobs": logprobs},
            {"index": 0, "message": {"content": "a"}, "logprobs": None},
            {"message": {"content": "c"}, "logprobs": []},
        ]
    ).choices
    assert (first.index, first.logprobs, first.finish_reason) == (1, logprobs, None)
    assert (second.index, second.logprobs) == (0, None)
    assert (third.index, third.logprobs) == (2, None)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("function_call", FinishReason.TOOL_CALLS),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("model_length", FinishReason.LENGTH),
        ("MAX_TOKENS", FinishReason.LENGTH),
        ("SAFETY", FinishReason.CONTENT_FILTER),
        ("recitation", FinishReason.CONTENT_FILTER),
        ("prohibited_content", FinishReason.CONTENT_FILTER),
        ("eos", FinishReason.STOP),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_finish_reasons_are_read(said: Any, meant: FinishReason | None) -> None:
    assert choice_of({"content": "a"}, said).finish_reason is meant


def test_finish_reason_stop_after_tool_calls_is_read_as_tool_calls() -> None:
    message = {"tool_calls": [call("{}", id="c")]}
    assert choice_of(message, "stop").finish_reason is FinishReason.TOOL_CALLS
    assert choice_of(message, "length").finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize(
    ("finish", "error"),
    [
        ("error", ServerFailed),
        ("abort", ServerFailed),
        ("insufficient_system_resource", UpstreamOverloaded),
    ],
)
def test_a_finish_reason_that_is_a_failure_raises_it(finish: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        choice_of({"content": "half"}, finish)


def test_an_error_beside_the_finish_reason_raises_it() -> None:
    with pytest.raises(RateLimited, match="slow down"):
        choice_of({"content": ""}, "error", error={"code": 429, "message": "slow down"})


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (None, None),
        ({}, None),
        ([], None),
        ({"prompt_tokens": 3, "completion_tokens": 2}, Usage(3, 2)),
        ({"prompt_tokens": "3", "completion_tokens": -2}, None),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 8,
                "total_tokens": 18,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
            Usage(10, 8, 4, 2, 5),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 2,
                "prompt_tokens_details": None,
                "completion_tokens_details": None,
                "prompt_cache_hit_tokens": 6,
            },
            Usage(10, 2, 6),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 2, "cached_tokens": 7}, Usage(10, 2, 7)),
        # More cached tokens than prompt tokens, more reasoning than output: not plausible.
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 2,
                "cached_tokens": 70,
                "completion_tokens_details": {"reasoning_tokens": 9},
            },
            Usage(10, 2, 10, 0, 2),
        ),
        # xAI and Gemini leave reasoning out of completion_tokens.
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 2,
                "total_tokens": 112,
                "completion_tokens_details": {"reasoning_tokens": 100},
            },
            Usage(10, 102, 0, 0, 100),
        ),
        ({"total_tokens": 5}, Usage(0, 5)),
    ],
)
def test_usage_is_read(usage: Any, counted: Usage | None) -> None:
    assert parse(usage=usage).usage == counted


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 10**19, "completion_tokens": 2, "total_tokens": 5},
        {"prompt_tokens": 3, "completion_tokens": -2, "total_tokens": 1},
        {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 2**31},
        {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": -1}},
        {"prompt_tokens": 1e30, "completion_tokens": 2},
    ],
)
def test_impossible_counts_are_ignored_and_not_relayed(usage: Any) -> None:
    completion = parse(usage=usage)
    assert completion.usage is None
    assert completion.raw is not None
    assert json.loads(completion.raw) == {**json.loads(answer()), "usage": None}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON"),
        (b'{"choices": [', "no JSON"),
        (b"  <html><body>key=sk-1234567890</body></html>", "a web page"),
        (b'"text"', "not a JSON object"),
        (answer(choices=[]), "no choices"),
        (answer(choices=None), "no choices"),
        (answer(choices=[{"index": 0}]), "no message"),
        (answer(choices=[{"index": 0}] * 129), "more than 128 choices"),
        (answer(choices=["x"]), "no message"),
    ],
)
def test_a_body_that_is_not_an_answer_is_described_without_quoting_it(
    body: bytes, said: str
) -> None:
    with pytest.raises(MalformedAnswer, match=said) as caught:
        OpenAIChat().read_response(body)
    assert "sk-" not in caught.value.message


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error": {"code": 429, "message": "slow"}}', RateLimited),
        (b'{"error": {"code": "429", "message": "slow"}}', RateLimited),
        (b'{"error": {"type": "server_error", "message": "x"}}', ServerFailed),
        (b'[{"error": {"code": 503, "status": "UNAVAILABLE"}}]', UpstreamOverloaded),
        (b'{"object": "error", "type": "InternalServerError", "message": "x"}', ServerFailed),
        (b'{"error": {"metadata": {"reasons": ["violence"]}}}', ContentFiltered),
        (b'{"error": "something"}', MalformedAnswer),
        (b'{"error": ["something"]}', MalformedAnswer),
        (b"[]", MalformedAnswer),
        (b'["something"]', MalformedAnswer),
    ],
)
def test_an_error_inside_a_200_raises_its_error(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        OpenAIChat().read_response(body)
    assert type(caught.value) is error


def test_a_null_error_is_ignored() -> None:
    assert parse(error=None).choices[0].text == "Hi"
