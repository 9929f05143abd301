"""Limits the number of enforced schemas in one request, and chooses the tools that keep `strict`.

Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs (limits)
"""

from collections.abc import Iterator, Mapping
from typing import Any

from llm_routing.core.capabilities import Capability
from llm_routing.core.quirks import StrictLimits
from llm_routing.core.routing_table import Target

from .strict_schema import UnsupportedSchemaError, supported_schema

_SCHEMAS_BY_NAME = ("properties", "$defs", "definitions")
_SCHEMAS = ("anyOf", "oneOf", "allOf")


def fit_strict_tools(
    body: dict[str, Any], target: Target, ignored: list[str], *, is_own: bool
) -> None:
    """Keeps `strict` on as many tools as vendor and model accept, in their order, and removes it
    from the others. Schemas of callers of another format are rewritten to the subset that the
    vendor enforces."""
    tools = body.get("tools")
    if not tools or not any(tool.get("strict") for tool in tools):
        return
    can_enforce = target.model.offers(Capability.JSON_SCHEMA)
    room = _StrictBudget(target.provider.quirks.strict_limits)
    room.take(_schema_of_answer(body), is_tool=False)
    body["tools"] = [
        _fitted(tool, room if can_enforce else None, ignored, is_own=is_own) for tool in tools
    ]


def _schema_of_answer(body: Mapping[str, Any]) -> Any:
    config = body.get("output_config")
    wanted = config.get("format") if isinstance(config, Mapping) else None
    return wanted.get("schema") if isinstance(wanted, Mapping) else None


def _fitted(
    tool: Mapping[str, Any], room: "_StrictBudget | None", ignored: list[str], *, is_own: bool
) -> Mapping[str, Any]:
    if not tool.get("strict"):
        return tool
    schema, is_told = tool.get("input_schema"), False
    is_possible = room is not None and isinstance(schema, Mapping)
    if is_possible and not is_own:
        try:
            schema, is_told = supported_schema(schema or {})
        except UnsupportedSchemaError:
            is_possible = False
    if room is None or not is_possible or not room.take(schema, is_tool=True):
        ignored.append("tools.strict")
        return {name: value for name, value in tool.items() if name != "strict"}
    if is_told:
        ignored.append("tools.parameters")
    return {**tool, "input_schema": schema}


class _StrictBudget:
    """The remainder of the vendor's limits."""

    def __init__(self, limits: StrictLimits | None) -> None:
        self._limits = limits
        self._tools = self._optional = self._unions = 0

    def take(self, schema: Any, *, is_tool: bool) -> bool:
        """Returns whether the schema still fits. If it does, it is counted."""
        limits = self._limits
        optional = unions = 0
        for is_required, parameter in _parameters(schema):
            optional += not is_required
            unions += _is_union(parameter)
        if (
            limits is not None
            and is_tool
            and not (
                self._tools < limits.tools
                and self._optional + optional <= limits.optional_parameters
                and self._unions + unions <= limits.union_parameters
            )
        ):
            return False
        self._tools += is_tool
        self._optional += optional
        self._unions += unions
        return True


def _parameters(schema: Any) -> Iterator[tuple[bool, Any]]:
    """Yields the properties of all objects in a schema, and whether they are required."""
    if not isinstance(schema, Mapping):
        return
    properties = schema.get("properties")
    required = schema.get("required")
    if isinstance(properties, Mapping):
        for name, value in properties.items():
            yield isinstance(required, list) and name in required, value
    inner = [schema.get("items")]
    for name in _SCHEMAS_BY_NAME:
        found = schema.get(name)
        inner += found.values() if isinstance(found, Mapping) else ()
    for name in _SCHEMAS:
        found = schema.get(name)
        inner += found if isinstance(found, list) else ()
    for item in inner:
        yield from _parameters(item)


def _is_union(schema: Any) -> bool:
    return isinstance(schema, Mapping) and (
        isinstance(schema.get("type"), list) or "anyOf" in schema or "oneOf" in schema
    )
