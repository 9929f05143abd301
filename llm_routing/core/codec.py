"""Strict JSON decoding and encoding: the only place where bytes become values.

It checks only the syntax; `llm_routing.formats` interprets the values.
"""

import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

from msgspec.json import Decoder, Encoder
from pydantic_core import PydanticSerializationError, from_json, to_json

from .json_size import ANSWER_LIMITS, REPAIR_LIMITS, JsonLimits, exceeds
from .unicode import repair_strings

T = TypeVar("T")

MAX_NESTING: Final = 200
_MAX_SMALL_BYTES: Final = 4096

_decode: Final = Decoder().decode


class TooManyValues(ValueError):
    """A JSON text contains more values than its limits allow."""


def decode(data: bytes | str, limits: JsonLimits = ANSWER_LIMITS) -> Any:
    """Returns the value of a JSON text (RFC 8259).

    NaN, Infinity, lone surrogates, invalid UTF-8, nesting deeper than 200 levels and texts above
    `limits` are rejected. Of duplicate keys the last one counts; since bodies are always rebuilt
    from the decoded value, no two parsers can disagree on it.

    Raises `TooManyValues`, or `ValueError`, whose message gives a position and never quotes the
    text.
    """
    if isinstance(data, str):
        try:
            data = data.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"lone surrogate at character {error.start}") from None
    if exceeds(data, limits):
        raise TooManyValues("too many values")
    # msgspec is faster for small texts and reads the same values as pydantic. But it accepts any
    # nesting depth (bounded here by the number of brackets), pydantic explains errors better, and
    # a number such as 1e300 takes msgspec 10 µs.
    if len(data) <= _MAX_SMALL_BYTES and data.count(b"{") + data.count(b"[") <= MAX_NESTING:
        try:  # `suppress` takes a microsecond, and every body comes by here
            return _decode(data)
        except (ValueError, RecursionError):
            pass
    return from_json(data, allow_inf_nan=False, cache_strings="keys")


def decode_lenient(data: bytes) -> Any:
    """Decodes a text that need not be valid Unicode: lone surrogates are kept, bytes that are not
    UTF-8 become U+FFFD, and NaN and Infinity become null. Raises `ValueError`, and `TooManyValues`
    for a text above `json_size.REPAIR_LIMITS`.

    The result must pass through `core.unicode.repair_text` or `repair_strings` before it is
    encoded.
    """
    if len(data) > REPAIR_LIMITS.unquoted_bytes or exceeds(data, REPAIR_LIMITS):
        raise TooManyValues("too many values")
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
    return json.loads(text, parse_constant=_as_null)


def decode_repaired(data: bytes, limits: JsonLimits = ANSWER_LIMITS) -> tuple[Any, bool]:
    """Decodes a vendor's text like `decode`, but replaces invalid Unicode by U+FFFD, and NaN and
    Infinity by null. Returns the value, and whether it was repaired. Raises `TooManyValues` or
    `ValueError`."""
    try:
        return decode(data, limits), False
    except TooManyValues:
        raise
    except ValueError:
        return repair_strings(decode_lenient(data)), True


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
        raise ValueError("the value cannot be encoded as JSON") from error
