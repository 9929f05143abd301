"""Repairs text with half characters.

JSON can contain a lone surrogate (RFC 8259, section 8.2), UTF-8 cannot. Halves of one character are
joined; others become U+FFFD.
"""

import re
from collections.abc import Hashable
from typing import Any, Final

REPLACEMENT: Final = "\ufffd"

_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_LONE: Final = re.compile("[\ud800-\udfff]")


def repair_text(text: str) -> str:
    """Returns the text with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    return _LONE.sub(REPLACEMENT, _PAIR.sub(_joined, text))


def repair_strings(value: Any) -> Any:
    """Returns a decoded JSON value with every string repaired."""
    if isinstance(value, str):
        return repair_text(value)
    if isinstance(value, list):
        return [repair_strings(item) for item in value]
    if isinstance(value, dict):
        return {repair_text(name): repair_strings(item) for name, item in value.items()}
    return value


class SurrogateJoiner:
    """Joins characters that were cut between two pieces of a streamed text. `key` identifies the
    text."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[Hashable, str] = {}

    def __bool__(self) -> bool:
        """Whether a first half of a pair is held back."""
        return bool(self._held)

    def join(self, key: Hashable, piece: str) -> str:
        """Returns the repaired piece; a first half at its end is held back for the next piece."""
        text = self._held.pop(key, "") + piece
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._held[key] = text[-1]
            text = text[:-1]
        return repair_text(text)

    def flush(self, key: Hashable) -> str:
        """Returns U+FFFD if a half is held back at the end of the text, else an empty string."""
        return REPLACEMENT if self._held.pop(key, "") else ""


def _joined(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")
