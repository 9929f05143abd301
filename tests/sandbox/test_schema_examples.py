"""Generated values, checked by an independent JSON Schema validator."""

import contextlib
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.sandbox.schema import UnsatisfiableSchema, example

TREE = {
    "type": "object",
    "properties": {
        "value": {"type": "integer"},
        "children": {"type": "array", "items": {"$ref": "#"}},
    },
    "required": ["value", "children"],
    "additionalProperties": False,
}
LINKED = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["name", "next"],
            "additionalProperties": False,
        }
    },
}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"type": "object"},
        {"type": ["null", "string"]},
        {"const": {"a": [1]}},
        {"enum": [None, 3, "x"], "type": "string"},
        {"type": "string", "minLength": 12, "maxLength": 13},
        {"type": "string", "maxLength": 2},
        {"type": "string", "pattern": "^[A-Z]{3}-[0-9]+$"},
        {"type": "string", "pattern": "^#[0-9a-f]{6}$"},
        *({"type": "string", "format": name} for name in ("date", "date-time", "email", "uuid")),
        *({"type": "string", "format": name} for name in ("uri", "ipv4", "ipv6", "hostname")),
        {"type": "integer", "minimum": 10, "maximum": 10},
        {"type": "integer", "exclusiveMinimum": 10, "exclusiveMaximum": 12},
        {"type": "integer", "multipleOf": 7, "minimum": 8},
        {"type": "integer", "maximum": -5},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "number", "multipleOf": 0.25, "minimum": 0.3},
        {"type": "number", "minimum": 0.5, "exclusiveMinimum": 0.2},
        {"minimum": 3},
        {"type": "array", "items": {"type": "string"}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "uniqueItems": True},
        {"type": "array", "items": {"type": "integer"}, "minItems": 4, "uniqueItems": True},
        {"type": "array", "maxItems": 0, "items": {"type": "string"}},
        {"type": "array", "prefixItems": [{"type": "string"}, {"const": 2}], "items": False},
        {"type": "array", "contains": {"const": 5}, "items": {"type": "integer"}},
        {"required": ["a"], "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}}},
        {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 3},
        {"type": "object", "required": ["z"], "additionalProperties": {"type": "number"}},
        {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "maxProperties": 1},
        {"properties": {"optional": False, "kept": {"const": 1}}, "type": "object"},
        {"anyOf": [{"type": "string", "enum": []}, {"type": "integer"}]},
        {"oneOf": [{"type": "object", "required": ["a"]}, {"type": "null"}]},
        {"allOf": [{"required": ["a"]}, {"properties": {"a": {"const": 1}}}], "type": "object"},
        {"allOf": [{"minimum": 3}, {"minimum": 9}, {"type": "integer"}, {"type": "number"}]},
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "integer", "minimum": 3}}},
        {"properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        TREE,
        LINKED,
    ],
    ids=str,
)
def test_the_value_satisfies_the_schema(schema: Any):
    value = example(schema)
    assert example(schema) == value
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    assert list(validator.iter_errors(value)) == []


@pytest.mark.parametrize(
    "schema",
    [
        False,
        3,
        {"enum": []},
        {"type": "teapot"},
        {"type": []},
        {"type": 3},
        {"minimum": "a"},
        {"anyOf": []},
        {"$ref": "#/$defs/none"},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"type": "string", "minLength": 3, "maxLength": 2},
        {"type": "string", "minLength": 10**9},
        {"type": "string", "pattern": "^sandboxes of the world$"},
        {"type": "string", "pattern": "("},
        {"type": "array", "items": False, "minItems": 1},
        {"type": "array", "minItems": 10**9},
        {"type": "array", "items": {"const": 1}, "minItems": 2, "uniqueItems": True},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "integer", "multipleOf": 0},
        {"type": "object", "required": ["a"], "additionalProperties": False},
        {"type": "object", "minProperties": 1, "additionalProperties": False},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {
            "$ref": "#/$defs/0",
            "$defs": {
                str(n): {"anyOf": [{"$ref": f"#/$defs/{n + 1}"}] * 3} if n < 30 else False
                for n in range(31)
            },
        },
    ],
    ids=lambda schema: str(schema)[:60],
)
def test_an_unsatisfiable_schema_is_rejected(schema: Any):
    with pytest.raises(UnsatisfiableSchema):
        example(schema)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
keywords = st.sampled_from(
    [
        *("type", "enum", "const", "properties", "required", "items", "prefixItems", "minItems"),
        *("maxItems", "uniqueItems", "contains", "minLength", "maxLength", "pattern", "format"),
        *("minimum", "exclusiveMaximum", "multipleOf", "anyOf", "allOf", "$ref", "minProperties"),
    ]
)


@given(st.dictionaries(keywords, values))
def test_any_schema_is_satisfied_or_rejected(schema: dict[str, Any]):
    # Any other exception fails the test.
    with contextlib.suppress(UnsatisfiableSchema):
        assert example(schema) == example(schema)
