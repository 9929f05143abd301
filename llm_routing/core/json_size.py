"""Bounds the memory and time that a JSON text costs after decoding.

The size in bytes bounds neither: `[],[],…` takes twenty times as much memory as Python objects, the
wire formats spend microseconds on each object, and long numbers take quadratic time to write.
"""

import re
from dataclasses import dataclass
from typing import Final

# A string without escapes, or the rest of one that does not end. It matches at every quote, so a
# text takes linear time whether or not it is valid JSON.
_STRING: Final = re.compile(rb'"[^"]*(?:"|\Z)')
_QUOTES_PER_STRING: Final = 2


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """Maximum numbers of objects and arrays, of fields of objects, and of values of any kind in a
    text, and of bytes outside its strings: numbers, punctuation and white space."""

    containers: int
    fields: int
    values: int
    unquoted_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.containers} objects and arrays, {self.fields} fields, {self.values} values or "
            f"{self.unquoted_bytes} bytes outside of strings"
        )


REQUEST_LIMITS: Final = JsonLimits(30_000, 200_000, 400_000, 8 * 1024 * 1024)
"""A conversation that fills a context of a million tokens stays below these, and so do embeddings
of 300,000 token ids."""
ANSWER_LIMITS: Final = JsonLimits(200_000, 300_000, 1_000_000, 12 * 1024 * 1024)
"""An answer with 20 alternatives for each of 4,000 tokens stays below these."""
EMBEDDING_LIMITS: Final = JsonLimits(20_000, 50_000, 4_000_000, 128 * 1024 * 1024)
"""Vectors of 1,536 numbers for 2,048 texts stay below these."""
REPAIR_LIMITS: Final = JsonLimits(200, 50_000, 100_000, 4 * 1024 * 1024)
"""For texts that are not valid JSON: reading them takes ten times as long, and is recursive. None
of them may be larger than `unquoted_bytes`, strings included."""


def exceeds(data: bytes, limits: JsonLimits) -> bool:
    """Returns whether a JSON text holds more than `limits` allow."""
    if len(data) <= 2 * limits.containers:
        return False
    if len(data) <= limits.unquoted_bytes and _fits(data, limits):
        return False
    # Punctuation in strings is text, and so are escaped quotes.
    text = data
    if b"\\" in data:
        text = data.replace(rb"\\", b"").replace(rb"\"", b"")
    if text.count(b'"') > _QUOTES_PER_STRING * (limits.fields + limits.values + 1):
        return True
    unquoted = _STRING.sub(b"", text)
    return len(unquoted) > limits.unquoted_bytes or not _fits(unquoted, limits)


def _fits(data: bytes, limits: JsonLimits) -> bool:
    containers = data.count(b"{") + data.count(b"[")
    return (
        containers <= limits.containers
        and containers + data.count(b",") <= limits.values
        and data.count(b":") <= limits.fields
    )
