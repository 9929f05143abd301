"""Fits JSON Schemas of tools and answers to Anthropic."""

from typing import Any

import pytest

from llm_routing.core.errors import UnsupportedRequest
from tests.formats.vendor_requests import (
    ANTHROPIC,
    OLD,
    OPENAI,
    function,
    sent,
    target,
    tool,
)


class TestSchemasOfTools:
    @pytest.mark.parametrize("word", ["anyOf", "oneOf", "allOf"])
    def test_a_combination_at_the_top_level_becomes_one_object(self, word: str) -> None:
        branches = [
            {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}
            for name in ("a", "b")
        ]

        body, _ = sent(OPENAI, target("anthropic"), tools=[function("f", {word: branches})])

        schema = body["tools"][0]["input_schema"]
        assert schema["type"] == "object"
        assert schema["properties"].keys() == {"a", "b"}
        assert word not in schema
        assert schema.get("required") == (["a", "b"] if word == "allOf" else None)
        assert (word in schema.get("description", "")) == (word != "allOf")

    def test_an_anthropic_callers_schema_is_rewritten_if_it_would_be_refused(self) -> None:
        branch = {"type": "object", "properties": {"a": {"type": "string"}}}
        bash = {"type": "bash_20250124", "name": "bash"}
        tools = [tool("f", {"oneOf": [branch]}), tool("g", {"type": "object"}), bash]

        body, _ = sent(ANTHROPIC, target("anthropic"), tools=tools)

        first, *others = body["tools"]
        assert first["input_schema"]["properties"] == branch["properties"]
        assert "oneOf" not in first["input_schema"]
        assert others == tools[1:]

    @pytest.mark.parametrize("schema", [{"type": None, "properties": {}}, {"properties": {}}])
    def test_a_missing_type_becomes_object(self, schema: Any) -> None:
        body, _ = sent(OPENAI, target("anthropic"), tools=[function("f", schema)])

        assert body["tools"][0]["input_schema"] == {"type": "object", "properties": {}}


def parameters(count: int, schema: Any = None, *, required: bool = False) -> dict[str, Any]:
    names = [f"p{number}" for number in range(count)]
    return {
        "type": "object",
        "properties": dict.fromkeys(names, schema or {"type": "string"}),
        "required": names if required else [],
        "additionalProperties": False,
    }


EITHER = {"type": ["string", "null"]}


class TestStrictTools:
    @pytest.mark.parametrize("caller", [OPENAI, ANTHROPIC])
    @pytest.mark.parametrize(
        ("schemas", "strict"),
        [
            ([parameters(1, required=True)] * 21, 20),
            ([parameters(1, required=True)] * 25, 20),
            ([parameters(10)] * 3, 2),
            ([parameters(9, EITHER, required=True)] * 3, 1),
            ([parameters(20), parameters(9), parameters(4)], 2),
            ([parameters(1, {"type": "array", "items": parameters(13)})] * 2, 1),
            ([parameters(9, {"anyOf": [parameters(2, required=True)]}, required=True)] * 2, 1),
        ],
    )
    def test_as_many_tools_are_strict_as_the_vendor_accepts(
        self, caller: str, schemas: Any, strict: int
    ) -> None:
        write = function if caller == OPENAI else tool
        tools = [write(f"f{number}", schema, strict=True) for number, schema in enumerate(schemas)]

        body, ignored = sent(caller, target("anthropic"), tools=tools)

        assert [one["input_schema"] for one in body["tools"]] == schemas
        assert sum("strict" in one for one in body["tools"]) == strict
        assert ignored == ("tools.strict",)

    @pytest.mark.parametrize("caller", [OPENAI, ANTHROPIC])
    def test_no_tool_is_strict_for_a_model_without_structured_outputs(self, caller: str) -> None:
        write = function if caller == OPENAI else tool

        body, ignored = sent(
            caller, target("anthropic", OLD), tools=[write(strict=True), write("g")]
        )

        assert [one.get("strict") for one in body["tools"]] == [None, None]
        assert ignored == ("tools.strict",)

    def test_the_answers_schema_counts_towards_the_limit(self) -> None:
        schema = {"name": "a", "schema": parameters(20)}

        body, ignored = sent(
            OPENAI,
            target("anthropic"),
            tools=[function("f", parameters(5), strict=True)],
            response_format={"type": "json_schema", "json_schema": schema},
        )

        assert "strict" not in body["tools"][0]
        assert ignored == ("tools.strict",)

    def test_a_tool_with_an_open_map_is_not_strict_and_keeps_its_schema(self) -> None:
        schema = {"type": "object", "properties": {"labels": {"type": "object"}}}

        body, ignored = sent(
            OPENAI, target("anthropic"), tools=[function("f", schema, strict=True)]
        )

        assert body["tools"] == [{"name": "f", "input_schema": schema}]
        assert ignored == ("tools.strict",)

    def test_constraints_that_are_only_described_are_named(self) -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}

        body, ignored = sent(
            OPENAI, target("anthropic"), tools=[function("f", schema, strict=True)]
        )

        assert body["tools"][0]["strict"] is True
        assert "minimum" in body["tools"][0]["input_schema"]["properties"]["n"]["description"]
        assert ignored == ("tools.parameters",)


LEAF = {"type": "object", "properties": {"a": {"type": "string"}}}


def answered_with(schema: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    body, ignored = sent(OPENAI, target("anthropic"), response_format=wanted)
    return body["output_config"]["format"]["schema"], ignored


class TestSchemasOfAnswers:
    @pytest.mark.parametrize(
        "value",
        [
            {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
            {"type": "object", "patternProperties": {"^x": {}}},
            {"type": "object"},
            {"type": ["object", "null"]},
            {**LEAF, "additionalProperties": {"type": "string"}},
            {"$ref": "#"},
            {"$ref": "https://x/y"},
            {"$ref": "#/$defs/None"},
            {"$ref": 7},
            {"allOf": [LEAF, {"properties": {"a": {"type": "integer"}}}]},
            {"allOf": [{"type": "string"}, {"type": "integer"}]},
            {"allOf": [LEAF, False]},
            False,
        ],
    )
    def test_an_unsupported_schema_fails_over(self, value: Any) -> None:
        with pytest.raises(UnsupportedRequest):
            answered_with({"type": "object", "properties": {"labels": value}})

    @pytest.mark.parametrize(
        "definitions",
        [
            {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}},
            {
                "A": {"anyOf": [{"$ref": "#/$defs/B"}, {"type": "null"}]},
                "B": {"type": "array", "items": {"$ref": "#/$defs/A"}},
            },
        ],
    )
    def test_a_recursive_schema_fails_over(self, definitions: Any) -> None:
        with pytest.raises(UnsupportedRequest):
            answered_with(
                {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": definitions}
            )

    def test_a_schema_whose_references_multiply_fails_over(self) -> None:
        definitions: dict[str, Any] = {
            f"D{level}": {"allOf": [{"$ref": f"#/$defs/D{level + 1}"}] * 2} for level in range(40)
        }
        definitions["D40"] = LEAF

        with pytest.raises(UnsupportedRequest):
            answered_with({"allOf": [{"$ref": "#/$defs/D0"}, LEAF], "$defs": definitions})

    def test_a_long_chain_of_references_is_not_recursion(self) -> None:
        definitions: dict[str, Any] = {
            f"D{level}": {"type": "array", "items": {"$ref": f"#/$defs/D{level + 1}"}}
            for level in range(5000)
        }
        definitions["D5000"] = {"type": "string"}

        schema, ignored = answered_with({**LEAF, "$defs": definitions})

        assert len(schema["$defs"]) == 5001
        assert ignored == ()

    def test_all_of_branches_are_merged(self) -> None:
        other = {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]}

        schema, ignored = answered_with(
            {
                "description": "Both.",
                "allOf": [
                    {**LEAF, "required": ["a"], "description": "One."},
                    {"$ref": "#/$defs/B"},
                ],
                "$defs": {"B": other},
            }
        )

        assert schema == {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "required": ["a", "b"],
            "description": "One. Both.",
            "additionalProperties": False,
            "$defs": {"B": {**other, "additionalProperties": False}},
        }
        assert ignored == ()

    def test_all_of_with_one_reference_becomes_that_reference(self) -> None:
        schema, _ = answered_with(
            {
                "type": "object",
                "properties": {"a": {"allOf": [{"$ref": "#/$defs/A"}], "title": "T"}},
                "$defs": {"A": LEAF},
            }
        )

        assert schema["properties"]["a"] == {"$ref": "#/$defs/A", "title": "T"}

    @pytest.mark.parametrize(
        ("value", "written", "ignored"),
        [
            ({**LEAF, "additionalProperties": True}, LEAF, ("response_format",)),
            ({"enum": ["a", 1, None, True]}, {"enum": ["a", 1, None, True]}, ()),
            ({"enum": [{}]}, {"description": '{"enum":[{}]}'}, ("response_format",)),
            ({"const": []}, {"description": '{"const":[]}'}, ("response_format",)),
            (
                {"type": "array", "items": [True]},
                {"type": "array", "description": '{"items":[true]}'},
                ("response_format",),
            ),
            (
                {**LEAF, "anyOf": [{"required": ["a"]}]},
                {**LEAF, "description": '{"anyOf":[{"required":["a"]}]}'},
                ("response_format",),
            ),
            (
                {"default": {"$ref": "x"}, "type": "string"},
                {"default": {"$ref": "x"}, "type": "string"},
                (),
            ),
        ],
    )
    def test_other_keywords_are_kept_or_described_and_named(
        self, value: Any, written: Any, ignored: tuple[str, ...]
    ) -> None:
        schema, named = answered_with({"type": "object", "properties": {"x": value}})

        if "properties" in written:
            written = {**written, "additionalProperties": False}
        assert schema["properties"]["x"] == written
        assert named == ignored

    def test_a_closed_object_without_properties_stays_empty(self) -> None:
        schema, ignored = answered_with({"type": "object", "additionalProperties": False})

        assert schema == {"type": "object", "additionalProperties": False}
        assert ignored == ()
