"""Bounds the memory and time that a JSON text costs after decoding.

The size in bytes bounds neither: `[],[],…` takes twenty times as much memory as Python objects, and
the wire formats spend microseconds on each object.
"""

import re
from dataclasses import dataclass
from typing import Final

# A string without escapes, or the rest of one that does not end. It matches at every quote, so a
# text takes linear time whether or not it is valid JSON.
_STRING: Final = re.compile(rb'"[^"]*(?:"|\Z)')
_QUOTES_PER_VALUE: Final = 4
"""A string value and its name have two quotes each."""


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """Maximum numbers of objects and arrays, and of values of any kind, in a text."""

    containers: int
    values: int


REQUEST_LIMITS: Final = JsonLimits(containers=30_000, values=1_000_000)
"""A conversation that fills a context of a million tokens stays far below these."""
DECODE_LIMITS: Final = JsonLimits(containers=1_000_000, values=4_000_000)
"""An answer with 20 alternatives for each of 32,000 tokens stays below these."""


def exceeds(data: bytes, limits: JsonLimits) -> bool:
    """Returns whether a JSON text holds more than `limits` allow."""
    if len(data) <= 2 * limits.containers or _fits(data, limits):
        return False
    # Brackets and commas in strings are text, and so are escaped quotes.
    text = data.replace(rb"\\", b"").replace(rb"\"", b"")
    if text.count(b'"') > _QUOTES_PER_VALUE * (limits.values + 1):
        return True
    return not _fits(_STRING.sub(b"", text), limits)


def _fits(data: bytes, limits: JsonLimits) -> bool:
    containers = data.count(b"{") + data.count(b"[")
    return containers <= limits.containers and containers + data.count(b",") <= limits.values
