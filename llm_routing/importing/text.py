"""Words of a foreign file: which may be a secret, how they are shown, and how much of them is read.

Nothing here knows what the words mean.
"""

import re
from typing import Any, Final

from llm_routing.core.types import ModelTier

MAX_VALUES: Final = 200_000
MAX_DEPTH: Final = 50
MAX_USE_CASE: Final = 64
ENVIRONMENT: Final = "os.environ/"

# What a report says of a key that stands in a file.
CLEAR: Final = (
    "a key in clear text was found; it is never shown, and kept only with --store-keys, encrypted. "
    "Better put it into an environment variable, and take it out of the file"
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
    """The file is not what it should be; the message says why and quotes nothing of it."""


def looks_secret(text: str) -> bool:
    """Whether `text` holds what looks like a key, a token or an address with a password."""
    return _SECRET.search(text) is not None


def names_secret(name: str) -> bool:
    """Whether what stands under `name` is a secret, whatever it looks like."""
    return _SECRET_NAME.search(_CAMEL.sub("_", name)) is not None


def is_placeholder(text: str) -> bool:
    """Whether `text` stands where a key must, for a server that asks for none."""
    return text.strip().lower() in _PLACEHOLDERS


def variable(value: Any) -> str:
    """The environment variable that LiteLLM's `os.environ/NAME` speaks of; empty for others."""
    if isinstance(value, str) and value.startswith(ENVIRONMENT):
        return value.removeprefix(ENVIRONMENT).strip()
    return ""


def shown(value: Any, length: int = 80) -> str:
    """A word of the file as a report may show it: short, printable, and no secret."""
    text = str(value)
    if looks_secret(text):
        return "…"
    text = "".join(sign if sign.isprintable() else " " for sign in text[: length + 1])
    return text if len(text) <= length else text[: length - 1] + "…"


def use_case_name(name: str) -> str:
    """The use case that `name` of a file becomes: itself if callers can send it, else the nearest
    name; empty if there is none."""
    printable = "".join(sign if sign.isprintable() else " " for sign in name).strip()
    stem, colon, tier = printable.rpartition(":")
    if colon and tier in set(ModelTier):
        printable = f"{stem}-{tier}"
    return printable[:MAX_USE_CASE].strip()


def bounded(value: Any) -> Any:
    """A copy made of dictionaries, lists and scalars. Raises `CannotRead` for more values than a
    configuration has, which references to references (YAML's anchors) can make of a few lines."""
    left = [MAX_VALUES]

    def copy(item: Any, depth: int) -> Any:
        left[0] -= 1
        if left[0] < 0 or depth > MAX_DEPTH:
            raise CannotRead("It holds more than a configuration does.")
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
