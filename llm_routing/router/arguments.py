"""Converts the arguments of an in-process call to a canonical request.

Messages and parameters have OpenAI's shape, so OpenAI's parser reads them.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from msgspec.structs import replace

from llm_routing.core.errors import InvalidRequest
from llm_routing.core.planner import has_system_message
from llm_routing.core.types import LLMRequest
from llm_routing.formats.openai_chat.wire_format import OpenAIChat

Messages = str | Sequence[Mapping[str, Any]]

_OPENAI = OpenAIChat()


def build_request(
    messages: Messages,
    *,
    model: str | None,
    use_case: str | None,
    tier: str | None,
    temperature: float | None,
    max_tokens: int | None,
    system_prompt: str | None,
    cache: bool | None,
    cache_ttl: int | None = None,
    timeout: float | None,
    metadata: Mapping[str, str],
    params: Mapping[str, Any],
) -> LLMRequest:
    """Returns the request of an in-process call; the arguments are not mutated. Raises
    `InvalidRequest`."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    given = {name: value for name, value in params.items() if value is not None}
    # The parser requires a model; the address below decides which one is used.
    request = _OPENAI.read_request({"model": "-", "messages": list(messages), **given})
    if system_prompt is not None and has_system_message(request):
        raise InvalidRequest(
            "Send either a system message or a system prompt, not both.",
            field="system_prompt",
        )
    return replace(
        request,
        model=model,
        use_case=_plain(use_case),
        tier=_plain(tier),
        temperature=request.temperature if temperature is None else temperature,
        max_tokens=request.max_tokens if max_tokens is None else max_tokens,
        system_prompt=system_prompt,
        cache=cache,
        cache_ttl=cache_ttl,
        timeout=timeout,
        metadata=dict(metadata),
    )


def _plain(given: str | Enum | None) -> str | None:
    """Returns the value of an enumeration member, because formatting a caller's own enumeration
    gives the member's name."""
    return str(given.value) if isinstance(given, Enum) else given
