"""Writes canonical requests for vendors of OpenAI Chat Completions."""

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
from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.quirks import ModelQuirk
from llm_routing.core.types import LLMRequest, Source
from tests.formats.openai_chat.written_requests import CLOSED, OPEN, build, target


def canonical(*messages: Message, **fields: Any) -> LLMRequest:
    said = messages or (Message(Role.USER, (TextPart("Hi"),)),)
    return LLMRequest(messages=said, model="m", source=Source("anthropic_messages", {}), **fields)


def message_sent(role: Role, *parts: Part, name: str | None = None) -> dict[str, Any]:
    body, _ = build(canonical(Message(role, parts, name)))
    (message,) = body["messages"]
    return message


class TestOtherFormat:
    """Writes a request of another format in OpenAI's."""

    def test_absent_fields_are_not_written(self) -> None:
        sent, wire = build(canonical())
        assert sent == {"model": "big-1", "messages": [{"role": "user", "content": "Hi"}]}
        assert wire.ignored == ()

    def test_settings_are_sent(self) -> None:
        settings: dict[str, Any] = {
            "temperature": 0.5,
            "top_p": 0.9,
            "max_tokens": 10,
            "seed": 7,
            "n": 2,
            "frequency_penalty": 0.1,
            "presence_penalty": 0.2,
            "logprobs": True,
            "top_logprobs": 3,
            "user": "u",
        }
        sent, _ = build(canonical(stop=("a",), **settings))
        assert sent == {
            "model": "big-1",
            "messages": [{"role": "user", "content": "Hi"}],
            "stop": ["a"],
            **settings,
        }

    def test_unsupported_fields_are_named(self) -> None:
        sent, wire = build(canonical(top_k=5, user="u" * 65))
        assert "user" not in sent
        assert set(wire.ignored) == {"top_k", "user"}

    def test_refused_sampling_is_named_only_if_the_caller_set_it(self) -> None:
        request = LLMRequest(
            messages=canonical().messages,
            temperature=0.5,
            top_p=0.5,
            source=Source("anthropic_messages", {"top_p": 0.5}),
        )
        aim = target(model_quirks=(ModelQuirk.NO_SAMPLING,))
        sent, wire = build(request, aim)
        assert sent.keys() == {"model", "messages"}
        assert wire.ignored == ("top_p",)
        assert build(replace(request, source=None), aim)[1].ignored == ("temperature", "top_p")

    def test_system_messages_come_first(self) -> None:
        request = canonical(
            Message(Role.SYSTEM, (TextPart("a"), TextPart("b"))),
            Message(Role.USER, (TextPart("Hi"),)),
            system_prompt="route",
        )
        sent, _ = build(request)
        assert sent["messages"] == [
            {"role": "system", "content": "route"},
            {"role": "system", "content": "a\nb"},
            {"role": "user", "content": "Hi"},
        ]

    def test_a_users_parts_are_written_in_order(self) -> None:
        audio = {"type": "input_audio", "input_audio": {}}
        assert message_sent(
            Role.USER,
            TextPart("Look"),
            ImagePart(url="https://x/y", detail="low"),
            ImagePart(data="iVBO", media_type="image/png"),
            ForeignPart("openai_chat", audio),
            name="ada",
        ) == {
            "role": "user",
            "name": "ada",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": "https://x/y", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
                audio,
            ],
        }

    def test_an_empty_user_message_is_written(self) -> None:
        assert message_sent(Role.USER) == {"role": "user", "content": ""}

    def test_an_assistant_message_is_written(self) -> None:
        custom = {"id": "c2", "type": "custom", "custom": {"name": "s", "input": "x"}}
        body, wire = build(
            canonical(
                Message(
                    Role.ASSISTANT,
                    (
                        ThinkingPart("hm", signature="s"),
                        TextPart("a"),
                        TextPart("b"),
                        RefusalPart("no"),
                        ToolCallPart("c1", "f", '{"x":1}'),
                        ToolCallPart("c3", "g", ""),
                        ForeignPart("openai_chat", custom),
                        ForeignPart("openai_chat", {"type": "audio", "audio": {"id": "a"}}),
                    ),
                )
            )
        )
        assert body["messages"] == [
            {
                "role": "assistant",
                "content": "ab",
                "refusal": "no",
                "audio": {"id": "a"},
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"x":1}'},
                    },
                    {"id": "c3", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                    custom,
                ],
            }
        ]
        assert wire.ignored == ("thinking",)

    def test_missing_text_is_null_with_calls_and_empty_without(self) -> None:
        calls = message_sent(Role.ASSISTANT, ToolCallPart("c", "f", "{}"))
        assert calls["content"] is None
        assert message_sent(Role.ASSISTANT, RefusalPart("no"))["content"] is None
        assert message_sent(Role.ASSISTANT, ThinkingPart("hm"))["content"] == ""

    def test_each_tool_result_is_a_message_and_its_images_follow_in_a_user_message(self) -> None:
        def results(number: int) -> Message:
            image = ImagePart(url=f"https://x/{number}")
            part = ToolResultPart(f"c{number}", (TextPart("a"), image, TextPart("b")), True)
            return Message(Role.TOOL, (part, ToolResultPart(f"d{number}")))

        request = canonical(
            results(1), results(2), Message(Role.USER, (TextPart("?"),)), results(3)
        )
        sent, wire = build(request)
        assert [(m["role"], m.get("tool_call_id")) for m in sent["messages"]] == [
            ("tool", "c1"),
            ("tool", "d1"),
            ("tool", "c2"),
            ("tool", "d2"),
            ("user", None),
            ("user", None),
            ("tool", "c3"),
            ("tool", "d3"),
            ("user", None),
        ]
        assert sent["messages"][0]["content"] == "a\nb"
        assert sent["messages"][1]["content"] == ""
        assert [part["image_url"]["url"] for part in sent["messages"][4]["content"]] == [
            "https://x/1",
            "https://x/2",
        ]
        assert len(sent["messages"][8]["content"]) == 1
        assert wire.ignored == ("is_error",)

    def test_tools_and_tool_choice_are_written(self) -> None:
        own = {"type": "custom", "custom": {"name": "s"}}
        sent, wire = build(
            canonical(
                tools=(
                    Tool("f", "d", CLOSED, strict=True),
                    Tool("g", None, OPEN, strict=True),
                    Tool("h"),
                    ForeignTool("openai_chat", own),
                ),
                tool_choice=ToolChoice(ToolChoiceMode.NAMED, "f"),
                parallel_tool_calls=False,
            )
        )
        assert [tool.get("function") for tool in sent["tools"]] == [
            {"name": "f", "description": "d", "parameters": CLOSED, "strict": True},
            {"name": "g", "parameters": OPEN},
            {"name": "h", "parameters": {"type": "object", "properties": {}}},
            None,
        ]
        assert sent["tools"][3] == own
        assert sent["tool_choice"] == {"type": "function", "function": {"name": "f"}}
        assert sent["parallel_tool_calls"] is False
        assert wire.ignored == ("tools.strict",)

    @pytest.mark.parametrize("mode", ["auto", "none", "required"])
    def test_a_tool_choice_without_a_name_is_a_string(self, mode: str) -> None:
        choice = ToolChoice(ToolChoiceMode(mode))
        assert build(canonical(tools=(Tool("f"),), tool_choice=choice))[0]["tool_choice"] == mode

    def test_an_absent_tool_choice_is_not_written(self) -> None:
        assert build(canonical(tools=(Tool("f"),)))[0].keys() == {"model", "messages", "tools"}

    def test_without_tools_no_tool_fields_are_written(self) -> None:
        sent, _ = build(
            canonical(tool_choice=ToolChoice(ToolChoiceMode.AUTO), parallel_tool_calls=True)
        )
        assert sent.keys() == {"model", "messages"}

    @pytest.mark.parametrize(
        ("wanted", "sent"),
        [
            (ResponseFormat(AnswerFormat.TEXT), None),
            (ResponseFormat(AnswerFormat.JSON_OBJECT), {"type": "json_object"}),
            (
                ResponseFormat(AnswerFormat.JSON_SCHEMA, "n", CLOSED, True, "d"),
                {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "n",
                        "schema": CLOSED,
                        "strict": True,
                        "description": "d",
                    },
                },
            ),
            (
                ResponseFormat(AnswerFormat.JSON_SCHEMA, schema=OPEN),
                {"type": "json_schema", "json_schema": {"name": "answer", "schema": OPEN}},
            ),
        ],
    )
    def test_the_response_format_is_written(self, wanted: ResponseFormat, sent: Any) -> None:
        assert build(canonical(response_format=wanted))[0].get("response_format") == sent

    def test_a_schema_that_openai_would_refuse_is_written_without_strict(self) -> None:
        wanted = ResponseFormat(AnswerFormat.JSON_SCHEMA, schema=OPEN, strict=True)
        sent, wire = build(canonical(response_format=wanted))
        assert sent["response_format"]["json_schema"]["strict"] is False
        assert wire.ignored == ("response_format.strict",)

    @pytest.mark.parametrize(
        ("reasoning", "capabilities", "effort", "ignored"),
        [
            (Reasoning(effort="minimal"), (), "minimal", ()),
            (Reasoning(budget_tokens=4096), (), "low", ()),
            (Reasoning(budget_tokens=4097), (), "medium", ()),
            (Reasoning(budget_tokens=16_385), ("reasoning",), "high", ()),
            (Reasoning(effort="max", budget_tokens=1), (), "max", ()),
            (Reasoning(), ("reasoning",), None, ()),
            (Reasoning(enabled=False), ("reasoning",), None, ("reasoning",)),
            (Reasoning(effort="high"), ("chat",), None, ("reasoning",)),
            (Reasoning(enabled=False), ("chat",), None, ()),
        ],
    )
    def test_reasoning_settings_are_written(
        self,
        reasoning: Reasoning,
        capabilities: tuple[str, ...],
        effort: str | None,
        ignored: tuple[str, ...],
    ) -> None:
        sent, wire = build(canonical(reasoning=reasoning), target(capabilities=capabilities))
        assert sent.get("reasoning_effort") == effort
        assert wire.ignored == ignored

    @pytest.mark.parametrize(
        "request_",
        [
            canonical(Message(Role.USER, (ForeignPart("anthropic_messages", {"type": "x"}),))),
            canonical(Message(Role.USER, (ToolCallPart("c", "f", "{}"),))),
            canonical(Message(Role.USER, (TextPart("a"), ImagePart(data="iVBO")))),
            canonical(Message(Role.ASSISTANT, (ForeignPart("anthropic_messages", {}),))),
            canonical(Message(Role.ASSISTANT, (ImagePart(url="https://x"),))),
            canonical(Message(Role.SYSTEM, (ImagePart(url="https://x"),))),
            canonical(Message(Role.TOOL, (ForeignPart("anthropic_messages", {}),))),
            canonical(tools=(ForeignTool("anthropic_messages", {}),)),
        ],
    )
    def test_unsupported_essential_parts_are_refused(self, request_: LLMRequest) -> None:
        with pytest.raises(UnsupportedRequest):
            build(request_)

    def test_quirks_and_streaming_apply_to_written_requests(self) -> None:
        sent, _ = build(
            canonical(max_tokens=9, stream=True), target(limit_field="max_completion_tokens")
        )
        assert sent["max_completion_tokens"] == 9
        assert sent["stream_options"] == {"include_usage": True}
        limited, _ = build(canonical(max_tokens=9), target(limit=4))
        assert limited["max_tokens"] == 4


@pytest.mark.parametrize(
    ("quirk", "body_says", "message_says"),
    [
        ((), {}, {}),
        (("prefix_message",), {}, {"prefix": True}),
        (
            ("continue_final_message",),
            {"continue_final_message": True, "add_generation_prompt": False},
            {},
        ),
    ],
)
def test_a_prefill_is_marked_in_each_vendors_way(
    quirk: tuple[str, ...], body_says: dict[str, bool], message_says: dict[str, bool]
) -> None:
    begun = (
        Message(Role.USER, (TextPart("Why?"),)),
        Message(Role.ASSISTANT, (TextPart("Because"),)),
    )
    names = ("continue_final_message", "add_generation_prompt")
    body, _ = build(canonical(*begun, has_prefill=True), target(**dict.fromkeys(quirk, True)))
    assert {name: body[name] for name in names if name in body} == body_says
    *_, last = body["messages"]
    assert {"role": "assistant", "content": "Because", **message_says} == last
    body, _ = build(canonical(*begun), target(**dict.fromkeys(quirk, True)))
    assert not set(names) & set(body)
