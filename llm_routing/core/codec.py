"""JSON in and out, strictly: the one place where bytes become values.

What a value means is for `llm_routing.formats`; here it is only well formed or not.
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
    """The value of a JSON text (RFC 8259).

    NaN, Infinity, lone surrogates, invalid UTF-8, nesting deeper than 200 levels and texts past
    `json_size.DECODE_LIMITS` are refused; of duplicate keys the last one counts, and since a body
    is always rebuilt from what was read, no two readers of it can disagree.

    Raises `ValueError`, whose message gives a position and never a piece of the text.
    """
    if isinstance(data, str):
        try:
            data = data.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"lone surrogate at character {error.start}") from None
    if exceeds(data, DECODE_LIMITS):
        raise ValueError("too many values")
    # msgspec is twice as fast, and what it takes it reads as pydantic does. But it takes any number
    # of levels, of which there are no more than brackets, and refuses what pydantic explains.
    if data.count(b"{") + data.count(b"[") <= MAX_NESTING:
        with suppress(ValueError, RecursionError):
            return _decode(data)
    return from_json(data, allow_inf_nan=False, cache_strings="keys")


def decode_lenient(data: bytes) -> Any:
    """As `decode`, of a text that need not be valid Unicode: a lone surrogate stays in its string,
    bytes that are not UTF-8 become U+FFFD, and NaN and Infinity are null. Raises `ValueError`.

    What it returns cannot be encoded before `core.unicode.whole` or `repair_strings` mended it.
    """
    if data.count(b"{") + data.count(b"[") > MAX_NESTING:
        raise ValueError("nested too deeply")
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
    return json.loads(text, parse_constant=_as_null)


def decode_repaired(data: bytes) -> Any:
    """As `decode`; a text that is not valid Unicode is read with U+FFFD for what is not, and NaN
    and Infinity are null. For what vendors write. Raises `ValueError`."""
    try:
        return decode(data)
    except ValueError:
        return repair_strings(decode_lenient(data))


def _as_null(_constant: str) -> None:
    """NaN and Infinity, which are not JSON but which Python servers write."""


encode_struct: Final[Callable[[Any], bytes]] = Encoder(decimal_format="string").encode
"""Encodes structs as JSON, with decimals as strings; `struct_decoder` returns the reverse."""


def struct_decoder(kind: type[T]) -> Callable[[bytes | str], T]:
    """Returns a decoder for JSON documents of type `kind`, a struct or made of structs. Unknown
    fields are skipped. It raises `ValueError`."""
    decode_kind = Decoder(kind).decode

    def read(data: bytes | str) -> T:
        try:
            return decode_kind(data)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    return read


def encode(value: Any) -> bytes:
    """The JSON text of `value`, in UTF-8 without spaces.

    A number too large for a double (1e400) is written as null, as JavaScript does. Raises
    `ValueError` for what JSON cannot say: a lone surrogate, a cycle, an unknown type.
    """
    try:
        return to_json(value, inf_nan_mode="null")
    except PydanticSerializationError as error:
        raise ValueError("the value cannot be written as JSON") from error
