"""Fields that may be left out of a request, and fields that may not."""

from typing import Any

import pytest

from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.types import Source
from llm_routing.formats.ignored_fields import (
    READ_FIELDS,
    bounded_names,
    check_can_be_ignored,
    untranslated_fields,
)
from llm_routing.formats.registry import FORMATS

OPENAI = "openai_chat"


def test_the_fields_that_every_format_reads_are_listed() -> None:
    """Otherwise its callers are not told which of their fields other formats lack."""
    assert set(READ_FIELDS) == set(FORMATS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("functions", [{"name": "f"}]),
        ("function_call", {"name": "f"}),
        ("mcp_servers", [{}]),
        ("inference_geo", "us"),
        ("web_search_options", {}),
        ("modalities", ["audio"]),
    ],
)
def test_fields_that_determine_the_answer_are_never_left_out(name: str, value: Any) -> None:
    with pytest.raises(UnsupportedRequest, match=name):
        check_can_be_ignored(name, value)
    with pytest.raises(UnsupportedRequest, match=name):
        untranslated_fields(Source(OPENAI, {name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("functions", []),
        ("function_call", "none"),
        ("function_call", "auto"),
        ("mcp_servers", None),
        ("modalities", ["text"]),
        ("modalities", "text"),
        ("inference_geo", None),
        ("inference_geo", "global"),
    ],
)
def test_fields_without_effect_are_left_out(name: str, value: Any) -> None:
    check_can_be_ignored(name, value)


def test_fields_are_named_by_their_path_in_every_place() -> None:
    body = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a", "odd": 1}]}],
        "tools": [{"type": "function", "function": {"name": "f", "odd": 1, "none": None}}, "x"],
    }

    assert untranslated_fields(Source(OPENAI, body)) == [
        "messages.content.odd",
        "tools.function.odd",
    ]
    assert untranslated_fields(Source("of tomorrow", body)) == []
    assert untranslated_fields(None) == []


def test_names_are_listed_once_and_bounded() -> None:
    names = bounded_names(["a", "b", "a", "x" * 500, *map(str, range(500))])

    assert names[:3] == ("a", "b", "x" * 80)
    assert len(names) == 40
