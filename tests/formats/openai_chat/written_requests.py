"""Writes requests for a vendor, for the tests of `write_request`."""

import json
from typing import Any

from llm_routing.core.ports import WireRequest
from llm_routing.core.quirks import Quirks
from llm_routing.core.routing_table import ModelSpec, ProviderSpec, Target
from llm_routing.core.types import LLMRequest
from llm_routing.formats.openai_chat.wire_format import OpenAIChat

OPEN = {"type": "object", "properties": {"city": {"type": "string"}}}


CLOSED = {**OPEN, "required": ["city"], "additionalProperties": False}


def target(
    *, capabilities: Any = (), model_quirks: Any = (), limit: Any = None, **quirks: Any
) -> Target:
    return Target(
        ProviderSpec("vendor", "vendor", "openai_chat", "https://v/v1", quirks=Quirks(**quirks)),
        ModelSpec(
            "vendor",
            "big-1",
            capabilities=frozenset(capabilities),
            quirks=frozenset(model_quirks),
            max_output_tokens=limit,
        ),
    )


def build(request: LLMRequest, aim: Target | None = None) -> tuple[dict[str, Any], WireRequest]:
    wire = OpenAIChat().write_request(request, aim or target())
    return json.loads(wire.body), wire
