"""One conversation and one answer, written out in both formats.

The tests send them between every pair of formats, complete and streamed."""

import json
from typing import Any

from llm_routing.core.routing_table import ModelSpec, ProviderSpec, Target
from llm_routing.formats.registry import FORMATS

OPENAI = "openai_chat"


ANTHROPIC = "anthropic_messages"


BOTH = (OPENAI, ANTHROPIC)


PIXEL = "iVBORw0KGgo="


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}


# The same question in both formats.
QUESTIONS: dict[str, dict[str, Any]] = {
    OPENAI: {
        "model": "debugging:premium",
        "max_tokens": 3000,
        "temperature": 0.5,
        "stop": ["END"],
        "user": "u-1",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                ],
            },
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "look", "arguments": '{"at":"it"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "A cat."},
            {"role": "user", "content": "So?"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA},
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
        },
    },
    ANTHROPIC: {
        "model": "debugging:premium",
        "max_tokens": 3000,
        "temperature": 0.5,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
        "system": "Be brief.",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me look."},
                    {"type": "tool_use", "id": "call_1", "name": "look", "input": {"at": "it"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "call_1",
                        "content": [{"type": "text", "text": "A cat."}],
                    },
                    {"type": "text", "text": "So?"},
                ],
            },
        ],
        "tools": [{"name": "look", "description": "Looks.", "input_schema": SCHEMA}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    },
}


def target(vendor: str) -> Target:
    return Target(
        ProviderSpec("vendor", "vendor", vendor, "https://vendor.example"),
        ModelSpec("vendor", "served"),
    )


def asked(caller: str, vendor: str, **changes: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the request that the vendor receives, and the ignored fields."""
    request = FORMATS[caller].read_request({**QUESTIONS[caller], **changes})
    wire = FORMATS[vendor].write_request(request, target(vendor))
    return json.loads(wire.body), wire.ignored
