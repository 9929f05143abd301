"""Generates a value that satisfies a JSON schema; equal schemas give equal values.

It supports the keywords of tool arguments and structured outputs (draft 2020-12); it is not a
validator.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

_MAX_NODES = 10_000
_MAX_ITEMS = 1_000
_MAX_STRING = 10_000
_DEEPEST = 48
_SHALLOW = 4

_BY_FORMAT = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T10:30:00Z",
    "time": "10:30:00Z",
    "duration": "PT1H",
    "email": "sandbox@example.com",
    "hostname": "sandbox.example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/sandbox",
    "url": "https://example.com/sandbox",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
# Candidates for `pattern`; a pattern that matches none of them is refused.
_CANDIDATES = (
    *("sandbox", "Sandbox", "SANDBOX", "a", "A", "ab", "AB", "abc", "ABC", "abcd", "ABCD"),
    *("0", "1", "12", "123", "1234", "12345", "123456", "12345678", "1234567890", "0.5", "1.50"),
    *("a1", "A1", "AB12", "ABC-123", "ABC123", "AB-1234", "abc-123", "a-b", "a_b", "a.b", "v1"),
    *("1.0.0", "v1.0.0", "en", "en-US", "USD", "#000000", "10:30", "10:30:00", "2026-01"),
    *("+15551234567", "555-1234", "(555)555-1234", "/sandbox", "sandbox.txt", "deadbeef", ""),
    *_BY_FORMAT.values(),
)


class UnsatisfiableSchema(ValueError):
    """No value was found: the schema contradicts itself, is invalid, or uses an unsupported
    keyword."""


def example(schema: Any) -> Any:
    """Returns a JSON value that satisfies `schema`. Raises `UnsatisfiableSchema`."""
    try:
        return _Builder(schema).build(schema)
    except UnsatisfiableSchema:
        raise
    except RecursionError as error:
        raise UnsatisfiableSchema("it never ends") from error
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UnsatisfiableSchema("a keyword has a value of the wrong type") from error


class _Builder:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._nodes = 0

    def build(self, schema: Any, name: str = "sandbox", depth: int = 0, variant: int = 0) -> Any:
        """`variant` asks for different values of one schema, for arrays of unique items."""
        self._count(depth)
        if schema is True:
            return name
        if not isinstance(schema, Mapping):
            raise UnsatisfiableSchema("a schema has to be an object")
        for flat in self._alternatives(schema, depth):
            try:
                return self._of_type(flat, name, depth, variant)
            except UnsatisfiableSchema as error:
                reason = error
        raise reason

    def _count(self, depth: int) -> None:
        self._nodes += 1
        if self._nodes > _MAX_NODES or depth > _DEEPEST:
            raise UnsatisfiableSchema("it is too large or never ends")

    def _alternatives(self, schema: Mapping[str, Any], depth: int) -> Iterator[Mapping[str, Any]]:
        """Returns the schemas without `$ref`, `allOf`, `anyOf` and `oneOf`, one for each
        combination of branches."""
        self._count(depth)
        flat = dict(schema)
        hops = 0
        while "$ref" in flat:
            hops += 1
            if hops > _DEEPEST:
                raise UnsatisfiableSchema("a $ref points at itself")
            flat = _both(self._resolve(flat.pop("$ref")), flat)
        for part in flat.pop("allOf", ()):
            flat = _both(flat, next(self._alternatives(part, depth)))
        for keyword in ("anyOf", "oneOf"):
            if keyword in flat:
                options = list(flat.pop(keyword))
                if not options:
                    raise UnsatisfiableSchema(f"{keyword} is empty")
                if depth >= _SHALLOW:
                    options.sort(key=lambda option: option != {"type": "null"})
                for option in options:
                    yield from self._alternatives(_both(flat, option), depth)
                return
        yield flat

    def _resolve(self, reference: str) -> Mapping[str, Any]:
        if not reference.startswith("#"):
            raise UnsatisfiableSchema(f"the $ref {reference!r} points outside the schema")
        found = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(step)] if isinstance(found, list) else found[step]
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise UnsatisfiableSchema(f"the $ref {reference!r} points at nothing") from error
        if not isinstance(found, Mapping):
            raise UnsatisfiableSchema(f"the $ref {reference!r} points at no schema")
        return found

    def _of_type(self, schema: Mapping[str, Any], name: str, depth: int, variant: int) -> Any:
        kinds = _kinds(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            fitting = [value for value in schema["enum"] if _kind(value) & set(kinds)]
            if not fitting:
                raise UnsatisfiableSchema("no value of the enum fits the type")
            return fitting[variant % len(fitting)]
        kind = "null" if "null" in kinds and depth > _SHALLOW else kinds[0]
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "string":
                return _string(schema, name, variant)
            case "integer" | "number":
                return _number(schema, kind == "integer", variant)
            case "boolean":
                return variant % 2 == 0
            case "null":
                return None
        raise UnsatisfiableSchema(f"unknown type {kind!r}")

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties", {})
        required: Sequence[str] = schema.get("required", ())
        additional = schema.get("additionalProperties", True)
        most = schema.get("maxProperties", _MAX_ITEMS)
        value: dict[str, Any] = {}
        spare = most - len(set(required))
        for key, sub in properties.items():
            if key in required:
                value[key] = self.build(sub, key, depth + 1)
            elif depth < _SHALLOW and spare > 0:
                try:
                    value[key] = self.build(sub, key, depth + 1)
                    spare -= 1
                except UnsatisfiableSchema:
                    # An optional property that no value satisfies is left out.
                    continue
        for key in required:
            if key not in value:
                if additional is False:
                    raise UnsatisfiableSchema(f"{key!r} is required and not allowed")
                value[key] = self.build(additional, key, depth + 1)
        number = 0
        while len(value) < schema.get("minProperties", 0):
            number += 1
            if additional is False or number > _MAX_ITEMS:
                raise UnsatisfiableSchema("minProperties asks for more than is allowed")
            value.setdefault(f"extra{number}", self.build(additional, "extra", depth + 1))
        return value

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        prefix: Sequence[Any] = schema.get("prefixItems", ())
        items = schema.get("items", True)
        least = schema.get("minItems", 0)
        most = schema.get("maxItems", _MAX_ITEMS)
        wanted = max(least, len(prefix), int(depth < _SHALLOW and items is not False))
        if items is False:
            wanted = min(wanted, len(prefix))
        wanted = min(wanted, most)
        if wanted < least or wanted > _MAX_ITEMS:
            raise UnsatisfiableSchema("minItems asks for more than is allowed")
        schemas = [*prefix[:wanted], *[items] * (wanted - len(prefix))]
        if "contains" in schema and schema.get("minContains", 1) > 0:
            missing = schema.get("minContains", 1)
            schemas = [schema["contains"]] * missing + schemas[missing:]
        unique = schema.get("uniqueItems", False)
        value: list[Any] = []
        for index, sub in enumerate(schemas):
            item = self.build(sub, name, depth + 1, index if unique else 0)
            if unique and item in value:
                raise UnsatisfiableSchema("there are not enough unique items")
            value.append(item)
        return value


def _both(first: Mapping[str, Any], second: Any) -> dict[str, Any]:
    """Returns a schema with the constraints of both, as far as keywords can be combined."""
    if second is True:
        return dict(first)
    if not isinstance(second, Mapping):
        raise UnsatisfiableSchema("a schema has to be an object")
    joined = {**first, **second}
    for keyword in first.keys() & second.keys():
        one, other = first[keyword], second[keyword]
        match keyword:
            case "properties" | "$defs":
                shared = {key: _both(one[key], other[key]) for key in one.keys() & other.keys()}
                joined[keyword] = {**one, **other, **shared}
            case "required":
                joined[keyword] = [*one, *(key for key in other if key not in one)]
            case "allOf":
                joined[keyword] = [*one, *other]
            case "enum":
                joined[keyword] = [value for value in one if value in other]
            case "type":
                common = [kind for kind in _listed(one) if kind in _listed(other)]
                if not common and {*_listed(one), *_listed(other)} >= {"integer", "number"}:
                    common = ["integer"]
                if not common:
                    raise UnsatisfiableSchema("two types exclude each other")
                joined[keyword] = common
            case "minimum" | "exclusiveMinimum" | "minLength" | "minItems" | "minProperties":
                joined[keyword] = max(one, other)
            case "maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties":
                joined[keyword] = min(one, other)
            case "additionalProperties":
                joined[keyword] = False if one is False else other
    return joined


def _listed(kind: Any) -> list[str]:
    return [kind] if isinstance(kind, str) else list(kind)


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    """Returns the types that a schema allows, the most likely first and null last."""
    if "type" in schema:
        kinds = sorted(_listed(schema["type"]), key=lambda kind: kind == "null")
        if not kinds:
            raise UnsatisfiableSchema("no type is allowed")
        return kinds
    hints = {
        "object": ("properties", "required", "additionalProperties", "minProperties"),
        "array": ("items", "prefixItems", "minItems", "contains"),
        "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    }
    found = [kind for kind, keywords in hints.items() if any(key in schema for key in keywords)]
    return [*found, *(kind for kind in _ALL_KINDS if kind not in found)]


_ALL_KINDS = ("string", "object", "array", "number", "integer", "boolean", "null")


def _kind(value: Any) -> set[str]:
    match value:
        case bool():
            return {"boolean"}
        case int():
            return {"integer", "number"}
        case float():
            return {"number", "integer"} if value.is_integer() else {"number"}
        case str():
            return {"string"}
        case list():
            return {"array"}
        case dict():
            return {"object"}
    return {"null"}


def _string(schema: Mapping[str, Any], name: str, variant: int) -> str:
    least = schema.get("minLength", 0)
    most = schema.get("maxLength", _MAX_STRING)
    if least > most or least > _MAX_STRING:
        raise UnsatisfiableSchema("no string has such a length")
    if "pattern" in schema:
        try:
            pattern = re.compile(schema["pattern"])
        except re.error as error:
            raise UnsatisfiableSchema("the pattern is no regular expression") from error
        fitting = [
            text
            for text in (name, *_CANDIDATES)
            if least <= len(text) <= most and pattern.search(text)
        ]
        if len(fitting) <= variant:
            raise UnsatisfiableSchema("the sandbox knows no text that the pattern matches")
        return fitting[variant]
    text = _BY_FORMAT.get(schema.get("format", ""), name)
    if variant:
        text = f"{text}{variant}" if most >= len(text) + 4 else f"{variant}"
    return text.ljust(least, "x")[:most]


def _number(schema: Mapping[str, Any], whole: bool, variant: int) -> int | float:
    step = Decimal(str(schema.get("multipleOf", 1 if whole else 0)))
    if step <= 0 and "multipleOf" in schema:
        raise UnsatisfiableSchema("multipleOf has to be above 0")
    if whole and step != step.to_integral_value():
        step *= step.as_integer_ratio()[1]
    low, low_open = _bound(schema, "minimum", "exclusiveMinimum", max)
    high, high_open = _bound(schema, "maximum", "exclusiveMaximum", min)

    def fits(value: Decimal) -> bool:
        above = low is None or (value > low if low_open else value >= low)
        below = high is None or (value < high if high_open else value <= high)
        return above and below

    grid = step or Decimal(1)
    start = Decimal(1) if low is None else low
    if low is None and high is not None:
        start = min(start, high - grid)
    tried = [grid * (math.ceil(start / grid) + offset) for offset in (0, 1)]
    if fits(Decimal(1)) and (not step or 1 % step == 0):
        tried.insert(0, Decimal(1))
    if high is not None:
        tried.append(grid * math.floor(high / grid))
    if not step and low is not None and high is not None:
        tried += [(low + high) / 2, low, high]
    for value in tried:
        moved = value + grid * variant
        if fits(moved):
            return int(moved) if moved == moved.to_integral_value() else float(moved)
    raise UnsatisfiableSchema("no number lies between the bounds")


def _bound(
    schema: Mapping[str, Any], closed: str, opened: str, stricter: Any
) -> tuple[Decimal | None, bool]:
    given = [Decimal(str(schema[key])) for key in (closed, opened) if key in schema]
    if not given:
        return None, False
    bound = stricter(given)
    return bound, opened in schema and Decimal(str(schema[opened])) == bound
