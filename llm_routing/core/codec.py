"""Strict JSON decoding and encoding: the only place where bytes become values.

It checks only the syntax; `llm_routing.formats` interprets the values.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from msgspec.json import Decoder, Encoder
from pydantic_core import PydanticSerializationError, from_json, to_json

from .json_size import DECODE_LIMITS, exceeds
from .unicode import repair_strings

T = TypeVar("T")

MAX_NESTING: Final = 200

_decode: Final = Decoder().decode


def decode(data: bytes | str) -> Any:
    """Returns the value of a JSON text (RFC 8259).

    NaN, Infinity, lone surrogates, invalid UTF-8, nesting deeper than 200 levels and texts above
    `json_size.DECODE_LIMITS` are rejected. Of duplicate keys the last one counts; since bodies are
    always rebuilt from the decoded value, no two parsers can disagree on it.

    Raises `ValueError`, whose message gives a position and never quotes the text.
    """
    if isinstance(data, str):
        try:
            data = data.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"lone surrogate at character {error.start}") from None
    if exceeds(data, DECODE_LIMITS):
        raise ValueError("too many values")
    # msgspec is twice as fast and reads the same values as pydantic. But it accepts any nesting
    # depth (bounded here by the number of brackets), and pydantic explains errors better.
    if data.count(b"{") + data.count(b"[") <= MAX_NESTING:
        with suppress(ValueError, RecursionError):
            return _decode(data)
    return from_json(data, allow_inf_nan=False, cache_strings="keys")


def decode_lenient(data: bytes) -> Any:
    """Decodes a text that need not be valid Unicode: lone surrogates are kept, bytes that are not
    UTF-8 become U+FFFD, and NaN and Infinity become null. Raises `ValueError`.

    The result must pass through `core.unicode.repair_text` or `repair_strings` before it is
    encoded.
    """
    if data.count(b"{") + data.count(b"[") > MAX_NESTING:
        raise ValueError("nested too deeply")
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
    return json.loads(text, parse_constant=_as_null)


def decode_repaired(data: bytes) -> Any:
    """Decodes a vendor's text like `decode`, but replaces invalid Unicode by U+FFFD, and NaN and
    Infinity by null. Raises `ValueError`."""
    try:
        return decode(data)
    except ValueError:
        return repair_strings(decode_lenient(data))


def _as_null(_constant: str) -> None:
    """Replaces NaN and Infinity, which are not JSON but which Python servers write."""


encode_struct: Final[Callable[[Any], bytes]] = Encoder(decimal_format="string").encode
"""Encodes structs as JSON, with decimals as strings; `struct_decoder` returns the reverse."""


def struct_decoder(kind: type[T]) -> Callable[[bytes | str], T]:
    """Returns a decoder for JSON documents of type `kind`, a struct or a type made of structs.
    Unknown fields are skipped. The decoder raises `ValueError`."""
    decode_kind = Decoder(kind).decode

    def read(data: bytes | str) -> T:
        try:
            return decode_kind(data)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    return read


def encode(value: Any) -> bytes:
    """Returns the JSON text of `value`, in UTF-8 without spaces.

    A number too large for a double (1e400) is written as null, as JavaScript does. Raises
    `ValueError` for values that JSON cannot represent: lone surrogates, cycles, unknown types.
    """
    try:
        return to_json(value, inf_nan_mode="null")
    except PydanticSerializationError as error:
        raise ValueError("the value cannot be written as JSON") from error
