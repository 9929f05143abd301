"""Fits a request of Anthropic Messages to the model it goes to.

Reasoning settings are fitted in `reasoning`, enforced schemas in `strict_tools`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from llm_routing.core.capabilities import Capability
from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.routing_table import Target
from llm_routing.core.types import LLMRequest
from llm_routing.formats.ignored_fields import was_set_by_caller
from llm_routing.formats.tool_ids import split_signature
from llm_routing.formats.tool_names import fitted_name
from llm_routing.formats.tool_schema import is_refused, object_schema

from .reasoning import fit_own_thinking
from .strict_tools import fit_strict_tools

# https://platform.claude.com/docs/en/build-with-claude/prompt-caching
_MAX_CACHE_MARKS: Final = 4
_ASKING: Final = frozenset(("thinking", "output_config", "output_format"))
_IDS: Final = ("id", "tool_use_id")


def fit_limit(
    body: dict[str, Any], request: LLMRequest, target: Target, ignored: list[str]
) -> None:
    """Keeps `max_tokens` within the model's limit."""
    most = target.model.max_output_tokens
    if most is None or body["max_tokens"] <= most:
        return
    body["max_tokens"] = most
    asked = request.source.body if request.source else {}
    newer = asked.get("max_completion_tokens") is not None
    name = "max_completion_tokens" if newer else "max_tokens"
    if was_set_by_caller(request, name):
        ignored.append(name)


def fit_request(body: dict[str, Any], target: Target, ignored: list[str], *, is_own: bool) -> None:
    """Fits `body` in place and adds the names of ignored fields to `ignored`. If the body `is_own`,
    the caller's, only its outermost object is changed. Raises `UnsupportedRequest`."""
    if is_own and not _ASKING.isdisjoint(body):
        _check_answer(body, target)
        fit_own_thinking(body, target.model, ignored)
    fit_strict_tools(body, target, ignored, is_own=is_own)
    _fit_names_and_ids(body, target.provider.quirks.max_tool_name_length)
    if not is_own:
        _fit_cache_marks(body, ignored)


def _check_answer(body: Mapping[str, Any], target: Target) -> None:
    config = body.get("output_config")
    wanted = config.get("format") if isinstance(config, Mapping) else None
    if (wanted or body.get("output_format")) and not target.model.offers(Capability.JSON_SCHEMA):
        raise UnsupportedRequest(
            f"The model {target.model.key} does not support JSON Schema output."
        )


def _fit_names_and_ids(body: dict[str, Any], longest: int | None) -> None:
    if body.get("tools"):
        body["tools"] = [_with_object(_named(tool, longest)) for tool in body["tools"]]
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping):
        body["tool_choice"] = _named(choice, longest)
    body["messages"] = [_message(message, longest) for message in body["messages"]]


def _named(owner: Mapping[str, Any], longest: int | None) -> Mapping[str, Any]:
    """Returns a tool, a call or a choice with a name that the vendor accepts."""
    name = owner.get("name")
    if not isinstance(name, str) or (fitted := fitted_name(name, longest)) == name:
        return owner
    return {**owner, "name": fitted}


def _with_object(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the tool with a schema that is one object."""
    schema = tool.get("input_schema")
    if not isinstance(schema, Mapping) or not is_refused(schema):
        return tool
    return {**tool, "input_schema": object_schema(schema)}


def _message(message: Mapping[str, Any], longest: int | None) -> Mapping[str, Any]:
    content = message["content"]
    if isinstance(content, str):
        return message
    return {**message, "content": [_block(block, longest) for block in content]}


def _block(block: Mapping[str, Any], longest: int | None) -> Mapping[str, Any]:
    if block["type"] not in ("tool_use", "tool_result"):
        return block
    fitted = _named(block, longest)
    for name in _IDS:
        given = block.get(name)
        plain, signature = split_signature(given) if isinstance(given, str) else ("", None)
        if signature is not None:
            fitted = {**fitted, name: plain}
    return fitted


def _fit_cache_marks(body: dict[str, Any], ignored: list[str]) -> None:
    """Keeps the last cache marks if there are more than the vendor accepts: the last one caches
    everything before it."""
    marked = [block for block in _blocks(body) if "cache_control" in block]
    for block in marked[:-_MAX_CACHE_MARKS]:
        del block["cache_control"]
        ignored.append("cache_control")


def _blocks(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from body.get("tools") or ()
    system = body.get("system")
    yield from system if isinstance(system, list) else ()
    messages: Sequence[Mapping[str, Any]] = body["messages"]
    for message in messages:
        for block in message["content"]:
            yield from block.get("content") or () if block["type"] == "tool_result" else ()
            yield block
