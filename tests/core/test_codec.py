"""Strict JSON: rejected texts, and error messages that quote nothing."""

import inspect
import math
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.codec import (
    MAX_NESTING,
    decode,
    decode_lenient,
    decode_repaired,
    encode,
    struct_decoder,
)
from llm_routing.core.types import Usage

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_encoded_values_decode_to_themselves(value: Any) -> None:
    assert decode(encode(value)) == value
    assert decode(encode(value).decode()) == value


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (rb'"a \ud83d b"', "a \ufffd b"),
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
        (rb'{"\ud83d": ["\udfff", 1, null, true]}', {"\ufffd": ["\ufffd", 1, None, True]}),
        (b'"\xed\xa0\xbd\xed\xb8\x80"', "😀"),
        (b'"\xf0\x9f"', "\ufffd"),
    ],
)
def test_invalid_unicode_can_be_repaired(body: bytes, value: Any) -> None:
    assert decode_repaired(body)[0] == value
    assert decode(encode(value)) == value


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_nan_and_infinity_from_vendors_become_null(constant: str) -> None:
    assert decode_repaired(f'{{"a": {constant}}}'.encode()) == ({"a": None}, True)


@pytest.mark.parametrize(
    "body", [b"", b'{"a": Nan}', b"[" * 100_000, b"[" * 300 + b"]" * 300, b'"\n"', b'"\xff']
)
def test_invalid_json_cannot_be_repaired(body: bytes) -> None:
    with pytest.raises(ValueError):
        decode_lenient(body)
    with pytest.raises(ValueError):
        decode_repaired(body)


def test_text_is_written_as_utf_8_without_spaces() -> None:
    assert encode({"a": ["é", 1, 0.5, None, True]}) == '{"a":["é",1,0.5,null,true]}'.encode()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "nul",
        "01",
        "{'a': 1}",
        '{"a": 1,}',
        '{"a": 1} {}',
        '{"a": NaN}',
        "Infinity",
        "-Infinity",
        r'"\ud800"',
        r'"\ud800\u0041"',
        '"\ud800"',
        '"\n"',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        "[" * 100_000,
        "1" * 5_000,
    ],
)
def test_invalid_json_is_rejected(body: str | bytes) -> None:
    with pytest.raises(ValueError):
        decode(body)


PIECES = st.text(st.sampled_from('[]{}:,"0129-+.eE\\untrfalsé\ud7ff \t\n\0')).map(str.encode)


@given(PIECES | VALUES.map(encode))
def test_a_text_means_the_same_however_many_brackets_follow_it(text: bytes) -> None:
    """Texts with more brackets than allowed levels are decoded by another parser."""
    many = b"[" + b"[]," * MAX_NESTING
    try:
        value = decode(b"[" + text + b"]")
    except ValueError:
        with pytest.raises(ValueError):
            decode(many + text + b"]")
    else:
        assert repr(decode(many + b"[" + text + b"]]")[-1]) == repr(value)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_ends_at_200_levels(opening: str, closing: str) -> None:
    value = decode(opening * 200 + "1" + closing * 200)
    assert decode(encode(value)) == value
    with pytest.raises(ValueError):
        decode(opening * 201 + "1" + closing * 201)


def test_the_last_of_duplicate_keys_counts() -> None:
    assert decode('{"a": 1, "a": 2}') == {"a": 2}


@given(st.sampled_from(['{"k": %s}', '["%s', '{"%s" 1}', '"\\u%s"', "%s", '{"k": 1} %s']))
def test_an_error_gives_a_position_and_quotes_no_text(shape: str) -> None:
    with pytest.raises(ValueError) as caught:
        decode(shape % "hunter2")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value)
    assert "column" in str(caught.value)


def test_a_lone_surrogate_is_rejected_without_quoting_its_neighbours() -> None:
    with pytest.raises(ValueError, match="character 8") as caught:
        decode('"hunter2\ud800"')
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__suppress_context__


def test_a_number_too_large_for_a_double_is_written_as_null() -> None:
    value = decode("[1e400, -1e400, 1]")
    assert value == [math.inf, -math.inf, 1]
    assert encode(value) == b"[null,null,1]"


def test_integers_keep_every_digit() -> None:
    assert decode("12345678901234567890123") == 12345678901234567890123


def cycle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", ["\ud800", {"\ud800": 1}, cycle(), object(), [object()], b"\xff"])
def test_values_that_json_cannot_represent_are_rejected(value: Any) -> None:
    with pytest.raises(ValueError, match="cannot be encoded"):
        encode(value)


def test_a_deep_call_stack_does_not_reduce_the_allowed_nesting() -> None:
    text = "[" * MAX_NESTING + "]" * MAX_NESTING

    def at(depth: int) -> Any:
        return at(depth - 1) if depth else decode(text)

    # The remaining stack has fewer frames than the text has levels.
    assert at(sys.getrecursionlimit() - len(inspect.stack()) - MAX_NESTING + 50)


def test_an_endlessly_nested_record_is_rejected() -> None:
    with pytest.raises(ValueError):
        struct_decoder(Usage)('{"junk":' + "[" * 100_000 + "]" * 100_000 + "}")
