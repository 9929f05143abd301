"""Reads requests of Anthropic Messages as strictly as Anthropic does.

https://platform.claude.com/docs/en/api/messages
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
from .images import describe_base64, describe_url

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_IMAGE_TOKENS = 85
_MESSAGE_TOKENS = 3
_MIN_BUDGET = 1024
_OTHER_BLOCKS = frozenset({"document", "search_result", "container_upload"})


@dataclass(frozen=True, slots=True)
class _Turn:
    """The content of a message: texts, images, tool calls by id, and results by call id."""

    texts: list[str]
    images: list[str]
    calls: dict[str, str]
    results: dict[str, str]


def read_count(body: Mapping[str, Any], model: str, digest: str) -> Question:
    """Returns the question in a body of `POST /v1/messages/count_tokens`. Raises `BadRequest`."""
    question = Question(model=model, digest=digest, user_text="", body=body)
    question = _read_messages(body, replace(question, tools=_tools(body)))
    definitions = sum(len(pieces(json.dumps(tool))) for tool in body.get("tools") or ())
    tokens = question.prompt_tokens + len(pieces(question.system)) + definitions
    return _tool_choice(body, replace(question, prompt_tokens=tokens))


def read_messages(body: Mapping[str, Any], model: str, digest: str) -> Question:
    """Returns the question in a body of `POST /v1/messages`. Raises `BadRequest`."""
    question = read_count(body, model, digest)
    if body.get("max_tokens") is None:
        raise BadRequest("max_tokens: Field required", "max_tokens")
    max_tokens = fields.integer(body, "max_tokens", 0, 10_000_000) or 0
    temperature = fields.number(body, "temperature", 0, 1)
    fields.number(body, "top_p", 0, 1)
    top_k = fields.integer(body, "top_k", 0, 1_000_000)
    reasoning = _thinking(body, max_tokens)
    if reasoning and (temperature not in (None, 1.0) or top_k is not None):
        raise BadRequest("`temperature` may only be set to 1 when thinking is enabled.")
    if reasoning and question.tool_mode is ToolMode.REQUIRED:
        raise BadRequest("Thinking may not be enabled when tool_choice forces tool use.")
    fields.mapping(body.get("metadata") or {}, "metadata")
    return replace(
        question,
        schema=_output_schema(body),
        max_tokens=max_tokens,
        stop=fields.strings(body.get("stop_sequences"), "stop_sequences", 8192),
        reasoning=reasoning,
        stream=fields.flag(body, "stream"),
    )


def _thinking(body: Mapping[str, Any], max_tokens: int) -> bool:
    if body.get("thinking") is None:
        return False
    thinking = fields.mapping(body["thinking"], "thinking")
    kind = thinking.get("type")
    if kind not in ("enabled", "disabled", "adaptive", "between_tools"):
        raise BadRequest("thinking.type: Input should be 'enabled', 'disabled' or 'adaptive'")
    if kind == "enabled":
        budget = fields.integer(thinking, "budget_tokens", _MIN_BUDGET, 10_000_000)
        if budget is None or budget >= max_tokens:
            raise BadRequest("`max_tokens` must be greater than `thinking.budget_tokens`.")
    return kind in ("enabled", "adaptive")


def _read_messages(body: Mapping[str, Any], question: Question) -> Question:
    messages = fields.sequence(body.get("messages"), "messages")
    if not messages:
        raise BadRequest("messages: at least one message is required")
    system = [_system(body.get("system"))] if body.get("system") is not None else []
    user_text = ""
    images: tuple[str, ...] = ()
    open_calls: dict[str, str] = {}
    results: list[ToolResult] = []
    tokens, number = 0, 0
    for index, item in enumerate(messages):
        where = f"messages.{index}"
        message = fields.mapping(item, where)
        role = message.get("role")
        if role not in ("user", "assistant", "system"):
            raise BadRequest(f"{where}.role: Input should be 'user' or 'assistant'")
        turn = _turn(message, role, where)
        tokens += _MESSAGE_TOKENS + len(pieces("\n".join(turn.texts)))
        tokens += _IMAGE_TOKENS * len(turn.images)
        tokens += sum(len(pieces(text)) for text in turn.results.values())
        unanswered = [call for call in open_calls if call not in turn.results]
        if role == "user" and unanswered:
            raise BadRequest(
                f"{where}: `tool_use` ids were found without `tool_result` blocks immediately "
                f"after: {', '.join(unanswered)}."
            )
        unasked = [call for call in turn.results if call not in open_calls]
        if unasked:
            raise BadRequest(
                f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{', '.join(unasked)}. Each must have a `tool_use` block in the previous message."
            )
        if role == "system":
            system += turn.texts
            continue
        results = [ToolResult(open_calls[call], text) for call, text in turn.results.items()]
        if role == "user" and (turn.texts or turn.images):
            user_text, images = "\n".join(turn.texts), tuple(turn.images)
        number += role == "user" and not turn.results
        open_calls = turn.calls
    if open_calls:
        raise BadRequest(
            "messages: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(open_calls)}."
        )
    said, directives = extract(user_text)
    return replace(
        question,
        user_text=said,
        directives=tuple(directives),
        system="\n".join(system),
        turn=max(number, 1),
        images=images,
        results=tuple(results),
        prompt_tokens=tokens,
    )


def _system(given: Any) -> str:
    if isinstance(given, str):
        return given
    blocks = [fields.mapping(block, "system") for block in fields.sequence(given, "system")]
    if any(block.get("type") != "text" for block in blocks):
        raise BadRequest("system: Input should be text blocks")
    return "\n".join(fields.text(block, "text") for block in blocks)


def _turn(message: Mapping[str, Any], role: str, where: str) -> _Turn:
    turn = _Turn([], [], {}, {})
    content = message.get("content")
    if isinstance(content, str):
        turn.texts.append(content)
        return turn
    for index, item in enumerate(fields.sequence(content, f"{where}.content")):
        place = f"{where}.content.{index}"
        block = fields.mapping(item, place)
        kind = block.get("type")
        match role, kind:
            case _, "text":
                text = fields.text(block, "text")
                if not text:
                    raise BadRequest(f"{place}: text content blocks must be non-empty")
                turn.texts.append(text)
            case "user", "image":
                turn.images.append(_image(block, place))
            case "user", "tool_result":
                texts, images = _result(block, place)
                turn.results[fields.text(block, "tool_use_id")] = texts
                turn.images.extend(images)
            case "assistant", "tool_use":
                fields.mapping(block.get("input"), f"{place}.input")
                turn.calls[fields.text(block, "id")] = fields.text(block, "name")
            case "assistant", "thinking":
                fields.text(block, "thinking")
                fields.text(block, "signature")
            case "assistant", "redacted_thinking":
                fields.text(block, "data")
            case "user", str() if kind in _OTHER_BLOCKS:
                continue
            case _:
                raise BadRequest(f"{place}: Input tag '{kind}' is not expected for role '{role}'")
    return turn


def _result(block: Mapping[str, Any], where: str) -> tuple[str, list[str]]:
    content = block.get("content")
    if content is None or isinstance(content, str):
        return content or "", []
    texts: list[str] = []
    images: list[str] = []
    for item in fields.sequence(content, f"{where}.content"):
        part = fields.mapping(item, f"{where}.content")
        if part.get("type") == "text":
            texts.append(fields.text(part, "text"))
        elif part.get("type") == "image":
            images.append(_image(part, f"{where}.content"))
        elif part.get("type") not in _OTHER_BLOCKS:
            raise BadRequest(f"{where}.content: Input tag is not expected in a tool result")
    return "\n".join(texts), images


def _image(block: Mapping[str, Any], where: str) -> str:
    source = fields.mapping(block.get("source"), f"{where}.source")
    match source.get("type"):
        case "base64":
            media_type = fields.text(source, "media_type")
            return describe_base64(media_type, fields.text(source, "data"), f"{where}.source")
        case "url":
            return describe_url(fields.text(source, "url"), f"{where}.source")
        case "file":
            return f"the file {fields.text(source, 'file_id')}"
    raise BadRequest(f"{where}.source: Input should be 'base64', 'url' or 'file'")


def _tools(body: Mapping[str, Any]) -> tuple[ToolOffer, ...]:
    offers = []
    for index, item in enumerate(fields.sequence(body.get("tools") or [], "tools")):
        tool = fields.mapping(item, f"tools.{index}")
        name = fields.text(tool, "name")
        if not _TOOL_NAME.fullmatch(name):
            raise BadRequest(f"tools.{index}.name: String should match '^[a-zA-Z0-9_-]{{1,128}}$'")
        if tool.get("type") in (None, "custom"):
            schema = fields.mapping(tool.get("input_schema"), f"tools.{index}.input_schema")
            if schema.get("type") != "object":
                raise BadRequest(f"tools.{index}.input_schema.type: Input should be 'object'")
            offers.append(ToolOffer(name, schema))
    return tuple(offers)


def _tool_choice(body: Mapping[str, Any], question: Question) -> Question:
    if body.get("tool_choice") is None:
        return question
    choice = fields.mapping(body["tool_choice"], "tool_choice")
    if not body.get("tools"):
        raise BadRequest("tool_choice: may only be specified while providing tools")
    question = replace(
        question, parallel=not fields.flag(choice, "disable_parallel_tool_use", default=False)
    )
    match choice.get("type"):
        case "auto":
            return question
        case "any":
            return replace(question, tool_mode=ToolMode.REQUIRED)
        case "none":
            return replace(question, tool_mode=ToolMode.NONE)
        case "tool":
            name = fields.text(choice, "name")
            _offered(question.tools, name)
            return replace(question, tool_mode=ToolMode.REQUIRED, tool_name=name)
    raise BadRequest("tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'")


def _offered(tools: Sequence[ToolOffer], name: str) -> None:
    if all(tool.name != name for tool in tools):
        raise BadRequest(f"tool_choice: Tool '{name}' not found in provided tools")


def _output_schema(body: Mapping[str, Any]) -> Any:
    config = fields.mapping(body.get("output_config") or {}, "output_config")
    if config.get("format") is None:
        return None
    wanted = fields.mapping(config["format"], "output_config.format")
    if wanted.get("type") != "json_schema":
        raise BadRequest("output_config.format.type: Input should be 'json_schema'")
    return fields.mapping(wanted.get("schema"), "output_config.format.schema")
