"""Whether OpenAI accepts a JSON Schema as strict."""

from typing import Any

import pytest

from llm_routing.formats.openai_chat.strict_schema import is_strict
from tests.formats.openai_chat.written_requests import CLOSED, OPEN


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        (CLOSED, True),
        ({"type": "string"}, True),
        (None, True),
        ({"type": "object", "additionalProperties": False}, True),
        (OPEN, False),
        ({"type": "object"}, False),
        ({"properties": {"city": {}}}, False),
        ({"oneOf": [OPEN]}, False),
        ({"allOf": [OPEN]}, False),
        ({"definitions": {"x": OPEN}}, False),
        ({**CLOSED, "required": []}, False),
        ({**CLOSED, "required": 3}, False),
        ({**CLOSED, "additionalProperties": True}, False),
        ({"type": "array", "items": CLOSED}, True),
        ({"type": "array", "items": OPEN}, False),
        ({"anyOf": [CLOSED, OPEN]}, False),
        ({"anyOf": [CLOSED, {"type": "null"}]}, True),
        ({"$ref": "#/$defs/x", "$defs": {"x": OPEN}}, False),
        ({**CLOSED, "properties": {"city": OPEN}}, False),
        ({"properties": ["no"], "type": "string", "enum": ["a"]}, True),
    ],
)
def test_every_object_of_a_strict_schema_is_closed(schema: Any, fits: bool) -> None:
    assert is_strict(schema) is fits


def test_a_too_deeply_nested_schema_is_not_strict() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(100):
        schema = {"type": "array", "items": schema}
    assert not is_strict(schema)
