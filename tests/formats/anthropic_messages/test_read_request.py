"""Reads requests of callers of Anthropic Messages, and names invalid fields."""

import copy
from typing import Any

import pytest

from llm_routing.core.content import (
    AnswerFormat,
    ForeignPart,
    ForeignTool,
    ImagePart,
    Message,
    Reasoning,
    ResponseFormat,
    Role,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolChoiceMode,
)
from llm_routing.core.errors import InvalidRequest
from llm_routing.core.types import Source
from tests.formats.anthropic_messages.requests import (
    FORMAT,
    IMAGE,
    assistant,
    body,
    result,
    said,
    user,
)


class TestReadRequest:
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

    def test_absent_fields_stay_unset(self) -> None:
        request = FORMAT.read_request(body())

        assert not request.stream
        assert request.user is None
        assert request.tool_choice is None
        assert request.parallel_tool_calls is None
        assert request.response_format is None
        assert request.reasoning is None
        assert request.tools == ()

    def test_the_body_is_kept_as_source_and_not_mutated(self) -> None:
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
    def test_an_empty_system_prompt_is_ignored(self, system: Any) -> None:
        assert FORMAT.read_request(body(system=system)).messages == (user("Hi"),)

    def test_a_system_message_is_allowed_in_the_middle(self) -> None:
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

    def test_tool_results_become_separate_messages_in_order(self) -> None:
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

    def test_a_turn_of_tool_results_only_adds_no_empty_user_message(self) -> None:
        block = {"type": "tool_result", "tool_use_id": "a", "content": "1"}

        assert FORMAT.read_request(said(("user", [block]))).messages == (
            result("a", TextPart("1")),
        )

    def test_a_tool_result_that_only_this_format_has_is_one_foreign_part(self) -> None:
        block = {
            "type": "tool_result",
            "tool_use_id": "a",
            "content": [{"type": "search_result", "title": "t"}],
        }

        request = FORMAT.read_request(said(("user", [block])))

        assert request.messages == (user(ForeignPart("anthropic_messages", block)),)

    def test_an_empty_user_message_is_kept(self) -> None:
        assert FORMAT.read_request(said(("user", []))).messages == (user(),)

    def test_tools_are_read_and_vendor_tools_are_kept(self) -> None:
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
    def test_the_tool_choice_is_read(
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
    def test_a_json_schema_is_read_under_its_new_and_old_name(self, fields: dict[str, Any]) -> None:
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
    def test_invalid_fields_are_named_by_their_path(
        self, fields: dict[str, Any], path: str
    ) -> None:
        with pytest.raises(InvalidRequest) as caught:
            FORMAT.read_request(body(**fields))

        assert caught.value.field == path
