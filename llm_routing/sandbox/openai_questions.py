"""Reads requests of OpenAI chat completions as strictly as OpenAI does.

https://platform.openai.com/docs/api-reference/chat/create
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import fields
from .answers import Question, ToolMode, ToolOffer, ToolResult, pieces
from .faults import extract
from .fields import BadRequest
from .images import describe_url

_ROLES = ("system", "developer", "user", "assistant", "tool")
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_IMAGE_TOKENS = 85
_MESSAGE_TOKENS = 3


@dataclass(frozen=True, slots=True)
class ChatQuestion:
    """A question and the options of its answer that only this format has."""

    question: Question
    include_usage: bool = False
    logprobs: bool = False
    top_logprobs: int = 0


def read_chat(body: Mapping[str, Any], model: str, digest: str) -> ChatQuestion:
    """Returns the question in a body of `POST /v1/chat/completions`. Raises `BadRequest`."""
    question = _read_messages(body, Question(model=model, digest=digest, user_text="", body=body))
    for name, low, high in (
        ("temperature", 0, 2),
        ("top_p", 0, 1),
        ("frequency_penalty", -2, 2),
        ("presence_penalty", -2, 2),
    ):
        fields.number(body, name, low, high)
    stream = fields.flag(body, "stream")
    options = fields.mapping(body.get("stream_options") or {}, "stream_options")
    if options and not stream:
        raise BadRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
        )
    logprobs = fields.flag(body, "logprobs")
    top_logprobs = fields.integer(body, "top_logprobs", 0, 20)
    if top_logprobs is not None and not logprobs:
        raise BadRequest("'top_logprobs' is only allowed when 'logprobs' is true.", "top_logprobs")
    tools = _tools(body)
    schema, json_mode = _response_format(body)
    question = replace(
        _tool_choice(body, replace(question, tools=tools)),
        parallel=fields.flag(body, "parallel_tool_calls", True),
        schema=schema,
        json_mode=json_mode,
        max_tokens=_max_tokens(body),
        stop=fields.strings(body.get("stop"), "stop", 4),
        n=fields.integer(body, "n", 1, 128) or 1,
        reasoning=fields.text(body, "reasoning_effort", "none") != "none",
        stream=stream,
        prompt_tokens=question.prompt_tokens
        + sum(len(pieces(json.dumps(tool))) for tool in body.get("tools") or ()),
    )
    include_usage = fields.flag(options, "include_usage")
    return ChatQuestion(question, include_usage, logprobs, top_logprobs or 0)


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    older = fields.integer(body, "max_tokens", 1, 10_000_000)
    newer = fields.integer(body, "max_completion_tokens", 1, 10_000_000)
    if older is not None and newer is not None:
        raise BadRequest(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
        )
    return newer if older is None else older


def _read_messages(body: Mapping[str, Any], question: Question) -> Question:
    messages = fields.sequence(body.get("messages"), "messages")
    if not messages:
        raise BadRequest("Invalid 'messages': empty array.", "messages")
    system: list[str] = []
    user_text = ""
    images: tuple[str, ...] = ()
    open_calls: dict[str, str] = {}
    results: list[ToolResult] = []
    tokens, turn = 0, 0
    for index, item in enumerate(messages):
        where = f"messages[{index}]"
        message = fields.mapping(item, where)
        role = message.get("role")
        if role not in _ROLES:
            raise BadRequest(f"Invalid value for '{where}.role': {_ROLES}.", f"{where}.role")
        if role != "tool" and open_calls:
            raise BadRequest(
                "An assistant message with 'tool_calls' must be followed by tool messages "
                f"responding to each 'tool_call_id'; missing: {', '.join(open_calls)}.",
                where,
            )
        texts, shown = _content(message, role, where)
        tokens += _MESSAGE_TOKENS + len(pieces("\n".join(texts))) + _IMAGE_TOKENS * len(shown)
        if role in ("system", "developer"):
            system += texts
        elif role == "tool":
            name = open_calls.pop(fields.text(message, "tool_call_id"), None)
            if name is None:
                raise BadRequest(
                    "Messages with role 'tool' must be a response to a preceding message with "
                    "'tool_calls'.",
                    f"{where}.role",
                )
            results.append(ToolResult(name, "\n".join(texts)))
        else:
            results = []
        if role == "user":
            user_text, images, turn = "\n".join(texts), shown, turn + 1
        if role == "assistant":
            open_calls = _calls(message, where)
    if open_calls:
        raise BadRequest(f"No tool output found for: {', '.join(open_calls)}.", "messages")
    said, directives = extract(user_text)
    return replace(
        question,
        user_text=said,
        directives=tuple(directives),
        system="\n".join(system),
        turn=max(turn, 1),
        images=images,
        results=tuple(results),
        prompt_tokens=tokens,
    )


def _content(
    message: Mapping[str, Any], role: str, where: str
) -> tuple[list[str], tuple[str, ...]]:
    """Returns the texts of a message, and descriptions of its images."""
    content = message.get("content")
    where = f"{where}.content"
    if isinstance(content, str):
        return [content], ()
    if content is None and role == "assistant":
        return [], ()
    texts: list[str] = []
    images: list[str] = []
    for index, item in enumerate(fields.sequence(content, where)):
        part = fields.mapping(item, f"{where}[{index}]")
        kind = part.get("type")
        if kind == "text":
            texts.append(fields.text(part, "text"))
        elif kind == "refusal" and role == "assistant":
            texts.append(fields.text(part, "refusal"))
        elif kind == "image_url" and role == "user":
            image = fields.mapping(part.get("image_url"), f"{where}[{index}].image_url")
            images.append(describe_url(fields.text(image, "url"), f"{where}[{index}].image_url"))
        elif kind not in ("input_audio", "file") or role != "user":
            raise BadRequest(
                f"Invalid value for '{where}[{index}].type' in a message of role '{role}'.",
                f"{where}[{index}].type",
            )
    return texts, tuple(images)


def _calls(message: Mapping[str, Any], where: str) -> dict[str, str]:
    calls: dict[str, str] = {}
    if message.get("tool_calls") is None:
        if message.get("content") is None and message.get("refusal") is None:
            raise BadRequest(
                f"Missing '{where}.content': expected content or 'tool_calls'.", f"{where}.content"
            )
        return calls
    where = f"{where}.tool_calls"
    listed = fields.sequence(message["tool_calls"], where)
    if not listed:
        raise BadRequest(f"Invalid '{where}': empty array.", where)
    for index, item in enumerate(listed):
        call = fields.mapping(item, f"{where}[{index}]")
        function = fields.mapping(call.get("function"), f"{where}[{index}].function")
        fields.text(function, "arguments")
        calls[fields.text(call, "id")] = fields.text(function, "name")
    return calls


def _tools(body: Mapping[str, Any]) -> tuple[ToolOffer, ...]:
    if body.get("tools") is None:
        return ()
    listed = fields.sequence(body["tools"], "tools")
    if not listed:
        raise BadRequest("Invalid 'tools': empty array.", "tools")
    offers = []
    for index, item in enumerate(listed):
        where = f"tools[{index}]"
        tool = fields.mapping(item, where)
        if tool.get("type") != "function":
            raise BadRequest(f"Invalid value for '{where}.type': 'function'.", f"{where}.type")
        function = fields.mapping(tool.get("function"), f"{where}.function")
        name = fields.text(function, "name")
        if not _TOOL_NAME.fullmatch(name):
            raise BadRequest(
                f"Invalid '{where}.function.name': does not match '^[a-zA-Z0-9_-]{{1,64}}$'.",
                f"{where}.function.name",
            )
        schema = function.get("parameters")
        empty = {"type": "object", "properties": {}}
        offers.append(
            ToolOffer(
                name, empty if schema is None else fields.mapping(schema, f"{where}.parameters")
            )
        )
    return tuple(offers)


def _tool_choice(body: Mapping[str, Any], question: Question) -> Question:
    choice = body.get("tool_choice")
    if choice is None:
        return question
    if not question.tools:
        raise BadRequest("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    if isinstance(choice, str):
        if choice not in tuple(ToolMode):
            raise BadRequest("Invalid value for 'tool_choice'.", "tool_choice")
        return replace(question, tool_mode=ToolMode(choice))
    choice = fields.mapping(choice, "tool_choice")
    if choice.get("type") == "allowed_tools":
        allowed = fields.mapping(choice.get("allowed_tools"), "tool_choice.allowed_tools")
        mode = fields.text(allowed, "mode")
        if mode not in ("auto", "required"):
            raise BadRequest("Invalid value for 'tool_choice.allowed_tools.mode'.", "tool_choice")
        names = [_function_name(tool) for tool in allowed.get("tools") or ()]
        tools = tuple(_offered(question.tools, name) for name in names)
        return replace(question, tools=tools, tool_mode=ToolMode(mode))
    offer = _offered(question.tools, _function_name(choice))
    return replace(question, tool_mode=ToolMode.REQUIRED, tool_name=offer.name)


def _function_name(choice: Any) -> str:
    choice = fields.mapping(choice, "tool_choice")
    if choice.get("type") != "function":
        raise BadRequest("Invalid value for 'tool_choice.type'.", "tool_choice")
    return fields.text(fields.mapping(choice.get("function"), "tool_choice.function"), "name")


def _offered(tools: Sequence[ToolOffer], name: str) -> ToolOffer:
    for tool in tools:
        if tool.name == name:
            return tool
    raise BadRequest(f"Tool choice '{name}' not found in 'tools' parameter.", "tool_choice")


def _response_format(body: Mapping[str, Any]) -> tuple[Any, bool]:
    """Returns the requested JSON schema, and whether any JSON object is requested."""
    if body.get("response_format") is None:
        return None, False
    wanted = fields.mapping(body["response_format"], "response_format")
    kind = wanted.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise BadRequest("Invalid value for 'response_format.type'.", "response_format.type")
    if kind != "json_schema":
        return None, kind == "json_object"
    named = fields.mapping(wanted.get("json_schema"), "response_format.json_schema")
    if not _TOOL_NAME.fullmatch(fields.text(named, "name")):
        raise BadRequest(
            "Invalid 'response_format.json_schema.name'.", "response_format.json_schema.name"
        )
    return fields.mapping(named.get("schema"), "response_format.json_schema.schema"), False
