"""JSON Schema as Anthropic's structured outputs take it: a part of the standard.

Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

from collections.abc import Mapping
from typing import Any, Final

from llm_routing.core.codec import encode

_KEPT: Final = frozenset(
    ("$ref", "type", "enum", "const", "default", "description", "title", "required", "format")
)
_SCHEMAS: Final = frozenset(("anyOf", "allOf"))
_SCHEMAS_BY_NAME: Final = frozenset(("properties", "$defs", "definitions"))
_FORMATS: Final = frozenset(
    (
        "date-time",
        "time",
        "date",
        "duration",
        "email",
        "hostname",
        "uri",
        "ipv4",
        "ipv6",
        "uuid",
    )
)


def supported_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """`schema` within the limits of structured outputs.

    Every object is closed (`additionalProperties: false`), as the vendor demands. A constraint it
    refuses (`minimum`, `maxLength`, `pattern` …) is told to the model in the description instead.
    """
    result: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _SCHEMAS_BY_NAME and isinstance(value, Mapping):
            result[key] = {name: _supported(inner) for name, inner in value.items()}
        elif key in _SCHEMAS and isinstance(value, list):
            result[key] = [_supported(inner) for inner in value]
        elif key == "oneOf" and isinstance(value, list):
            result["anyOf"] = [_supported(inner) for inner in value]
        elif key == "items":
            result[key] = _supported(value)
        elif _is_kept(key, value):
            result[key] = value
        elif key not in ("additionalProperties", "$schema", "$id"):
            told[key] = value
    if result.get("type") == "object" or "properties" in result:
        result["additionalProperties"] = False
    if told:
        constraints = encode(told).decode()
        result["description"] = f"{result.get('description', '')} {constraints}".strip()
    return result


def _is_kept(key: str, value: Any) -> bool:
    if key == "format":
        return isinstance(value, str) and value in _FORMATS
    return key in _KEPT or (key == "minItems" and value in (0, 1))


def _supported(schema: Any) -> Any:
    return supported_schema(schema) if isinstance(schema, Mapping) else schema
