"""Opens a file of another router, detects its kind, and reads it into a plan.

The kinds: a Python file with mappings, the same as JSON or YAML, and LiteLLM's `config.yaml`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from llm_routing.system.extras import missing_extra

from . import litellm, mappings
from .litellm_settings import SECTIONS
from .plan import Draft, Plan
from .python_source import read_python
from .text import CLEAR, CannotRead, bounded, is_placeholder, looks_secret, names_secret, variable

MAX_BYTES: Final = 4 * 1024 * 1024


def read(path: Path, *, environ: Mapping[str, str], through: str = "") -> Plan:
    """Returns the plan for a file. `through` is the vendor that served names with an author before
    the slash (`anthropic/claude-…` at OpenRouter). Raises `CannotRead`."""
    text = _text(path)
    draft = Draft(environ)
    if path.suffix.lower() == ".py":
        found = read_python(draft, text)
        if not found:
            raise CannotRead("It contains no mapping of use cases, such as MODEL_MAPPINGS.")
        for name, value in found:
            mappings.read_mappings(draft, value, name, through=through)
        return draft.plan(mappings.SOURCE)
    document = bounded(_document(path, text))
    if not isinstance(document, dict | list) or not document:
        raise CannotRead("It contains no configuration.")
    _find_secrets(draft, document, "")
    if isinstance(document, dict) and not SECTIONS.isdisjoint(document):
        litellm.read_litellm(draft, document)
        return draft.plan(litellm.SOURCE)
    for name, value in _mappings(draft, document):
        mappings.read_mappings(draft, value, name, through=through)
    return draft.plan(mappings.SOURCE)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CannotRead(f"It cannot be opened: {error.strerror}.") from None
    if len(data) > MAX_BYTES:
        raise CannotRead(f"It is larger than {MAX_BYTES // 1024 // 1024} MiB.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CannotRead("It is not text in UTF-8.") from None


def _document(path: Path, text: str) -> Any:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _json(text)
    if suffix in (".yaml", ".yml"):
        if message := missing_extra("Reading YAML", "import", "yaml"):
            raise CannotRead(message)
        from .yaml_source import read_yaml

        return read_yaml(text)
    raise CannotRead("Its name must end in .py, .json, .yaml or .yml.")


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise CannotRead(f"It is not valid JSON: line {error.lineno} cannot be read.") from None
    except (RecursionError, ValueError):
        raise CannotRead("It cannot be read.") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise CannotRead("One of its objects has a duplicate name, so a value would be lost.")
    return found


def _mappings(draft: Draft, document: Any) -> list[tuple[str, Any]]:
    """Returns the mappings of a document: the values under known names, or the document itself."""
    if isinstance(document, dict):
        named = [
            name
            for name, value in document.items()
            if name.lower().replace("-", "_").endswith(("mapping", "mappings", "routes"))
            and isinstance(value, dict | list)
        ]
        if named:
            for name in document:
                if name not in named:
                    draft.skip(
                        name, "its name is not one of a mapping of use cases; it is not read"
                    )
            return [(name, document[name]) for name in named]
    return [("", document)]


def _find_secrets(draft: Draft, value: Any, where: str) -> None:
    """Reports every key in a document, without repeating it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            place = f"{where}.{name}" if where else str(name)
            if isinstance(inner, str):
                is_named = names_secret(str(name)) and not variable(inner)
                if (looks_secret(inner) or is_named) and not is_placeholder(inner):
                    draft.skip(place, CLEAR)
            else:
                _find_secrets(draft, inner, place)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            place = f"{where}[{number}]"
            if isinstance(inner, str):
                if looks_secret(inner):
                    draft.skip(place, CLEAR)
            else:
                _find_secrets(draft, inner, place)
