"""The schema of a tool's arguments as vendors take it: one object, with its properties named.

OpenAI and Anthropic refuse a schema whose top is not an object, or is a choice of several:
https://platform.openai.com/docs/guides/function-calling,
https://platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from llm_routing.core.codec import encode

COMBINATIONS: Final = ("anyOf", "oneOf", "allOf")
_REFUSED_AT_TOP: Final = (*COMBINATIONS, "enum", "const", "not", "if", "then", "else")
_MAX_LEVELS: Final = 16
# Branches and properties that are looked at: references can multiply them without end.
_MAX_STEPS: Final = 20_000
# What a branch may say besides its properties and still be told in full by the merged object.
_MERGED: Final = frozenset(
    ("type", "properties", "required", "additionalProperties", "title", "description")
)
# What is told instead where it is too much to be merged.
_MERGED_WORDS: Final = ("allOf", "$ref")
_DEFINITIONS: Final = ("$defs", "definitions")


def object_schema(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema for the same arguments that is one object; `schema` itself if it is so already.

    Branches of `anyOf` and `oneOf` become properties of one object, of which only those are
    required that every branch requires; those of `allOf` are all required. What cannot be said so
    is told in the description.
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
    """Whether Anthropic refuses the schema of a tool for what stands at its top."""
    return schema.get("type") != "object" or any(name in schema for name in COMBINATIONS)


class _Merged:
    """One object out of a schema and the branches at its top."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self._told: dict[str, Any] = {}
        self._properties: dict[str, Any] = {}
        self._required: list[str] = []
        self._steps_left = _MAX_STEPS

    def written(self) -> dict[str, Any]:
        """The object."""
        root = self._root
        self._add(root, _MAX_LEVELS)
        if root.get("type") not in (None, "object"):
            self._told["type"] = root["type"]
        for name in _REFUSED_AT_TOP:
            if name in root and name != "allOf":
                self._told[name] = root[name]
        left_out = {*_REFUSED_AT_TOP, "type", "properties", "required", "description", "$ref"}
        written = {name: value for name, value in root.items() if name not in left_out}
        result: dict[str, Any] = {"type": "object", "properties": self._properties}
        if self._required:
            result["required"] = list(dict.fromkeys(self._required))
        result.update(written)
        if self._is_combined and result.get("additionalProperties") is not None:
            # It was meant for the properties beside the branches alone.
            del result["additionalProperties"]
        description = _description(root.get("description"), self._told)
        if description:
            result["description"] = description
        return result

    @property
    def _is_combined(self) -> bool:
        return "$ref" in self._root or any(name in self._root for name in COMBINATIONS)

    def _add(self, schema: Mapping[str, Any], levels: int) -> None:
        """Adds what always holds: the schema's own properties, and its branches'."""
        required, properties = _strings(schema.get("required")), schema.get("properties")
        found = properties if isinstance(properties, dict) else {}
        self._steps_left -= 1 + len(required) + len(found)
        if levels == 0 or (self._steps_left < 0 and schema is not self._root):
            self._told.update(
                (name, self._root[name]) for name in _MERGED_WORDS & self._root.keys()
            )
            return
        self._required += required
        self._add_properties(found)
        target = self._resolved(schema.get("$ref"))
        if target is not None:
            self._add(target, levels - 1)
        for branch in _branches(schema, "allOf"):
            self._add(branch, levels - 1)
            if branch.keys() - _MERGED - set(COMBINATIONS) - {"$ref"}:
                self._told.setdefault("allOf", self._root.get("allOf"))
        for name in ("anyOf", "oneOf"):
            self._add_choice(_branches(schema, name), levels - 1)

    def _add_choice(self, branches: Sequence[Mapping[str, Any]], levels: int) -> None:
        """Adds what one of the branches may hold, and requires what each of them does."""
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
        """The definition that a reference within this schema means."""
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


def _branches(schema: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    branches = schema.get(name)
    if not isinstance(branches, list):
        return []
    return [branch for branch in branches if isinstance(branch, dict)]


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _description(text: Any, told: Mapping[str, Any]) -> str:
    said = text if isinstance(text, str) else ""
    if not told:
        return said
    return f"{said} The arguments must also match this JSON Schema: {encode(told).decode()}".strip()
