"""Rewrites a JSON Schema to the subset that Anthropic's structured outputs accept.

Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from llm_routing.core.codec import encode

_KEPT: Final = frozenset(("$ref", "type", "default", "description", "title", "required"))
_SCHEMAS_BY_NAME: Final = frozenset(("properties", "$defs", "definitions"))
_DROPPED: Final = frozenset(("additionalProperties", "$schema", "$id", "$comment", "allOf"))
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
_REFERENCES: Final = ("#/$defs/", "#/definitions/")
# How many branches of `allOf` and properties in them are merged: references can multiply them
# without bound.
_MAX_MERGED: Final = 20_000


class UnsupportedSchemaError(Exception):
    """A schema that structured outputs could only answer wrongly: one with open maps, recursion,
    external references, or branches that contradict each other."""


def supported_schema(schema: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Returns `schema` within the limits of structured outputs, and whether a part of it is only
    described.

    Every object is closed (`additionalProperties: false`), as the vendor requires. Constraints that
    it refuses (`minimum`, `maxLength`, `pattern` …) are written into the description. `allOf` is
    merged. Raises `UnsupportedSchemaError`.
    """
    writer = _Writer(schema)
    return writer.written(schema), writer.is_told


class _Writer:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self.is_told = False
        self._definitions = {
            f"#/{owner}/{name}": value
            for owner in ("$defs", "definitions")
            for name, value in _mapping(root.get(owner)).items()
        }
        self._merges_left = _MAX_MERGED
        _refuse_recursion(root, self._definitions)

    def written(self, schema: Any) -> dict[str, Any]:
        """Returns one schema, rewritten with all its subschemas."""
        if schema is True:
            return {}
        if not isinstance(schema, Mapping):
            raise UnsupportedSchemaError
        schema = self._merged(schema)
        result: dict[str, Any] = {}
        told: dict[str, Any] = {}
        for key, value in schema.items():
            if key in _SCHEMAS_BY_NAME and isinstance(value, Mapping):
                result[key] = {name: self.written(inner) for name, inner in value.items()}
            elif key in ("anyOf", "oneOf") and isinstance(value, list) and not _is_object(schema):
                result["anyOf"] = [self.written(inner) for inner in value]
            elif key == "items" and not isinstance(value, list):
                result[key] = self.written(value)
            elif _is_kept(key, value):
                result[key] = value
            elif key not in _DROPPED:
                told[key] = value
        if _is_object(schema):
            self._close(schema, result)
        if told:
            self.is_told = True
            constraints = encode(told).decode()
            result["description"] = f"{result.get('description') or ''} {constraints}".strip()
        return result

    def _close(self, schema: Mapping[str, Any], result: dict[str, Any]) -> None:
        """Closes an object. Raises `UnsupportedSchemaError` if its property names are not known."""
        others = schema.get("additionalProperties")
        has_names = "properties" in schema
        is_map = isinstance(others, Mapping) and bool(others)
        if is_map or schema.get("patternProperties") or not (has_names or others is False):
            raise UnsupportedSchemaError
        if others is True:
            self.is_told = True
        result["additionalProperties"] = False

    def _merged(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the schema with the branches of its `allOf` merged."""
        branches = schema.get("allOf")
        if not isinstance(branches, list):
            return schema
        whole: dict[str, Any] = {}
        for branch in (*branches, {k: v for k, v in schema.items() if k != "allOf"}):
            if not isinstance(branch, Mapping):
                raise UnsupportedSchemaError
            if len(branches) > 1 and "$ref" in branch:
                rest = {key: value for key, value in branch.items() if key != "$ref"}
                branch = {**self._definitions[branch["$ref"]], **rest}
            merged = self._merged(branch)
            self._merges_left -= 1 + len(_mapping(whole.get("properties")))
            self._merges_left -= len(_mapping(merged.get("properties")))
            if self._merges_left < 0:
                raise UnsupportedSchemaError
            _merge(whole, merged)
        return whole


def _merge(whole: dict[str, Any], branch: Mapping[str, Any]) -> None:
    for key, value in branch.items():
        known = whole.get(key)
        if known is None or known == value:
            whole[key] = value
        elif key in _SCHEMAS_BY_NAME and isinstance(known, Mapping) and isinstance(value, Mapping):
            if any(name in known and known[name] != inner for name, inner in value.items()):
                raise UnsupportedSchemaError
            whole[key] = {**known, **value}
        elif key == "required" and isinstance(known, list) and isinstance(value, list):
            whole[key] = [*known, *(name for name in value if name not in known)]
        elif key in ("title", "description"):
            whole[key] = f"{known} {value}"
        else:
            raise UnsupportedSchemaError


def _refuse_recursion(root: Mapping[str, Any], definitions: Mapping[str, Any]) -> None:
    """Raises `UnsupportedSchemaError` for a reference that is external or recursive."""
    leads_to = {name: set(_references(value)) for name, value in definitions.items()}
    if not definitions.keys() >= set(_references(root)):
        raise UnsupportedSchemaError
    try:
        TopologicalSorter(leads_to).prepare()
    except CycleError:
        raise UnsupportedSchemaError from None


def _references(schema: Any) -> Iterable[Any]:
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key == "$ref":
                yield value if isinstance(value, str) else ""
            elif key not in ("enum", "const", "default", "examples"):
                yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)


def _is_object(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    return (
        kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema
    )


def _is_kept(key: str, value: Any) -> bool:
    match key:
        case "format":
            return isinstance(value, str) and value in _FORMATS
        case "enum":
            return isinstance(value, list) and not any(map(_is_compound, value))
        case "const":
            return not _is_compound(value)
        case "minItems":
            return value in (0, 1)
        case _:
            return key in _KEPT


def _is_compound(value: Any) -> bool:
    return isinstance(value, Mapping | list)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
