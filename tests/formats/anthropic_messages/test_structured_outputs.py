"""Response formats, written for vendors of Anthropic Messages."""

import copy

import pytest

from llm_routing.core.content import (
    AnswerFormat,
    ResponseFormat,
)
from llm_routing.core.errors import UnsupportedRequest
from tests.formats.anthropic_messages.requests import HELD, ask, sent, target


class TestResponseFormat:
    def test_a_json_schema_is_written_in_output_config(self) -> None:
        wanted = ResponseFormat(
            AnswerFormat.JSON_SCHEMA,
            name="person",
            description="A person.",
            schema={"type": "object", "properties": {"name": {"type": "string"}}},
        )

        built, ignored = sent(ask(response_format=wanted), target("json_schema"))

        assert built["output_config"] == {
            "format": {
                "type": "json_schema",
                "schema": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}},
                    "additionalProperties": False,
                    "description": "A person.",
                },
            }
        }
        assert ignored == ()

    def test_json_schema_format_without_a_schema_asks_for_any_object(self) -> None:
        # With a schema without properties, the model could only answer {}.
        for schema in (None, {"type": "object"}):
            wanted = ResponseFormat(AnswerFormat.JSON_SCHEMA, schema=schema)
            built, ignored = sent(ask(response_format=wanted))

            assert "JSON object" in built["system"]
            assert "output_config" not in built
            assert ignored == ("response_format",)

    def test_a_model_without_structured_outputs_is_skipped(self) -> None:
        with pytest.raises(UnsupportedRequest, match="anthropic/claude-x"):
            sent(ask(response_format=HELD), target("chat"))

    def test_json_mode_is_requested_in_the_system_prompt(self) -> None:
        built, ignored = sent(
            ask(system_prompt="Hi.", response_format=ResponseFormat(AnswerFormat.JSON_OBJECT))
        )

        assert built["system"].startswith("Hi.\n")
        assert "JSON object" in built["system"]
        assert ignored == ("response_format",)

    def test_text_format_adds_nothing(self) -> None:
        built, ignored = sent(ask(response_format=ResponseFormat(AnswerFormat.TEXT)))

        assert "output_config" not in built
        assert ignored == ()

    def test_a_schema_is_rewritten_within_the_vendors_limits(self) -> None:
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "title": "T",
            "additionalProperties": True,
            "required": ["age"],
            "properties": {
                "age": {"type": "integer", "minimum": 0, "description": "Years."},
                "mail": {"type": "string", "format": "email", "maxLength": 9},
                "odd": {"type": "string", "format": "iri"},
                "kind": {"enum": ["a", "b"]},
                "one": {"oneOf": [{"type": "null"}, {"$ref": "#/$defs/Leaf"}]},
                "any": {"anyOf": [{"type": "null"}, True]},
                "list": {"type": "array", "items": {"properties": {}}, "minItems": 1},
                "pair": {"type": "array", "minItems": 2},
            },
            "$defs": {"Leaf": {"type": "object", "properties": {"x": {"const": 1}}}},
        }
        before = copy.deepcopy(schema)
        wanted = ResponseFormat(AnswerFormat.JSON_SCHEMA, schema=schema)

        built, ignored = sent(ask(response_format=wanted))

        assert ignored == ("response_format",)
        assert built["output_config"]["format"]["schema"] == {
            "type": "object",
            "title": "T",
            "additionalProperties": False,
            "required": ["age"],
            "properties": {
                "age": {"type": "integer", "description": 'Years. {"minimum":0}'},
                "mail": {"type": "string", "format": "email", "description": '{"maxLength":9}'},
                "odd": {"type": "string", "description": '{"format":"iri"}'},
                "kind": {"enum": ["a", "b"]},
                "one": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Leaf"}]},
                "any": {"anyOf": [{"type": "null"}, {}]},
                "list": {
                    "type": "array",
                    "items": {"properties": {}, "additionalProperties": False},
                    "minItems": 1,
                },
                "pair": {"type": "array", "description": '{"minItems":2}'},
            },
            "$defs": {
                "Leaf": {
                    "type": "object",
                    "properties": {"x": {"const": 1}},
                    "additionalProperties": False,
                }
            },
        }
        assert schema == before
