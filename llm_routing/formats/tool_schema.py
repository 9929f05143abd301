"""Rewrites the schema of a tool's arguments as one object with named properties.

OpenAI and Anthropic refuse a schema whose top level is not an object or is a combination:
https://platform.openai.com/docs/guides/function-calling,
https://platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from llm_routing.core.codec import encode

from .lenient import objects_of, strings_of

COMBINATIONS: Final = ("anyOf", "oneOf", "allOf")
_REFUSED_AT_TOP: Final = (*COMBINATIONS, "enum", "const", "not", "if", "then", "else")
_MAX_LEVELS: Final = 16
# How many branches and properties are visited: references can multiply them without bound.
_MAX_STEPS: Final = 20_000
# Keywords that a branch may contain besides its properties and that the merged object still
# expresses fully.
_MERGED: Final = frozenset(
    ("type", "properties", "required", "additionalProperties", "title", "description")
)
# Keywords that are described instead if the schema is too large to merge.
_MERGED_WORDS: Final = ("allOf", "$ref")
_DEFINITIONS: Final = ("$defs", "definitions")


def object_schema(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns an equivalent schema that is one object, or `schema` itself if it is one already.

    Branches of `anyOf` and `oneOf` become properties of one object; only properties that every
    branch requires stay required. Branches of `allOf` are merged with all their requirements. The
    rest is written into the description.
    """
    properties = schema.get("properties")
    if (
        schema.get("type") == "object"
        and isinstance(properties, dict)
        and not any(name in schema for name in _REFUSED_AT_TOP)
    ):
        return schema
    return _Merged(schema).written()


def is_refused(schema: Mapping[str, Any]) -> bool:
    """Returns whether Anthropic refuses a tool's schema because of its top level."""
    return schema.get("type") != "object" or any(name in schema for name in COMBINATIONS)


class _Merged:
    """Merges a schema and the branches at its top into one object."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self._described: dict[str, Any] = {}
        self._properties: dict[str, Any] = {}
        self._required: list[str] = []
        self._steps_left = _MAX_STEPS

    def written(self) -> dict[str, Any]:
        """Returns the object."""
        root = self._root
        self._add(root, _MAX_LEVELS)
        if root.get("type") not in (None, "object"):
            self._described["type"] = root["type"]
        for name in _REFUSED_AT_TOP:
            if name in root and name != "allOf":
                self._described[name] = root[name]
        left_out = {*_REFUSED_AT_TOP, "type", "properties", "required", "description", "$ref"}
        written = {name: value for name, value in root.items() if name not in left_out}
        result: dict[str, Any] = {"type": "object", "properties": self._properties}
        if self._required:
            result["required"] = list(dict.fromkeys(self._required))
        result.update(written)
        if self._is_combined and result.get("additionalProperties") is not None:
            # It applied only to the properties beside the branches.
            del result["additionalProperties"]
        description = _description(root.get("description"), self._described)
        if description:
            result["description"] = description
        return result

    @property
    def _is_combined(self) -> bool:
        return "$ref" in self._root or any(name in self._root for name in COMBINATIONS)

    def _add(self, schema: Mapping[str, Any], levels: int) -> None:
        """Adds what always holds: the schema's own properties, and those of its branches."""
        required, properties = strings_of(schema.get("required")), schema.get("properties")
        found = properties if isinstance(properties, dict) else {}
        self._steps_left -= 1 + len(required) + len(found)
        if levels == 0 or (self._steps_left < 0 and schema is not self._root):
            self._described.update(
                (name, self._root[name]) for name in _MERGED_WORDS & self._root.keys()
            )
            return
        self._required += required
        self._add_properties(found)
        target = self._resolved(schema.get("$ref"))
        if target is not None:
            self._add(target, levels - 1)
        for branch in objects_of(schema.get("allOf")):
            self._add(branch, levels - 1)
            if branch.keys() - _MERGED - set(COMBINATIONS) - {"$ref"}:
                self._described.setdefault("allOf", self._root.get("allOf"))
        for name in ("anyOf", "oneOf"):
            self._add_choice(objects_of(schema.get(name)), levels - 1)

    def _add_choice(self, branches: Sequence[Mapping[str, Any]], levels: int) -> None:
        """Adds the properties of all branches, and requires those that every branch requires."""
        outer, everywhere = self._required, None
        for branch in branches:
            self._required = []
            self._add(branch, levels)
            found = set(self._required)
            everywhere = found if everywhere is None else everywhere & found
        self._required = [*outer, *sorted(everywhere or ())]

    def _add_properties(self, properties: Mapping[str, Any]) -> None:
        for name, value in properties.items():
            known = self._properties.get(name)
            if known is None or known == value:
                self._properties[name] = value
                continue
            choices = known["anyOf"] if _is_choice(known) else [known]
            if value not in choices:
                self._properties[name] = {"anyOf": [*choices, value]}

    def _resolved(self, reference: Any) -> Mapping[str, Any] | None:
        """Returns the definition within this schema that a reference points to."""
        if not isinstance(reference, str):
            return None
        for owner in _DEFINITIONS:
            definitions = self._root.get(owner)
            name = reference.removeprefix(f"#/{owner}/")
            if isinstance(definitions, dict) and isinstance(definitions.get(name), dict):
                found: Mapping[str, Any] = definitions[name]
                return found
        return None


def _is_choice(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.keys() == {"anyOf"}


def _description(text: Any, constraints: Mapping[str, Any]) -> str:
    description = text if isinstance(text, str) else ""
    if not constraints:
        return description
    schema = encode(constraints).decode()
    return f"{description} The arguments must also match this JSON Schema: {schema}".strip()
