"""What callers of Anthropic Messages may write, and what its vendors are sent."""

import copy
import json
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
from llm_routing.core.errors import InvalidRequest, UnsupportedRequest
from llm_routing.core.routing_table import ModelSpec, ProviderSpec, Target
from llm_routing.core.types import LLMRequest, Source
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages

FORMAT = AnthropicMessages()
IMAGE = {"type": "base64", "media_type": "image/png", "data": "aGk="}


def target(*capabilities: str, max_output_tokens: int | None = None) -> Target:
    return Target(
        ProviderSpec("anthropic", "anthropic", "anthropic_messages", "https://api.anthropic.com"),
        ModelSpec(
            "anthropic",
            "claude-x",
            capabilities=frozenset(capabilities),
            max_output_tokens=max_output_tokens,
        ),
    )


def body(**fields: Any) -> dict[str, Any]:
    return {
        "model": "debugging:premium",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hi"}],
        **fields,
    }


def said(*messages: tuple[str, Any]) -> dict[str, Any]:
    return body(messages=[{"role": role, "content": content} for role, content in messages])


def ask(*messages: Message, **fields: Any) -> LLMRequest:
    return LLMRequest(messages=messages or (user("Hi"),), **fields)


def user(*content: str | Part) -> Message:
    return Message(Role.USER, parts(content))


def assistant(*content: str | Part) -> Message:
    return Message(Role.ASSISTANT, parts(content))


def parts(content: tuple[str | Part, ...]) -> tuple[Part, ...]:
    return tuple(TextPart(part) if isinstance(part, str) else part for part in content)


def result(call_id: str, *content: TextPart | ImagePart, is_error: bool = False) -> Message:
    return Message(Role.TOOL, (ToolResultPart(call_id, content, is_error),))


def sent(request: LLMRequest, to: Target | None = None) -> tuple[dict[str, Any], tuple[str, ...]]:
    wire = FORMAT.write_request(request, to or target())
    return json.loads(wire.body), wire.ignored


class TestWhatACallerWrites:
    def test_every_scalar_field_is_read(self) -> None:
        request = FORMAT.read_request(
            body(
                temperature=0.5,
                top_p=0.9,
                top_k=40,
                stop_sequences=["END", "STOP"],
                stream=True,
                metadata={"user_id": "u-1"},
            )
        )

        assert request.model == "debugging:premium"
        assert request.max_tokens == 100
        assert request.messages == (user("Hi"),)
        assert (request.temperature, request.top_p, request.top_k) == (0.5, 0.9, 40)
        assert request.stop == ("END", "STOP")
        assert request.stream
        assert request.include_usage
        assert request.user == "u-1"

    def test_what_is_not_said_stays_unsaid(self) -> None:
        request = FORMAT.read_request(body())

        assert not request.stream
        assert request.user is None
        assert request.tool_choice is None
        assert request.parallel_tool_calls is None
        assert request.response_format is None
        assert request.reasoning is None
        assert request.tools == ()

    def test_the_body_is_kept_as_source_and_not_touched(self) -> None:
        sent_body = body(system="Be brief.", future={"x": 1})
        before = copy.deepcopy(sent_body)

        request = FORMAT.read_request(sent_body)

        assert request.source == Source("anthropic_messages", before)
        assert sent_body == before

    @pytest.mark.parametrize(
        ("system", "expected"),
        [
            ("Be brief.", (TextPart("Be brief."),)),
            (
                [{"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}],
                (TextPart("A", {"type": "ephemeral"}),),
            ),
        ],
    )
    def test_a_system_prompt_is_the_first_message(self, system: Any, expected: Any) -> None:
        request = FORMAT.read_request(body(system=system))

        assert request.messages[0] == Message(Role.SYSTEM, expected)

    @pytest.mark.parametrize("system", ["", [], None, [{"type": "text", "text": ""}]])
    def test_an_empty_system_prompt_is_none(self, system: Any) -> None:
        assert FORMAT.read_request(body(system=system)).messages == (user("Hi"),)

    def test_a_system_message_may_stand_in_the_middle(self) -> None:
        request = FORMAT.read_request(said(("user", "Hi"), ("system", "Be brief.")))

        assert request.messages[1] == Message(Role.SYSTEM, (TextPart("Be brief."),))

    def test_blocks_of_every_kind_are_read(self) -> None:
        document = {"type": "document", "source": {"type": "file", "file_id": "f2"}}
        filed = {"type": "image", "source": {"type": "file", "file_id": "f1"}}
        request = FORMAT.read_request(
            said(
                (
                    "user",
                    [
                        {"type": "text", "text": "Look"},
                        {"type": "image", "source": IMAGE},
                        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
                        filed,
                        document,
                    ],
                ),
                (
                    "assistant",
                    [
                        {"type": "thinking", "thinking": "Hm", "signature": "sig"},
                        {"type": "redacted_thinking", "data": "xxx"},
                        {"type": "text", "text": "Let me see"},
                        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": "ü"}},
                    ],
                ),
            )
        )

        assert request.messages == (
            user(
                "Look",
                ImagePart(data="aGk=", media_type="image/png"),
                ImagePart(url="https://x/y.png"),
                ForeignPart("anthropic_messages", filed),
                ForeignPart("anthropic_messages", document),
            ),
            assistant(
                ThinkingPart("Hm", signature="sig"),
                ThinkingPart(redacted="xxx"),
                "Let me see",
                ToolCallPart("toolu_1", "f", '{"a":"ü"}'),
            ),
        )

    def test_results_of_tools_become_messages_of_their_own_in_order(self) -> None:
        request = FORMAT.read_request(
            said(
                (
                    "user",
                    [
                        {"type": "tool_result", "tool_use_id": "a", "content": "1"},
                        {"type": "text", "text": "and"},
                        {
                            "type": "tool_result",
                            "tool_use_id": "b",
                            "is_error": True,
                            "content": [
                                {"type": "text", "text": "2"},
                                {"type": "image", "source": IMAGE},
                            ],
                        },
                        {"type": "tool_result", "tool_use_id": "c"},
                        {"type": "text", "text": "then"},
                    ],
                )
            )
        )

        assert request.messages == (
            result("a", TextPart("1")),
            user("and"),
            result(
                "b", TextPart("2"), ImagePart(data="aGk=", media_type="image/png"), is_error=True
            ),
            result("c"),
            user("then"),
        )

    def test_results_alone_leave_no_empty_message(self) -> None:
        block = {"type": "tool_result", "tool_use_id": "a", "content": "1"}

        assert FORMAT.read_request(said(("user", [block]))).messages == (
            result("a", TextPart("1")),
        )

    def test_a_result_that_only_this_format_can_hold_is_foreign_as_a_whole(self) -> None:
        block = {
            "type": "tool_result",
            "tool_use_id": "a",
            "content": [{"type": "search_result", "title": "t"}],
        }

        request = FORMAT.read_request(said(("user", [block])))

        assert request.messages == (user(ForeignPart("anthropic_messages", block)),)

    def test_an_empty_user_message_stays_one(self) -> None:
        assert FORMAT.read_request(said(("user", []))).messages == (user(),)

    def test_tools_are_read_and_the_vendors_own_kept(self) -> None:
        schema = {"type": "object", "properties": {"q": {"type": "string"}}}
        search = {"type": "web_search_20250305", "name": "web_search"}
        request = FORMAT.read_request(
            body(
                tools=[
                    {"name": "f", "description": "d", "input_schema": schema, "strict": True},
                    {"type": "custom", "name": "g", "input_schema": {}},
                    search,
                ]
            )
        )

        assert request.tools == (
            Tool("f", "d", schema, True),
            Tool("g", None, {}, None),
            ForeignTool("anthropic_messages", search),
        )

    @pytest.mark.parametrize(
        ("choice", "expected", "parallel"),
        [
            ({"type": "auto"}, ToolChoice(ToolChoiceMode.AUTO), None),
            (
                {"type": "any", "disable_parallel_tool_use": True},
                ToolChoice(ToolChoiceMode.REQUIRED),
                False,
            ),
            (
                {"type": "tool", "name": "f", "disable_parallel_tool_use": False},
                ToolChoice(ToolChoiceMode.NAMED, "f"),
                True,
            ),
            ({"type": "none"}, ToolChoice(ToolChoiceMode.NONE), None),
        ],
    )
    def test_the_choice_of_tools_is_read(
        self, choice: dict[str, Any], expected: ToolChoice, parallel: bool | None
    ) -> None:
        request = FORMAT.read_request(body(tool_choice=choice))

        assert request.tool_choice == expected
        assert request.parallel_tool_calls is parallel

    @pytest.mark.parametrize(
        "fields",
        [
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            {"output_format": {"type": "json_schema", "schema": {"type": "object"}}},
            {
                "output_config": {"effort": "low"},
                "output_format": {"type": "json_schema", "schema": {"type": "object"}},
            },
        ],
    )
    def test_a_json_schema_is_read_under_its_new_name_and_its_old(
        self, fields: dict[str, Any]
    ) -> None:
        assert FORMAT.read_request(body(**fields)).response_format == ResponseFormat(
            AnswerFormat.JSON_SCHEMA, schema={"type": "object"}, strict=True
        )

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            (
                {"thinking": {"type": "enabled", "budget_tokens": 2048}},
                Reasoning(budget_tokens=2048),
            ),
            ({"thinking": {"type": "disabled"}}, Reasoning(enabled=False)),
            ({"thinking": {"type": "adaptive"}}, Reasoning()),
            ({"output_config": {"effort": "low"}}, Reasoning(effort="low")),
            (
                {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
                Reasoning(effort="max"),
            ),
            ({"output_config": {}}, None),
        ],
    )
    def test_thinking_and_effort_are_read(
        self, fields: dict[str, Any], expected: Reasoning | None
    ) -> None:
        assert FORMAT.read_request(body(**fields)).reasoning == expected

    @pytest.mark.parametrize(
        ("fields", "path"),
        [
            ({"model": None}, "model"),
            ({"max_tokens": None}, "max_tokens"),
            ({"max_tokens": -1}, "max_tokens"),
            ({"messages": []}, "messages"),
            ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
            ({"messages": [{"content": "x"}]}, "messages.0.role"),
            ({"messages": [{"role": "user"}]}, "messages.0.content"),
            ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content"),
            ({"messages": [{"role": "user", "content": ["x"]}]}, "messages.0.content.0"),
            ({"messages": [{"role": "user", "content": [{}]}]}, "messages.0.content.0.type"),
            (
                {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
                "messages.0.content.0.text",
            ),
            (
                {
                    "messages": [
                        {
                            "role": "user",
                            "content": [
                                {"type": "tool_use", "id": "a", "name": "f", "input": {}},
                            ],
                        }
                    ]
                },
                "messages.0.content",
            ),
            (
                {
                    "messages": [
                        {
                            "role": "assistant",
                            "content": [{"type": "tool_result", "tool_use_id": "a"}],
                        }
                    ]
                },
                "messages.0.content",
            ),
            ({"system": [{"type": "thinking", "thinking": "Hm"}]}, "system"),
            ({"temperature": 1.5}, "temperature"),
            ({"top_p": 2}, "top_p"),
            ({"tools": [{"name": "f"}]}, "tools.0.input_schema"),
            ({"tool_choice": {}}, "tool_choice.type"),
            ({"tool_choice": {"type": "all"}}, "tool_choice.type"),
            ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
            ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
            ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
            ({"output_config": {"format": {}}}, "output_config.format.type"),
            ({"output_format": {"type": "json_schema"}}, "output_format.schema"),
        ],
    )
    def test_what_is_wrong_is_named(self, fields: dict[str, Any], path: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            FORMAT.read_request(body(**fields))

        assert caught.value.field == path


class TestACallersOwnBody:
    def test_only_the_model_is_changed(self) -> None:
        original = body(
            system=[{"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}],
            future={"deep": [1, {"x": None}]},
            stream=True,
        )
        before = copy.deepcopy(original)

        built, ignored = sent(FORMAT.read_request(original))

        assert built == {**before, "model": "claude-x"}
        assert original == before
        assert ignored == ()

    def test_stream_is_what_the_request_says(self) -> None:
        request = FORMAT.read_request(body(stream=False))

        assert "stream" not in sent(request)[0]

    def test_what_a_route_adds_is_added(self) -> None:
        parsed = FORMAT.read_request(body())
        request = LLMRequest(
            parsed.messages,
            source=parsed.source,
            system_prompt="Be brief.",
            temperature=1.7,
            max_tokens=100,
            extra={"service_tier": "auto"},
        )

        built, _ = sent(request)

        assert built["system"] == "Be brief."
        assert built["temperature"] == 1.0
        assert built["service_tier"] == "auto"

    @pytest.mark.parametrize(
        "own", [{"thinking": {"type": "adaptive"}}, {"top_p": 0.5}, {"temperature": 0.2}]
    )
    def test_a_routes_temperature_gives_way_to_what_it_would_clash_with(
        self, own: dict[str, Any]
    ) -> None:
        parsed = FORMAT.read_request(body(**own))
        request = LLMRequest(parsed.messages, source=parsed.source, temperature=0.7)

        assert sent(request)[0].get("temperature") == own.get("temperature")

    def test_a_model_without_sampling_gets_none_and_the_caller_is_told(self) -> None:
        request = FORMAT.read_request(body(temperature=0.2, top_k=3))

        built, ignored = sent(request, target("no_sampling"))

        assert "temperature" not in built
        assert "top_k" not in built
        assert ignored == ("temperature", "top_k")

    def test_max_tokens_is_filled_in_where_it_is_missing(self) -> None:
        without = {key: value for key, value in body().items() if key != "max_tokens"}
        request = LLMRequest((user("Hi"),), source=Source("anthropic_messages", without))

        assert sent(request, target(max_output_tokens=64))[0]["max_tokens"] == 64

    def test_thinking_of_other_vendors_which_we_gave_unsigned_is_taken_out(self) -> None:
        unsigned = {"type": "thinking", "thinking": "Hm", "signature": ""}
        signed = {"type": "thinking", "thinking": "Hm", "signature": "sig"}
        text = {"type": "text", "text": "A"}
        original = said(
            ("user", "Hi"),
            ("assistant", [unsigned, signed, text]),
            ("assistant", [unsigned]),
            ("user", [text]),
            ("assistant", []),
        )
        before = copy.deepcopy(original)

        built, _ = sent(FORMAT.read_request(original))

        assert [message["content"] for message in built["messages"]] == [
            "Hi",
            [signed, text],
            [text],
            [],
        ]
        assert original == before

    def test_a_body_of_another_format_is_not_sent(self) -> None:
        request = ask(source=Source("openai_chat", {"model": "x", "future": 1}))

        assert "future" not in sent(request)[0]


class TestFromCanonicalForm:
    def test_the_request_goes_where_it_should(self) -> None:
        wire = FORMAT.write_request(ask(), target())

        assert wire.path == "/v1/messages"
        assert wire.method == "POST"
        assert wire.headers["anthropic-version"] == "2023-06-01"
        assert wire.headers["content-type"] == "application/json"

    def test_a_plain_question(self) -> None:
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
    def test_max_tokens_is_asked_for_within_the_models_limit(
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

    def test_turns_are_merged_and_results_of_tools_come_first(self) -> None:
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

    def test_parts_are_written_in_its_words(self) -> None:
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

    def test_what_the_vendor_would_refuse_is_left_out(self) -> None:
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

    def test_ids_of_calls_are_made_acceptable_and_stay_together(self) -> None:
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
    def test_arguments_become_an_object(self, arguments: str, expected: Any) -> None:
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
    def test_the_choice_of_tools(self, fields: dict[str, Any], expected: Any) -> None:
        assert sent(ask(tools=(Tool("f"),), **fields))[0].get("tool_choice") == expected

    def test_a_choice_without_tools_is_not_sent(self) -> None:
        assert "tool_choice" not in sent(ask(tool_choice=ToolChoice(ToolChoiceMode.AUTO)))[0]

    def test_tools_are_written_with_a_schema_the_vendor_takes(self) -> None:
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
    def test_what_cannot_be_said_is_refused(self, request_: LLMRequest) -> None:
        with pytest.raises(UnsupportedRequest):
            FORMAT.write_request(request_, target())

    def test_what_can_be_done_without_is_left_out_and_named(self) -> None:
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

    def test_what_is_off_anyway_is_not_named(self) -> None:
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
    def test_sampling(
        self, fields: dict[str, Any], expected: dict[str, Any], ignored: tuple[str, ...]
    ) -> None:
        built, named = sent(ask(**fields))

        assert {
            name: built[name] for name in ("temperature", "top_p", "top_k") if name in built
        } == (expected)
        assert named == ignored

    def test_a_model_without_sampling_gets_none(self) -> None:
        built, ignored = sent(ask(temperature=0.3, top_k=5), target("no_sampling"))

        assert built.keys() == {"model", "max_tokens", "messages"}
        assert ignored == ("temperature", "top_k")

    def test_what_only_the_route_set_is_left_out_without_a_mention(self) -> None:
        source = Source("openai_chat", {"top_p": 0.5})
        request = ask(temperature=0.3, top_p=0.5, source=source)

        assert sent(request, target("no_sampling"))[1] == ("top_p",)

    def test_extra_fields_are_sent_as_they_are(self) -> None:
        assert sent(ask(extra={"service_tier": "auto"}))[0]["service_tier"] == "auto"


HELD = ResponseFormat(AnswerFormat.JSON_SCHEMA, schema={"type": "object", "properties": {}})


class TestTheShapeOfTheAnswer:
    def test_a_json_schema_is_asked_for_in_the_vendors_own_way(self) -> None:
        wanted = ResponseFormat(
            AnswerFormat.JSON_SCHEMA,
            name="person",
            description="A person.",
            schema={"type": "object", "properties": {"name": {"type": "string"}}},
        )

        built, ignored = sent(ask(response_format=wanted), target("json_schema"))

        assert built["output_config"] == {
            "format": {
                "type": "json_schema",
                "schema": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}},
                    "additionalProperties": False,
                    "description": "A person.",
                },
            }
        }
        assert ignored == ()

    def test_without_a_schema_any_object_will_do(self) -> None:
        # Held to a schema without names, the model could say nothing but {}.
        for schema in (None, {"type": "object"}):
            wanted = ResponseFormat(AnswerFormat.JSON_SCHEMA, schema=schema)
            built, ignored = sent(ask(response_format=wanted))

            assert "JSON object" in built["system"]
            assert "output_config" not in built
            assert ignored == ("response_format",)

    def test_a_model_that_cannot_be_held_to_a_schema_is_passed_over(self) -> None:
        with pytest.raises(UnsupportedRequest, match="anthropic/claude-x"):
            sent(ask(response_format=HELD), target("chat"))

    def test_json_mode_is_asked_for_in_words(self) -> None:
        built, ignored = sent(
            ask(system_prompt="Hi.", response_format=ResponseFormat(AnswerFormat.JSON_OBJECT))
        )

        assert built["system"].startswith("Hi.\n")
        assert "JSON object" in built["system"]
        assert ignored == ("response_format",)

    def test_text_needs_no_word(self) -> None:
        built, ignored = sent(ask(response_format=ResponseFormat(AnswerFormat.TEXT)))

        assert "output_config" not in built
        assert ignored == ()

    def test_a_schema_is_brought_within_the_vendors_limits(self) -> None:
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "title": "T",
            "additionalProperties": True,
            "required": ["age"],
            "properties": {
                "age": {"type": "integer", "minimum": 0, "description": "Years."},
                "mail": {"type": "string", "format": "email", "maxLength": 9},
                "odd": {"type": "string", "format": "iri"},
                "kind": {"enum": ["a", "b"]},
                "one": {"oneOf": [{"type": "null"}, {"$ref": "#/$defs/Leaf"}]},
                "any": {"anyOf": [{"type": "null"}, True]},
                "list": {"type": "array", "items": {"properties": {}}, "minItems": 1},
                "pair": {"type": "array", "minItems": 2},
            },
            "$defs": {"Leaf": {"type": "object", "properties": {"x": {"const": 1}}}},
        }
        before = copy.deepcopy(schema)
        wanted = ResponseFormat(AnswerFormat.JSON_SCHEMA, schema=schema)

        built, ignored = sent(ask(response_format=wanted))

        assert ignored == ("response_format",)
        assert built["output_config"]["format"]["schema"] == {
            "type": "object",
            "title": "T",
            "additionalProperties": False,
            "required": ["age"],
            "properties": {
                "age": {"type": "integer", "description": 'Years. {"minimum":0}'},
                "mail": {"type": "string", "format": "email", "description": '{"maxLength":9}'},
                "odd": {"type": "string", "description": '{"format":"iri"}'},
                "kind": {"enum": ["a", "b"]},
                "one": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Leaf"}]},
                "any": {"anyOf": [{"type": "null"}, {}]},
                "list": {
                    "type": "array",
                    "items": {"properties": {}, "additionalProperties": False},
                    "minItems": 1,
                },
                "pair": {"type": "array", "description": '{"minItems":2}'},
            },
            "$defs": {
                "Leaf": {
                    "type": "object",
                    "properties": {"x": {"const": 1}},
                    "additionalProperties": False,
                }
            },
        }
        assert schema == before


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
    def test_effort_becomes_a_budget_that_leaves_room_for_an_answer(
        self, reasoning: Reasoning, max_tokens: int, budget: int
    ) -> None:
        built, ignored = sent(ask(reasoning=reasoning, max_tokens=max_tokens))

        assert built["thinking"] == {"type": "enabled", "budget_tokens": budget}
        assert ignored == ()

    def test_sampling_gives_way_to_thinking(self) -> None:
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
    def test_thinking_gives_way_where_the_vendor_would_refuse_it(
        self, request_: LLMRequest
    ) -> None:
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
    def test_thinking_goes_on_where_it_may(self, messages: tuple[Message, ...]) -> None:
        assert "thinking" in sent(ask(*messages, reasoning=Reasoning()))[0]

    def test_a_wish_not_to_think_needs_no_word(self) -> None:
        built, ignored = sent(ask(reasoning=Reasoning(enabled=False)))

        assert "thinking" not in built
        assert ignored == ()

    def test_a_model_that_cannot_think_answers_all_the_same(self) -> None:
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
    def test_models_that_take_no_budget_are_told_the_effort(
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

    def test_effort_stands_beside_a_schema_and_a_forced_tool(self) -> None:
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


class TestCountingTokens:
    def test_a_callers_body_needs_no_max_tokens_and_passes_as_it_is(self) -> None:
        counted = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "future": 1}

        request = FORMAT.read_count_tokens_request(counted)
        wire = FORMAT.write_count_tokens_request(request, target())

        assert request.max_tokens is None
        assert wire.path == "/v1/messages/count_tokens"
        assert wire.headers["anthropic-version"] == "2023-06-01"
        assert json.loads(wire.body) == {**counted, "model": "claude-x"}

    def test_a_route_adds_its_system_prompt_alone(self) -> None:
        counted = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        parsed = FORMAT.read_count_tokens_request(counted)
        request = LLMRequest(
            parsed.messages, source=parsed.source, system_prompt="S", temperature=0.5
        )

        wire = FORMAT.write_count_tokens_request(request, target())

        assert json.loads(wire.body) == {**counted, "model": "claude-x", "system": "S"}

    def test_of_a_canonical_request_what_counts_is_sent(self) -> None:
        request = ask(system_prompt="S", tools=(Tool("f"),), temperature=0.5, user="u")

        wire = FORMAT.write_count_tokens_request(request, target())

        assert json.loads(wire.body).keys() == {"model", "messages", "system", "tools"}

    def test_a_bad_body_is_refused(self) -> None:
        with pytest.raises(InvalidRequest):
            FORMAT.read_count_tokens_request({"model": "m"})


def test_the_caller_s_beta_header_goes_to_a_vendor_of_the_format_alone():
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    beta = {"anthropic-beta": "context-1m-2025-08-07"}
    parsed = AnthropicMessages().read_request(body)
    source = Source("anthropic_messages", body, beta)
    target = Target(ProviderSpec("p", "v", "anthropic_messages", "https://x"), ModelSpec("p", "m"))
    wire = AnthropicMessages().write_request(replace(parsed, source=source), target)
    assert wire.headers["anthropic-beta"] == "context-1m-2025-08-07"
    foreign = Source("openai_chat", body, beta)
    wire = AnthropicMessages().write_request(replace(parsed, source=foreign), target)
    assert "anthropic-beta" not in wire.headers
