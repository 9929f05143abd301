"""Checks whether OpenAI accepts a JSON Schema with `strict: true`.

Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
"""

from collections.abc import Mapping
from typing import Any, Final

_MAX_DEPTH: Final = 32
_SCHEMAS: Final = ("items", "anyOf")
_REFUSED: Final = ("allOf", "oneOf", "not", "if", "patternProperties", "dependentSchemas")
_SCHEMAS_BY_NAME: Final = ("properties", "$defs", "definitions")


def is_strict(schema: Any) -> bool:
    """Returns whether every object in `schema` is closed and requires all its properties, and no
    keyword is one that OpenAI refuses."""
    return _is_strict(schema, _MAX_DEPTH)


def _is_strict(schema: Any, depth: int) -> bool:
    if isinstance(schema, list):
        return all(_is_strict(item, depth) for item in schema)
    if not isinstance(schema, Mapping):
        return True
    if depth == 0 or any(name in schema for name in _REFUSED):
        return False
    properties = _mapping(schema.get("properties"))
    if schema.get("type") == "object" or properties:
        required = schema.get("required")
        required = required if isinstance(required, list) else []
        is_closed = schema.get("additionalProperties") is False
        if not is_closed or any(name not in required for name in properties):
            return False
    inner = [schema.get(name) for name in _SCHEMAS]
    for name in _SCHEMAS_BY_NAME:
        inner += _mapping(schema.get(name)).values()
    return all(_is_strict(item, depth - 1) for item in inner)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
