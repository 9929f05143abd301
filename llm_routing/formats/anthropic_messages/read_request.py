"""Reads callers' requests of Anthropic Messages into canonical form.

Source: https://platform.claude.com/docs/en/api/messages (anthropic-version 2023-06-01).
"""

from collections.abc import Iterator
from typing import Any

from llm_routing.core.content import (
    AnswerFormat,
    ForeignTool,
    Message,
    Part,
    Reasoning,
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
from llm_routing.core.types import LLMRequest, Source, Thread
from llm_routing.formats.fields import Fields, read_cache_control
from llm_routing.formats.names import ANTHROPIC_MESSAGES

from .blocks import read_content

_CHOICE_MODES = {
    "auto": ToolChoiceMode.AUTO,
    "any": ToolChoiceMode.REQUIRED,
    "tool": ToolChoiceMode.NAMED,
    "none": ToolChoiceMode.NONE,
}


def read_request(body: Any) -> LLMRequest:
    """Returns the canonical request of a body of `POST /v1/messages`. Raises `InvalidRequest`."""
    fields = Fields(body)
    return _parse(fields, fields.required_integer("max_tokens", 0))


def read_count_tokens_request(body: Any) -> LLMRequest:
    """Returns the canonical request of a body of `POST /v1/messages/count_tokens`, which needs no
    `max_tokens`. Raises `InvalidRequest`."""
    return _parse(Fields(body), None)


def _parse(body: Fields, max_tokens: int | None) -> LLMRequest:
    tool_choice = body.object("tool_choice")
    metadata = body.object("metadata")
    return LLMRequest(
        model=body.required_string("model"),
        messages=tuple(_read_messages(body)),
        max_tokens=max_tokens,
        temperature=body.number("temperature", 0, 1),
        top_p=body.number("top_p", 0, 1),
        top_k=body.integer("top_k", 0),
        stop=body.strings("stop_sequences"),
        tools=tuple(_read_tool(tool) for tool in body.objects("tools")),
        tool_choice=_read_tool_choice(tool_choice) if tool_choice else None,
        parallel_tool_calls=_read_parallel(tool_choice) if tool_choice else None,
        response_format=_read_response_format(body),
        reasoning=_read_reasoning(body),
        user=metadata.string("user_id") if metadata else None,
        stream=body.boolean("stream") or False,
        include_usage=True,
        thread=_read_thread(body),
        # An answer in a thread can be continued only once.
        cache=False if body.get("thread") is not None else None,
        source=Source(ANTHROPIC_MESSAGES, body.value),
    )


def _read_messages(body: Fields) -> Iterator[Message]:
    system = body.get("system")
    if system is not None:
        parts = _read_system(body, "system")
        if any(not isinstance(part, TextPart) or part.text for part in parts):
            yield Message(Role.SYSTEM, parts)
    for message in _messages(body):
        message.required("role")
        match message.choice("role", ("user", "assistant", "system")):
            case "user":
                yield from _read_user_turn(message)
            case "assistant":
                parts_said = read_content(message, "content")
                if any(isinstance(part, ToolResultPart) for part in parts_said):
                    raise message.invalid(
                        "content", "may contain tool_result only in user messages"
                    )
                yield Message(Role.ASSISTANT, parts_said)
            case _:
                yield Message(Role.SYSTEM, _read_system(message, "content"))


def _messages(body: Fields) -> tuple[Fields, ...]:
    """Returns the messages, which may be empty if a thread holds the earlier ones."""
    thread = _read_thread(body)
    if thread is not None and thread.previous is not None:
        body.required("messages")
        return body.objects("messages")
    return body.required_objects("messages")


def _read_thread(body: Fields) -> Thread | None:
    """Source: https://platform.claude.com/docs/en/api/messages (beta message-threads)."""
    thread = body.object("thread")
    if thread is None:
        return None
    thread.required("type")
    if thread.choice("type", ("create", "continue")) == "create":
        return Thread()
    return Thread(thread.required_string("previous_message_id"))


def _read_system(owner: Fields, name: str) -> tuple[Part, ...]:
    """Returns the parts of a system message. Only vendors of this format accept parts other than
    text."""
    parts = read_content(owner, name)
    if any(isinstance(part, ToolCallPart | ToolResultPart | ThinkingPart) for part in parts):
        raise owner.invalid(name, "may not contain tool_use, tool_result or thinking")
    return parts


def _read_user_turn(message: Fields) -> Iterator[Message]:
    """Yields the messages of a user's turn. In canonical form each tool result is a message of its
    own."""
    said: list[Part] = []
    parts = read_content(message, "content")
    for part in parts:
        if isinstance(part, ToolCallPart | ThinkingPart):
            raise message.invalid(
                "content", "may contain tool_use and thinking only in assistant messages"
            )
        if not isinstance(part, ToolResultPart):
            said.append(part)
            continue
        if said:
            yield Message(Role.USER, tuple(said))
            said = []
        yield Message(Role.TOOL, (part,))
    if said or not parts:
        yield Message(Role.USER, tuple(said))


def _read_tool(tool: Fields) -> Tool | ForeignTool:
    if (tool.string("type") or "custom") != "custom":
        return ForeignTool(ANTHROPIC_MESSAGES, tool.value)
    return Tool(
        name=tool.required_string("name"),
        description=tool.string("description"),
        parameters=tool.required_object("input_schema").value,
        strict=tool.boolean("strict"),
        cache_control=read_cache_control(tool),
    )


def _read_tool_choice(choice: Fields) -> ToolChoice:
    choice.required("type")
    mode = _CHOICE_MODES[choice.choice("type", _CHOICE_MODES) or ""]
    if mode is ToolChoiceMode.NAMED:
        return ToolChoice(mode, choice.required_string("name"))
    return ToolChoice(mode)


def _read_parallel(choice: Fields) -> bool | None:
    disabled = choice.boolean("disable_parallel_tool_use")
    return None if disabled is None else not disabled


def _read_response_format(body: Fields) -> ResponseFormat | None:
    """Reads `output_config.format`, or `output_format`, its name in the beta."""
    config = body.object("output_config")
    wanted = (config.object("format") if config else None) or body.object("output_format")
    if wanted is None:
        return None
    wanted.required("type")
    wanted.choice("type", ("json_schema",))
    schema = wanted.required_object("schema").value
    return ResponseFormat(AnswerFormat.JSON_SCHEMA, schema=schema, strict=True)


def _read_reasoning(body: Fields) -> Reasoning | None:
    config = body.object("output_config")
    effort = config.string("effort") if config else None
    thinking = body.object("thinking")
    if thinking is None:
        return Reasoning(effort=effort) if effort else None
    match thinking.required_string("type"):
        case "disabled":
            return Reasoning(enabled=False)
        case "enabled":
            return Reasoning(
                effort=effort, budget_tokens=thinking.required_integer("budget_tokens", 1)
            )
        case _:
            return Reasoning(effort=effort)
