"""Arguments of tool calls are measured, and their ends found, without decoding them."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.content import Message, Role, TextPart, ToolCallPart
from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.json_size import REQUEST_LIMITS
from llm_routing.core.types import LLMRequest
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages
from llm_routing.formats.tool_arguments import ObjectScanner
from tests.formats.conversation import target

TEXT = st.text('a"\\{}[]é,: ', max_size=8)
VALUES = st.recursive(
    TEXT | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)
)
OBJECTS = st.dictionaries(TEXT, VALUES)


@given(OBJECTS, st.lists(st.integers(0, 60), max_size=8))
def test_an_object_is_complete_at_its_last_brace_however_it_is_cut(
    value: dict[str, Any], cuts: list[int]
) -> None:
    text = json.dumps(value, ensure_ascii=False)
    places = sorted({0, len(text) - 1, *(cut for cut in cuts if cut < len(text))})
    scanner = ObjectScanner()
    for start, end in pairwise(places):
        scanner.feed(text[start:end])
        assert not scanner.is_complete
    scanner.feed(text[-1] + "  ")
    assert scanner.is_complete


def request_with(arguments: list[str]) -> LLMRequest:
    """Returns a conversation in which the model called a tool with each of `arguments`."""
    calls = tuple(
        ToolCallPart(id=f"call_{number}", name="f", arguments=text)
        for number, text in enumerate(arguments)
    )
    messages = (Message(Role.USER, (TextPart("Go"),)), Message(Role.ASSISTANT, calls))
    return LLMRequest(messages=messages, model="m")


@pytest.mark.parametrize(("calls", "is_over"), [(4, False), (5, True)])
def test_arguments_that_would_be_too_many_values_are_not_decoded_for_a_vendor(
    calls: int, is_over: bool
) -> None:
    """They are text in one format and values in another, so the request's own limits miss them."""
    fields = REQUEST_LIMITS.fields // 4 - 1
    text = "{" + ",".join(f'"{number}":1' for number in range(fields)) + "}"
    request = request_with([text] * calls)
    if is_over:
        with pytest.raises(UnsupportedRequest, match="hold more than"):
            AnthropicMessages().write_request(request, target("anthropic_messages"))
    else:
        wire = AnthropicMessages().write_request(request, target("anthropic_messages"))
        assert len(wire.body) > calls * len(text)
