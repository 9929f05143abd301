"""Deterministic unit vectors: texts with common words are closer together than other texts."""

import hashlib
import math
import re
import struct

DEFAULT_DIMENSIONS = 256
_WORD = re.compile(r"\w+|[^\w\s]")


def embed(text: str, dimensions: int) -> tuple[float, ...]:
    """Returns a vector of length one, in single precision, so that both encodings are equal."""
    sums = [0.0] * dimensions
    for word in _WORD.findall(text.casefold()) or [text]:
        digest = hashlib.sha256(word.encode()).digest()
        for (place,) in struct.iter_unpack(">I", digest):
            sums[(place >> 1) % dimensions] += 1.0 if place & 1 else -1.0
    if not any(sums):
        sums[0] = 1.0
    length = math.sqrt(math.fsum(value * value for value in sums))
    return struct.unpack(f"<{dimensions}f", pack([value / length for value in sums]))


def pack(vector: tuple[float, ...] | list[float]) -> bytes:
    """Returns the vector as little-endian 32-bit floats, as in `encoding_format: base64`."""
    return struct.pack(f"<{len(vector)}f", *vector)
