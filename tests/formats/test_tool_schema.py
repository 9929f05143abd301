"""Rewrites schemas of tool arguments as one object."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.quirks import words
from llm_routing.formats.tool_schema import object_schema

TEXT = {"type": "string"}


def branch(*names: str, required: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": dict.fromkeys(names, TEXT)}
    return {**found, "required": list(names)} if required else found


def test_an_object_schema_is_unchanged() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}

    assert object_schema(schema) is schema


@pytest.mark.parametrize(
    "schema", [{}, {"type": "object"}, {"type": None, "properties": {}}, {"type": None}]
)
def test_an_empty_schema_becomes_an_object_without_properties(schema: dict[str, Any]) -> None:
    assert object_schema(schema) == {"type": "object", "properties": {}}


@pytest.mark.parametrize("word", ["anyOf", "oneOf"])
def test_only_properties_required_by_every_branch_stay_required(word: str) -> None:
    schema = {
        "description": "Says.",
        word: [branch("a", "c"), branch("b", "c")],
        "properties": {"d": TEXT},
        "required": ["d"],
        "additionalProperties": False,
    }

    merged = object_schema(schema)

    assert merged["type"] == "object"
    assert merged["properties"].keys() == {"a", "b", "c", "d"}
    assert merged["required"] == ["d", "c"]
    assert merged.keys() == {"type", "properties", "required", "description"}
    assert merged["description"].startswith("Says. ")
    assert json.dumps(schema[word], separators=(",", ":")) in merged["description"]


def test_all_of_becomes_one_object_without_a_description() -> None:
    merged = object_schema({"allOf": [branch("a"), branch("b"), True], "title": "T"})

    assert merged == {**branch("a", "b"), "title": "T"}


def test_other_constraints_of_a_branch_are_described() -> None:
    merged = object_schema({"allOf": [{**branch("a"), "minProperties": 2}, branch("b")]})

    assert "minProperties" in merged["description"]


def test_a_property_with_two_schemas_accepts_either() -> None:
    number = {"type": "integer"}
    schema = {
        "anyOf": [
            {"properties": {"a": TEXT}},
            {"properties": {"a": number}},
            {"properties": {"a": TEXT}},
            {"properties": {"a": {"type": "null"}}},
        ]
    }

    assert object_schema(schema)["properties"] == {"a": {"anyOf": [TEXT, number, {"type": "null"}]}}


@pytest.mark.parametrize("owner", ["$defs", "definitions"])
def test_references_are_followed(owner: str) -> None:
    schema = {"$ref": f"#/{owner}/A", owner: {"A": branch("a")}}

    assert object_schema(schema) == {**branch("a"), owner: {"A": branch("a")}}


@pytest.mark.parametrize("reference", ["https://x/y", "#/$defs/B", 7])
def test_unresolvable_references_are_ignored(reference: Any) -> None:
    assert object_schema({"$ref": reference, "$defs": {}})["properties"] == {}


@pytest.mark.parametrize(
    "more", [{"type": ["object", "null"]}, {"enum": [1]}, {"not": {}}, {"const": {}}, {"if": {}}]
)
def test_other_keywords_at_the_top_level_are_described(more: dict[str, Any]) -> None:
    merged = object_schema({"properties": {"a": TEXT}, **more})

    assert merged.keys() == {"type", "properties", "description"}
    assert json.dumps(more, separators=(",", ":")) in merged["description"]


def test_multiplying_references_are_bounded() -> None:
    again = {"$ref": "#/$defs/A"}
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [again] * 50, "oneOf": [again] * 50}}}

    assert object_schema(schema)["type"] == "object"


def test_a_large_repeated_branch_is_bounded_and_described() -> None:
    large = branch(*(f"p{number}" for number in range(5000)))
    again = {"$ref": "#/$defs/A"}
    schema = {"allOf": [again] * 5000, "$defs": {"A": large}}

    merged = object_schema(schema)

    assert len(merged["properties"]) == 5000
    assert "allOf" in merged["description"]


WORDS = sorted(words("type properties required anyOf oneOf allOf $ref $defs enum description not"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS) | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["type", "properties", "anyOf", "allOf", "$ref"]), VALUES))
def test_any_schema_becomes_an_object(schema: dict[str, Any]) -> None:
    merged = object_schema(schema)

    assert merged["type"] == "object"
    assert isinstance(merged["properties"], dict)
    assert not merged.keys() & {"anyOf", "oneOf", "allOf", "enum", "not"}
    assert object_schema(merged) is merged
