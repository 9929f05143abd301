"""Limits on how many objects and values a JSON text may hold."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.codec import decode, encode
from llm_routing.core.json_size import JsonLimits, exceeds

LIMITS = JsonLimits(containers=10, values=40)

VALUES = st.recursive(
    st.none() | st.integers() | st.text('a"\\[{,:é', max_size=8),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('"\\[{,', max_size=3), inner),
)


def count(value: object) -> tuple[int, int]:
    """The numbers of containers and of separators between values."""
    if not isinstance(value, list | dict):
        return 0, 0
    inner = [count(item) for item in (value.values() if isinstance(value, dict) else value)]
    containers = 1 + sum(found for found, _ in inner)
    return containers, max(len(value) - 1, 0) + sum(commas for _, commas in inner)


@given(VALUES, st.text('"\\[{,', min_size=20, max_size=40))
def test_only_what_is_outside_strings_counts(value: object, text: str) -> None:
    whole = [text, value]
    containers, commas = count(whole)
    is_over = containers > LIMITS.containers or containers + commas > LIMITS.values
    assert exceeds(encode(whole), LIMITS) is is_over


@pytest.mark.parametrize(
    ("data", "is_over"),
    [
        (b"[" + b"[]," * 9 + b"1]", False),
        (b"[" + b"[]," * 10 + b"1]", True),
        (b"[" + b"1," * 39 + b"1]", False),
        (b"[" + b"1," * 40 + b"1]", True),
        (b'["' + b"[" * 40 + b'"]', False),
        (b'["\\"' + b"[" * 40 + b'\\\\"]', False),
        (b'"' + b"[" * 40 + b"\\", False),
    ],
)
def test_the_bounds_are_exact(data: bytes, is_over: bool) -> None:
    assert exceeds(data, LIMITS) is is_over


def test_no_text_takes_more_than_linear_time() -> None:
    """Unterminated strings full of escaped quotes invite quadratic backtracking."""
    began = time.process_time()
    for piece in (b'\\"', b'"', b'"\\', b"\\", b'"a","'):
        exceeds(b'["' + b"[" * 50 + piece * 500_000, LIMITS)
    assert time.process_time() - began < 30


def test_a_text_with_millions_of_values_is_not_decoded() -> None:
    with pytest.raises(ValueError, match="too many values"):
        decode(b"[" + b"[]," * 1_000_001 + b"1]")
