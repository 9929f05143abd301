"""Request fields that a route must allow, because they change the model, provider or price that the
operator chose, or make a vendor call out to other servers.

Sources: https://openrouter.ai/docs/guides/routing/model-fallbacks and the pages beside it,
https://platform.openai.com/docs/api-reference/chat/create,
https://platform.claude.com/docs/en/api/messages, https://console.groq.com/docs/compound
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from llm_routing.core.embeddings import EmbeddingRequest
from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.types import LLMRequest

RequestT = TypeVar("RequestT", LLMRequest, EmbeddingRequest)

SERVER_TOOLS: Final = "server_tools"
"""Tools that the vendor runs: web search, code execution, the caller's MCP servers."""

# Without these the answer is of the same kind. They are left out and named.
_LEFT_OUT: Final = frozenset(
    ("fallbacks", "models", "route", "service_tier", "speed", "transforms")
)
RESTRICTED_ESSENTIALS: Final = frozenset(
    (
        "billing_policy",
        "compound_custom",
        "inference_geo",
        "mcp_servers",
        "plugins",
        "preset",
        "provider",
        "search_parameters",
        "web_search_options",
    )
)
"""Without these the caller would get something other than it asked for, so they are refused."""
RESTRICTED: Final = tuple(sorted((*_LEFT_OUT, *RESTRICTED_ESSENTIALS, SERVER_TOOLS)))
"""The fields that a route can allow."""

# Values that do not change the price.
_USUAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "service_tier": ("auto", "default", "standard", "standard_only"),
    "speed": ("standard",),
    "inference_geo": ("global",),
}
_CLOSED: Final = _LEFT_OUT | RESTRICTED_ESSENTIALS
# Prefixes of the types of tools that callers run themselves, and of Anthropic's tool search.
_OF_CALLERS: Final = (
    "function",
    "custom",
    "bash_",
    "computer_",
    "memory_",
    "text_editor_",
    "tool_search_tool_",
)


def without_restricted_fields(
    request: RequestT, allowed: frozenset[str]
) -> tuple[RequestT, tuple[str, ...]]:
    """Returns the request without its restricted fields, and the names of those left out. Raises
    `UnsupportedRequest` for a restricted field that cannot be left out."""
    source = request.source
    if source is None:
        return request, ()
    body = source.body
    asked = () if _CLOSED.isdisjoint(body) else _asked(body, allowed)
    for name in asked:
        if name in RESTRICTED_ESSENTIALS:
            raise _refusal(f"The field {name}", name)
    if "tools" in body and SERVER_TOOLS not in allowed:
        _check_tools(body["tools"])
    if not asked:
        return request, ()
    kept = {name: value for name, value in body.items() if name not in asked}
    return replace(request, source=replace(source, body=kept)), tuple(asked)


def _asked(body: Mapping[str, Any], allowed: frozenset[str]) -> list[str]:
    return [
        name
        for name, value in body.items()
        if name in _CLOSED
        and name not in allowed
        and value not in (None, [], "")
        and value not in _USUAL.get(name, ())
    ]


def _check_tools(tools: Any) -> None:
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and not kind.startswith(_OF_CALLERS):
            raise _refusal("A tool that the provider runs", SERVER_TOOLS)


def _refusal(what: str, name: str) -> UnsupportedRequest:
    return UnsupportedRequest(
        f"{what} can change the price, the model or the destination of data, so it is not allowed "
        f"by default. An operator can add {name} to the allowed fields of a route."
    )
