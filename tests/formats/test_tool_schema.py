"""Schemas of tools' arguments as one object."""

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


def test_an_object_is_left_as_it_is() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}

    assert object_schema(schema) is schema


@pytest.mark.parametrize(
    "schema", [{}, {"type": "object"}, {"type": None, "properties": {}}, {"type": None}]
)
def test_nothing_is_an_object_without_properties(schema: dict[str, Any]) -> None:
    assert object_schema(schema) == {"type": "object", "properties": {}}


@pytest.mark.parametrize("word", ["anyOf", "oneOf"])
def test_of_a_choice_only_what_every_branch_requires_is_required(word: str) -> None:
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


def test_all_of_is_one_object_without_a_word_of_it() -> None:
    merged = object_schema({"allOf": [branch("a"), branch("b"), True], "title": "T"})

    assert merged == {**branch("a", "b"), "title": "T"}


def test_what_a_branch_says_beyond_properties_is_told() -> None:
    merged = object_schema({"allOf": [{**branch("a"), "minProperties": 2}, branch("b")]})

    assert "minProperties" in merged["description"]


def test_one_property_of_two_kinds_is_either() -> None:
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
def test_references_to_nowhere_say_nothing(reference: Any) -> None:
    assert object_schema({"$ref": reference, "$defs": {}})["properties"] == {}


@pytest.mark.parametrize(
    "more", [{"type": ["object", "null"]}, {"enum": [1]}, {"not": {}}, {"const": {}}, {"if": {}}]
)
def test_what_else_has_no_place_at_the_top_is_told(more: dict[str, Any]) -> None:
    merged = object_schema({"properties": {"a": TEXT}, **more})

    assert merged.keys() == {"type", "properties", "description"}
    assert json.dumps(more, separators=(",", ":")) in merged["description"]


def test_references_that_multiply_end() -> None:
    again = {"$ref": "#/$defs/A"}
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [again] * 50, "oneOf": [again] * 50}}}

    assert object_schema(schema)["type"] == "object"


def test_a_large_branch_that_is_repeated_ends_and_is_told() -> None:
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
def test_whatever_is_written_an_object_comes_of_it(schema: dict[str, Any]) -> None:
    merged = object_schema(schema)

    assert merged["type"] == "object"
    assert isinstance(merged["properties"], dict)
    assert not merged.keys() & {"anyOf", "oneOf", "allOf", "enum", "not"}
    assert object_schema(merged) is merged
