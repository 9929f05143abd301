"""Failures of calls to vendors, for the tests of error attribution."""

import json
from typing import Any

from llm_routing.core.errors import (
    UpstreamError,
)
from llm_routing.core.routing_table import ModelSpec, ProviderSpec, Target
from llm_routing.core.types import LLMRequest
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from llm_routing.formats.operations import (
    ChatOperation,
)

MODEL = "gpt-9"


OPENAI = ProviderSpec("first", "openai", "openai_chat", "http://upstream.test/v1")


ANTHROPIC = ProviderSpec("claude", "anthropic", "anthropic_messages", "http://upstream.test")


CHAT = frozenset({"chat"})


def parsed(provider: ProviderSpec, **body: Any) -> LLMRequest:
    """Returns a request in the format of `provider`."""
    body.setdefault("messages", [{"role": "user", "content": "Hi"}])
    speaks = OpenAIChat() if provider is OPENAI else AnthropicMessages()
    return speaks.read_request({"model": "any", "max_tokens": 9, **body})


def chat(provider: ProviderSpec, **body: Any) -> tuple[ChatOperation, Target]:
    """Returns a request that is relayed to `provider`."""
    model = ModelSpec(provider.name, MODEL, capabilities=CHAT)
    return ChatOperation(parsed(provider, **body)), Target(provider, model)


def failure(
    status: int, answer: Any, provider: ProviderSpec = OPENAI, **body: Any
) -> UpstreamError:
    """Returns the reviewed error of a response to a request."""
    operation, target = chat(provider, **body)
    error = operation.map_error(target, status, {}, json.dumps(answer).encode())
    operation.review(target, error)
    return error
