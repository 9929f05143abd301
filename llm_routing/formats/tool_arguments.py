"""Measures the arguments of tool calls, JSON texts inside other texts, without decoding them."""

import re
from collections.abc import Iterable
from typing import Final

from llm_routing.core.content import Part, ToolCallPart
from llm_routing.core.json_size import JsonLimits, exceeds

_MARK: Final = re.compile(r'\\(?:.|\Z)|["{}\[\]]', re.DOTALL)


def arguments_exceed(parts: Iterable[Part], limits: JsonLimits) -> bool:
    """Returns whether the arguments of all tool calls in `parts` together exceed `limits`."""
    texts = [part.arguments for part in parts if isinstance(part, ToolCallPart)]
    return bool(texts) and exceeds("\n".join(texts).encode("utf-8", "surrogatepass"), limits)


class ObjectScanner:
    """Tells when a JSON object that arrives in pieces is complete. It takes linear time, and does
    not check that the text is valid."""

    __slots__ = ("_cut", "_depth", "_in_string", "is_complete")

    def __init__(self) -> None:
        self.is_complete = False
        self._depth = 0
        self._in_string = False
        # A backslash at the end of a piece, which escapes the first character of the next one.
        self._cut = ""

    def feed(self, piece: str) -> None:
        """Takes the next piece."""
        piece, self._cut = self._cut + piece, ""
        for match in _MARK.finditer(piece):
            mark = match[0]
            if mark == '"':
                self._in_string = not self._in_string
            elif mark == "\\":
                self._cut = mark
            elif not self._in_string and mark in "{[":
                self._depth += 1
            elif not self._in_string and mark in "}]":
                self._depth -= 1
                self.is_complete = self.is_complete or self._depth == 0
