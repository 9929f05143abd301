"""Reads the messages of callers of OpenAI Chat Completions."""

from typing import Any

import pytest

from llm_routing.core.content import (
    ForeignPart,
    ImagePart,
    Message,
    Part,
    RefusalPart,
    Role,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from tests.formats.openai_chat.request_bodies import parse, refused_field


def parse_message(**message: Any) -> Message:
    (read,) = parse(messages=[message]).messages
    return read


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_developer_message_is_a_system_message(role: str) -> None:
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


def test_an_assistant_message_has_thinking_text_refusal_and_calls() -> None:
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


def test_openrouters_field_for_thinking_is_read() -> None:
    message = parse_message(role="assistant", content="x", reasoning="hm")
    assert message.content == (ThinkingPart("hm"), TextPart("x"))


def test_the_content_of_an_assistant_message_may_be_missing() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = parse_message(role="assistant", content=None, tool_calls=calls)
    assert message.content == (ToolCallPart("c1", "f", "{}"),)
    assert parse_message(role="assistant").content == ()


def test_a_tool_message_names_its_call() -> None:
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


def test_audio_in_a_tool_message_is_rejected() -> None:
    content = [{"type": "input_audio", "input_audio": {}}]
    path = refused_field(messages=[{"role": "tool", "tool_call_id": "c", "content": content}])
    assert path == "messages.0.content"


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
def test_the_cache_mark_of_a_message_is_on_its_last_part(message: Any, expected: Part) -> None:
    assert parse_message(**message, cache_control=MARK).content[-1] == expected


@pytest.mark.parametrize(
    "content", [[], [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]]
)
def test_without_a_part_to_mark_there_is_no_cache_mark(content: Any) -> None:
    message = parse_message(role="user", content=content, cache_control=MARK)

    assert len(message.content) == len(content)
