"""Limits on how many objects and values a JSON text may hold."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.codec import decode, encode
from llm_routing.core.json_size import EMBEDDING_LIMITS, JsonLimits, exceeds

LIMITS = JsonLimits(containers=10, fields=20, values=40, unquoted_bytes=100)

VALUES = st.recursive(
    st.none() | st.integers() | st.text('a"\\[{,:é', max_size=8),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('"\\[{,', max_size=3), inner),
)


def count(value: object) -> tuple[int, int, int]:
    """The numbers of containers, of fields, and of separators between values."""
    if not isinstance(value, list | dict):
        return 0, 0, 0
    inner = [count(item) for item in (value.values() if isinstance(value, dict) else value)]
    containers = 1 + sum(found[0] for found in inner)
    fields = (len(value) if isinstance(value, dict) else 0) + sum(found[1] for found in inner)
    return containers, fields, max(len(value) - 1, 0) + sum(found[2] for found in inner)


def unquoted(value: object) -> bytes:
    """The JSON text without the contents of its strings."""
    if isinstance(value, str):
        return b""
    if isinstance(value, list):
        return b"[%b]" % b",".join(map(unquoted, value))
    if isinstance(value, dict):
        return b"{%b}" % b",".join(b":" + unquoted(item) for item in value.values())
    return encode(value)


@given(VALUES, st.text('"\\[{,', min_size=20, max_size=40))
def test_only_characters_outside_strings_count(value: object, text: str) -> None:
    whole = [text, value]
    containers, fields, separators = count(whole)
    is_over = containers > LIMITS.containers or containers + separators > LIMITS.values
    is_over = is_over or fields > LIMITS.fields
    is_over = is_over or len(unquoted(whole)) > LIMITS.unquoted_bytes
    assert exceeds(encode(whole), LIMITS) is is_over


@pytest.mark.parametrize(
    ("data", "is_over"),
    [
        (b"[" + b"[]," * 9 + b"1]", False),
        (b"[" + b"[]," * 10 + b"1]", True),
        (b"[" + b"1," * 39 + b"1]", False),
        (b"[" + b"1," * 40 + b"1]", True),
        (b'{"a":1' + b',"a":1' * 19 + b"}", False),
        (b'{"a":1' + b',"a":1' * 20 + b"}", True),
        (b"[" + b"1" * 98 + b"]", False),
        (b"[" + b"1" * 99 + b"]", True),
        (b'["' + b"1" * 99 + b'"]', False),
        (b'["' + b"[" * 40 + b'"]', False),
        (b'["\\"' + b"[" * 40 + b'\\\\"]', False),
        (b'"' + b"[" * 40 + b"\\", False),
    ],
)
def test_the_bounds_are_exact(data: bytes, is_over: bool) -> None:
    assert exceeds(data, LIMITS) is is_over


def test_every_text_takes_linear_time() -> None:
    """Unterminated strings full of escaped quotes invite quadratic backtracking."""
    began = time.process_time()
    for piece in (b'\\"', b'"', b'"\\', b"\\", b'"a","'):
        exceeds(b'["' + b"[" * 50 + piece * 500_000, LIMITS)
    assert time.process_time() - began < 30


def test_no_number_takes_more_than_linear_time() -> None:
    """msgspec alone takes 10 µs for 1e300, and half a minute for all of these."""
    began = time.process_time()
    assert len(decode(b"[" + b"1e300," * 3_000_000 + b"1]", EMBEDDING_LIMITS)) == 3_000_001
    assert time.process_time() - began < 20


def test_limits_are_named_in_full() -> None:
    text = "10 objects and arrays, 20 fields, 40 values or 100 bytes outside of strings"
    assert str(LIMITS) == text


def test_a_text_with_millions_of_values_is_not_decoded() -> None:
    with pytest.raises(ValueError, match="too many values"):
        decode(b"[" + b"[]," * 1_000_001 + b"1]")
