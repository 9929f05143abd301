"""Writes canonical requests for vendors of Anthropic Messages."""

from typing import Any

import pytest

from llm_routing.core.content import (
    ForeignPart,
    ForeignTool,
    ImagePart,
    Message,
    RefusalPart,
    Role,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolChoiceMode,
)
from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.types import LLMRequest, Source
from tests.formats.anthropic_messages.requests import (
    FORMAT,
    IMAGE,
    ask,
    assistant,
    parts,
    result,
    sent,
    target,
    user,
)


class TestFromCanonicalForm:
    def test_the_request_has_the_path_and_headers_of_the_api(self) -> None:
        wire = FORMAT.write_request(ask(), target())

        assert wire.path == "/v1/messages"
        assert wire.method == "POST"
        assert wire.headers["anthropic-version"] == "2023-06-01"
        assert wire.headers["content-type"] == "application/json"

    def test_a_plain_request_is_written(self) -> None:
        assert sent(ask(user("Hi"), stream=True, user="u-1", stop=("END",))) == (
            {
                "model": "claude-x",
                "max_tokens": 4096,
                "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
                "metadata": {"user_id": "u-1"},
                "stop_sequences": ["END"],
                "stream": True,
            },
            (),
        )

    @pytest.mark.parametrize(
        ("asked", "limit", "expected"),
        [
            (None, None, 4096),
            (None, 8000, 8000),
            (100, 8000, 100),
            (9000, 8000, 8000),
            (9, None, 9),
        ],
    )
    def test_max_tokens_is_within_the_models_limit(
        self, asked: int | None, limit: int | None, expected: int
    ) -> None:
        built, _ = sent(ask(max_tokens=asked), target(max_output_tokens=limit))

        assert built["max_tokens"] == expected

    def test_system_messages_are_moved_to_the_front(self) -> None:
        request = ask(
            Message(Role.SYSTEM, parts(("A", " "))),
            user("Hi"),
            Message(Role.SYSTEM, parts(("B",))),
            system_prompt="Route",
        )

        built, _ = sent(request)

        assert built["system"] == "Route\nA\nB"
        assert len(built["messages"]) == 1

    def test_turns_are_merged_and_tool_results_come_first(self) -> None:
        request = ask(
            user("Hi"),
            user("there"),
            assistant("Calling", ToolCallPart("call_1", "f", '{"a":1}')),
            assistant(ToolCallPart("call_2", "g", "")),
            user("meanwhile"),
            result("call_1", TextPart("1"), TextPart("")),
            result("call_2", is_error=True),
        )

        built, _ = sent(request)

        assert built["messages"] == [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Calling"},
                    {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
                    {"type": "tool_use", "id": "call_2", "name": "g", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "call_1",
                        "content": [{"type": "text", "text": "1"}],
                    },
                    {"type": "tool_result", "tool_use_id": "call_2", "is_error": True},
                    {"type": "text", "text": "meanwhile"},
                ],
            },
        ]

    def test_each_kind_of_part_is_written(self) -> None:
        document = {"type": "document", "source": {}}
        request = ask(
            user(
                ImagePart(data="aGk=", media_type="image/png"),
                ImagePart(url="https://x/y.png", detail="high"),
                ForeignPart("anthropic_messages", document),
            ),
            assistant(
                ThinkingPart("Hm", signature="sig"),
                ThinkingPart(redacted="xxx"),
                RefusalPart("I will not"),
            ),
        )

        built, ignored = sent(request)

        assert [message["content"] for message in built["messages"]] == [
            [
                {"type": "image", "source": IMAGE},
                {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
                document,
            ],
            [
                {"type": "thinking", "thinking": "Hm", "signature": "sig"},
                {"type": "redacted_thinking", "data": "xxx"},
                {"type": "text", "text": "I will not"},
            ],
        ]
        assert ignored == ()

    def test_parts_that_the_vendor_would_refuse_are_left_out(self) -> None:
        request = ask(
            user("Hi", "", " \n"),
            assistant(ThinkingPart("unsigned")),
            Message(Role.USER, parts(("there",)), name="bob"),
            stop=("\n", "END"),
        )

        built, ignored = sent(request)

        assert built["messages"] == [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}],
            }
        ]
        assert built["stop_sequences"] == ["END"]
        assert ignored == ("thinking", "name", "stop")

    def test_call_ids_are_fitted_and_match_their_results(self) -> None:
        request = ask(
            user("Hi"),
            assistant(ToolCallPart("call:1/ü", "f", "{}"), ToolCallPart("ok_-9", "f", "{}")),
            result("call:1/ü"),
            result("ok_-9"),
        )

        _, calls, results = sent(request)[0]["messages"]

        first, second = (block["id"] for block in calls["content"])
        assert first.startswith("toolu_")
        assert first[6:].isalnum()
        assert second == "ok_-9"
        assert [block["tool_use_id"] for block in results["content"]] == [first, second]

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ("", {}),
            ('{"a":[1]}', {"a": [1]}),
            ('{"a":', {"INVALID_JSON": '{"a":'}),
            ("[1]", {"INVALID_JSON": "[1]"}),
        ],
    )
    def test_tool_arguments_become_an_object(self, arguments: str, expected: Any) -> None:
        request = ask(user("Hi"), assistant(ToolCallPart("c", "f", arguments)))

        assert sent(request)[0]["messages"][1]["content"][0]["input"] == expected

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({}, None),
            ({"tool_choice": ToolChoice(ToolChoiceMode.AUTO)}, {"type": "auto"}),
            ({"tool_choice": ToolChoice(ToolChoiceMode.REQUIRED)}, {"type": "any"}),
            (
                {"tool_choice": ToolChoice(ToolChoiceMode.NAMED, "f")},
                {"type": "tool", "name": "f"},
            ),
            (
                {"tool_choice": ToolChoice(ToolChoiceMode.NONE), "parallel_tool_calls": False},
                {"type": "none"},
            ),
            (
                {"parallel_tool_calls": False},
                {"type": "auto", "disable_parallel_tool_use": True},
            ),
            (
                {
                    "tool_choice": ToolChoice(ToolChoiceMode.REQUIRED),
                    "parallel_tool_calls": False,
                },
                {"type": "any", "disable_parallel_tool_use": True},
            ),
            ({"parallel_tool_calls": True}, None),
        ],
    )
    def test_the_tool_choice_is_written(self, fields: dict[str, Any], expected: Any) -> None:
        assert sent(ask(tools=(Tool("f"),), **fields))[0].get("tool_choice") == expected

    def test_a_tool_choice_without_tools_is_not_sent(self) -> None:
        assert "tool_choice" not in sent(ask(tool_choice=ToolChoice(ToolChoiceMode.AUTO)))[0]

    def test_tools_are_written_with_a_supported_schema(self) -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
        search = {"type": "web_search_20250305", "name": "web_search"}
        request = ask(
            tools=(
                Tool("f", "d", schema),
                Tool("g"),
                Tool("h", parameters=schema, strict=True),
                ForeignTool("anthropic_messages", search),
            )
        )

        assert sent(request)[0]["tools"] == [
            {"name": "f", "description": "d", "input_schema": schema},
            {"name": "g", "input_schema": {"type": "object", "properties": {}}},
            {
                "name": "h",
                "strict": True,
                "input_schema": {
                    "type": "object",
                    "properties": {"n": {"type": "integer", "description": '{"minimum":1}'}},
                    "additionalProperties": False,
                },
            },
            search,
        ]

    @pytest.mark.parametrize(
        "request_",
        [
            ask(n=2),
            ask(user(ForeignPart("openai_chat", {"type": "input_audio"}))),
            ask(tools=(ForeignTool("openai_chat", {"type": "custom"}),)),
            ask(user("")),
            ask(Message(Role.SYSTEM, (TextPart(" "),))),
            ask(Message(Role.SYSTEM, (ImagePart(url="https://x"),)), user("Hi")),
            ask(user(ImagePart(data="aGk="))),
            ask(user("Hi"), extra={"x": object()}),
        ],
    )
    def test_unsupported_requests_are_refused(self, request_: LLMRequest) -> None:
        with pytest.raises(UnsupportedRequest):
            FORMAT.write_request(request_, target())

    def test_optional_fields_are_left_out_and_named(self) -> None:
        built, ignored = sent(
            ask(
                seed=0,
                logprobs=True,
                top_logprobs=2,
                frequency_penalty=0.5,
                presence_penalty=0.5,
            )
        )

        assert built.keys() == {"model", "max_tokens", "messages"}
        assert ignored == (
            "seed",
            "logprobs",
            "top_logprobs",
            "frequency_penalty",
            "presence_penalty",
        )

    def test_disabled_features_are_not_named(self) -> None:
        assert sent(ask(frequency_penalty=0.0, presence_penalty=0.0, top_logprobs=0))[1] == ()

    @pytest.mark.parametrize(
        ("fields", "expected", "ignored"),
        [
            ({"temperature": 0.3}, {"temperature": 0.3}, ()),
            ({"temperature": 1.5}, {"temperature": 1.0}, ("temperature",)),
            ({"top_p": 0.3, "top_k": 5}, {"top_p": 0.3, "top_k": 5}, ()),
            ({"temperature": 0.3, "top_p": 0.5}, {"temperature": 0.3}, ("top_p",)),
        ],
    )
    def test_sampling_parameters_are_written(
        self, fields: dict[str, Any], expected: dict[str, Any], ignored: tuple[str, ...]
    ) -> None:
        built, named = sent(ask(**fields))

        assert {
            name: built[name] for name in ("temperature", "top_p", "top_k") if name in built
        } == (expected)
        assert named == ignored

    def test_sampling_is_left_out_for_a_model_without_it(self) -> None:
        built, ignored = sent(ask(temperature=0.3, top_k=5), target("no_sampling"))

        assert built.keys() == {"model", "max_tokens", "messages"}
        assert ignored == ("temperature", "top_k")

    def test_route_defaults_are_left_out_without_being_named(self) -> None:
        source = Source("openai_chat", {"top_p": 0.5})
        request = ask(temperature=0.3, top_p=0.5, source=source)

        assert sent(request, target("no_sampling"))[1] == ("top_p",)

    def test_extra_fields_are_sent_unchanged(self) -> None:
        assert sent(ask(extra={"service_tier": "auto"}))[0]["service_tier"] == "auto"
