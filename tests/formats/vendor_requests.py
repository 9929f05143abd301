"""Callers' requests as fitted to each vendor, for tests of vendors' quirks."""

import json
from typing import Any

from llm_routing.core.quirks import ModelQuirk
from llm_routing.core.routing_table import ModelSpec, ProviderSpec, Target
from llm_routing.formats.registry import FORMATS
from llm_routing.vendors import VENDORS

OPENAI = "openai_chat"
ANTHROPIC = "anthropic_messages"
PLAIN = frozenset({"chat", "streaming", "tools", "vision", "json_schema", "reasoning"})
REASONING = PLAIN | {ModelQuirk.NO_SAMPLING}
OLD = PLAIN - {"json_schema"}
USER = {"role": "user", "content": "Hi"}
MARK = {"type": "ephemeral"}
# Fields of OpenAI's callers that change what the caller gets.
ESSENTIAL: tuple[dict[str, Any], ...] = (
    {"web_search_options": {}},
    {"modalities": ["text", "audio"]},
    {"moderation": {"model": "omni-moderation-latest"}},
    {"billing_policy": {"type": "billing_policy", "bill_to": "user_profile"}},
    {"plugins": [{"id": "web"}]},
    {"provider": {"data_collection": "deny"}},
    {"preset": "mine"},
    {"search_parameters": {"mode": "on"}},
    {"functions": [{"name": "f"}]},
    {"function_call": {"name": "f"}},
)
IMAGE_SOURCE = {"type": "base64", "media_type": "image/png", "data": "QUFB"}


def target(
    vendor: str,
    traits: frozenset[str] = PLAIN,
    *,
    model: str = "big-1",
    limit: int | None = None,
) -> Target:
    """Returns a vendor's model; `traits` are its capabilities and quirks."""
    row = VENDORS[vendor]
    return Target(
        ProviderSpec(vendor, vendor, row.format, row.base_url, quirks=row.quirks),
        ModelSpec(
            vendor,
            model,
            capabilities=traits.difference(ModelQuirk),
            quirks=traits.intersection(ModelQuirk),
            max_output_tokens=limit,
        ),
    )


def sent(caller: str, aim: Target, **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the request that the target receives for a caller's body, and the ignored fields."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    if caller == ANTHROPIC:
        body.setdefault("max_tokens", 4000)
    request = FORMATS[caller].read_request(body)
    wire = FORMATS[aim.provider.format].write_request(request, aim)
    return json.loads(wire.body), wire.ignored


def function(name: str = "f", parameters: Any = None, **more: Any) -> dict[str, Any]:
    """Returns a tool in OpenAI's format."""
    schema = parameters or {"type": "object", "properties": {"a": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "parameters": schema, **more}}


def tool(name: str = "f", schema: Any = None, **more: Any) -> dict[str, Any]:
    """Returns a tool in Anthropic's format."""
    given = schema or {"type": "object", "properties": {"a": {"type": "string"}}}
    return {"name": name, "input_schema": given, **more}


def call(call_id: str, name: str = "f", **more: Any) -> dict[str, Any]:
    """Returns a tool call in OpenAI's format."""
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": "{}"},
        **more,
    }


def result(call_id: str, content: str = "r") -> dict[str, Any]:
    """Returns a tool result in OpenAI's format."""
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def tool_use(call_id: str, name: str = "f") -> dict[str, Any]:
    """Returns a tool call in Anthropic's format."""
    return {"type": "tool_use", "id": call_id, "name": name, "input": {}}


def tool_result(call_id: str, content: Any = "r") -> dict[str, Any]:
    """Returns a tool result in Anthropic's format."""
    return {"type": "tool_result", "tool_use_id": call_id, "content": content}
