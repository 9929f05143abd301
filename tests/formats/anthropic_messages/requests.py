"""Requests of callers and for vendors, for the tests of `read_request` and `write_request`."""

import json
from typing import Any

from llm_routing.core.content import (
    AnswerFormat,
    ImagePart,
    Message,
    Part,
    ResponseFormat,
    Role,
    TextPart,
    ToolResultPart,
)
from llm_routing.core.quirks import ModelQuirk
from llm_routing.core.routing_table import ModelSpec, ProviderSpec, Target
from llm_routing.core.types import LLMRequest
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages

FORMAT = AnthropicMessages()


IMAGE = {"type": "base64", "media_type": "image/png", "data": "aGk="}


def target(*traits: str, max_output_tokens: int | None = None) -> Target:
    """Returns a model of Anthropic; `traits` are its capabilities and quirks."""
    return Target(
        ProviderSpec("anthropic", "anthropic", "anthropic_messages", "https://api.anthropic.com"),
        ModelSpec(
            "anthropic",
            "claude-x",
            capabilities=frozenset(traits).difference(ModelQuirk),
            quirks=frozenset(traits).intersection(ModelQuirk),
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


HELD = ResponseFormat(AnswerFormat.JSON_SCHEMA, schema={"type": "object", "properties": {}})
