"""Reads vendors' error messages."""

import pytest

from llm_routing.formats.vendor_messages import (
    mentions,
    outside_all_quotes,
    without_quotes,
)
from tests.formats.vendor_failures import MODEL


@pytest.mark.parametrize(
    ("text", "outside", "outside_all"),
    [
        ("A 'b' C", "a   c", "a  c"),
        ("the model's 'b' limit", "the model's   limit", "the model's  limit"),
        ('A "b" c `d` e', "a   c   e", "a  e"),
        ("A “b” c", "a   c", "a  c"),
        ("A 'b", "a  ", "a "),
        ("'it's here' now", "  now", " now"),
        ("plain", "plain", "plain"),
    ],
)
def test_quotations_are_removed(text: str, outside: str, outside_all: str) -> None:
    assert without_quotes(text) == outside
    assert outside_all_quotes(text).split() == outside_all.split()


@pytest.mark.parametrize(
    ("text", "is_mentioned"),
    [
        ("the model gpt-9.", True),
        ("the model gpt-9", True),
        ("gpt-9: gone", True),
        ("gpt-9.1 is gone", False),
        ("gpt-9-mini is gone", False),
        ("my-gpt-9 is gone, gpt-9 is not", True),
        ("my-gpt-9", False),
        ("", False),
    ],
)
def test_a_name_is_found_as_a_whole_word(text: str, is_mentioned: bool) -> None:
    assert mentions(text, MODEL) is is_mentioned
    assert not mentions(text, "")
