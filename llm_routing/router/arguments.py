"""From the arguments of a call in process to a canonical request.

Messages and parameters have OpenAI's shape, so that there is one parser for them.
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
    """The request of a call in process; nothing given is mutated. Raises `InvalidRequest`."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    given = {name: value for name, value in params.items() if value is not None}
    # OpenAI's requests name a model; what is asked for here is said by the address below.
    request = _OPENAI.read_request({"model": "-", "messages": list(messages), **given})
    if system_prompt is not None and has_system_message(request):
        raise InvalidRequest(
            "There is a system message among the messages and a system prompt beside them; "
            "send one of the two.",
            field="system_prompt",
        )
    return replace(
        request,
        model=model,
        use_case=_word(use_case),
        tier=_word(tier),
        temperature=request.temperature if temperature is None else temperature,
        max_tokens=request.max_tokens if max_tokens is None else max_tokens,
        system_prompt=system_prompt,
        cache=cache,
        cache_ttl=cache_ttl,
        timeout=timeout,
        metadata=dict(metadata),
    )


def _word(given: str | Enum | None) -> str | None:
    """Members of enumerations of the caller's own name themselves where they are formatted."""
    return str(given.value) if isinstance(given, Enum) else given
