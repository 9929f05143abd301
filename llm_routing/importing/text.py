"""Handles strings from an imported file: detects secrets, shortens text for reports, limits sizes.

Knows nothing of their meaning.
"""

import re
from typing import Any, Final

from llm_routing.core.types import ModelTier

MAX_VALUES: Final = 200_000
MAX_DEPTH: Final = 50
MAX_USE_CASE: Final = 64
ENVIRONMENT: Final = "os.environ/"

# The report's remark on a key in a file.
CLEAR: Final = (
    "a key in clear text was found; it is never shown, and stored "
    "(encrypted) only with --store-keys. Better move it to an environment "
    "variable and remove it from the file"
)

_SECRET: Final = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|r8|pplx|nvapi|ghp|key|tok)[-_][A-Za-z0-9_-]{8,}"
    r"|\bAIza[\w-]{20,}|\bAKIA[0-9A-Z]{12,}|\beyJ[\w-]{20,}"
    r"|\b(?=[A-Za-z]*\d)[A-Za-z0-9]{32,}\b"
    r"|://[^/\s@]*:[^/\s@]+@"
)
_SECRET_NAME: Final = re.compile(
    r"(?:^|[_-])(?:api_?key|key|(?<!per_)token|secret|password|passwd|credentials?|authorization)$",
    re.IGNORECASE,
)
_PLACEHOLDERS: Final = frozenset(
    {"", "none", "null", "dummy", "empty", "fake", "fake-key", "na", "n/a", "no-key", "not-needed",
     "not-used", "ollama", "lm-studio", "sk-no-key-required", "x", "xxx", "anything"}
)  # fmt: skip
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class CannotRead(Exception):
    """The file cannot be imported; the message says why and quotes nothing from the file."""


def looks_secret(text: str) -> bool:
    """Returns whether `text` contains something like a key, a token or an address with a
    password."""
    return _SECRET.search(text) is not None


def names_secret(name: str) -> bool:
    """Returns whether a value with this `name` is a secret, whatever it looks like."""
    return _SECRET_NAME.search(_CAMEL.sub("_", name)) is not None


def is_placeholder(text: str) -> bool:
    """Returns whether `text` is a placeholder for a server that needs no key."""
    return text.strip().lower() in _PLACEHOLDERS


def variable(value: Any) -> str:
    """Returns the environment variable in LiteLLM's `os.environ/NAME`; empty for other text."""
    if isinstance(value, str) and value.startswith(ENVIRONMENT):
        return value.removeprefix(ENVIRONMENT).strip()
    return ""


def shown(value: Any, length: int = 80) -> str:
    """Returns a text from the file for a report: short, printable, and without secrets."""
    text = str(value)
    if looks_secret(text):
        return "…"
    text = "".join(sign if sign.isprintable() else " " for sign in text[: length + 1])
    return text if len(text) <= length else text[: length - 1] + "…"


def use_case_name(name: str) -> str:
    """Returns `name` if callers can send it as a use case, else the nearest valid name; empty if
    there is none."""
    printable = "".join(sign if sign.isprintable() else " " for sign in name).strip()
    stem, colon, tier = printable.rpartition(":")
    if colon and tier in set(ModelTier):
        printable = f"{stem}-{tier}"
    return printable[:MAX_USE_CASE].strip()


def bounded(value: Any) -> Any:
    """Returns a copy made of dictionaries, lists and scalars. Raises `CannotRead` for too many
    values, which nested references (YAML anchors) can create from a few lines."""
    left = [MAX_VALUES]

    def copy(item: Any, depth: int) -> Any:
        left[0] -= 1
        if left[0] < 0 or depth > MAX_DEPTH:
            raise CannotRead("It contains more values than a configuration has.")
        if isinstance(item, dict):
            return {copy_key(name): copy(inner, depth + 1) for name, inner in item.items()}
        if isinstance(item, list | tuple | set | frozenset):
            return [copy(inner, depth + 1) for inner in item]
        if item is None or isinstance(item, str | int | float | bool):
            return item
        return str(item)

    def copy_key(name: Any) -> Any:
        if isinstance(name, tuple):
            return tuple(str(part) for part in name)
        return str(name)

    return copy(value, 0)
