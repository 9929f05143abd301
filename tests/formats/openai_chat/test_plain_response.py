"""The fast path for plain answers returns the same as the reader that repairs answers."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.errors import UpstreamError
from llm_routing.formats.openai_chat.plain_response import read_plain_response
from llm_routing.formats.openai_chat.response import read_and_repair

ODD_VALUES = st.sampled_from(
    (None, "", "x", 0, -1, 1, 1.0, 2**70, True, [], {}, [1], {"a": 1}, "stop", "error", "\ud800")
)
COUNTS = st.integers(0, 2**40)


def plain_answer() -> dict[str, Any]:
    """Returns an answer as OpenAI sends it."""
    details = {"cached_tokens": 0, "audio_tokens": 0}
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "Hello",
        "refusal": None,
        "annotations": [],
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt",
        "choices": [choice],
        "usage": {
            "prompt_tokens": 20,
            "completion_tokens": 9,
            "total_tokens": 29,
            "prompt_tokens_details": details,
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
        "service_tier": "default",
        "system_fingerprint": None,
    }


@st.composite
def changed_answers(draw: st.DrawFn) -> dict[str, Any]:
    """Returns plain answers of which some fields were changed, removed or added."""
    answer = plain_answer()
    choice = answer["choices"][0]
    owners = [answer, choice, choice["message"], answer["usage"]]
    owners.append(answer["usage"]["prompt_tokens_details"])
    for _ in range(draw(st.integers(0, 3))):
        owner = draw(st.sampled_from(owners))
        names = [*owner, "cost", "cost_in_usd_ticks", "cached_tokens", "tool_calls", "error"]
        name = draw(st.sampled_from(names))
        if draw(st.booleans()):
            owner[name] = draw(ODD_VALUES | COUNTS)
        else:
            owner.pop(name, None)
    return answer


@given(answer=changed_answers())
def test_a_plain_answer_is_read_as_the_repairing_reader_reads_it(answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    plain = read_plain_response(body)
    if plain is not None:
        assert plain == read_and_repair(body)


def test_an_answer_of_openai_needs_no_repair() -> None:
    body = json.dumps(plain_answer()).encode()
    plain = read_plain_response(body)
    assert plain is not None
    assert plain == read_and_repair(body)
    assert plain.raw is body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"choices": [' + b"[" * 100_000,
        json.dumps({**plain_answer(), "unknown": 1}).encode(),
        json.dumps({**plain_answer(), "choices": []}).encode(),
        json.dumps({**plain_answer(), "model": "[" * 1_100_000 + "," * 4_000_000}).encode()[:-9],
    ],
)
def test_other_answers_are_left_to_the_repairing_reader(body: bytes) -> None:
    assert read_plain_response(body) is None


def test_an_answer_of_too_many_values_is_refused() -> None:
    answer = json.dumps({**plain_answer(), "usage": {"a": 0}}).encode()
    body = answer.replace(b'{"a": 0}', b"{" + b'"a": 0,' * 1_100_000 + b'"b": 0}')
    assert read_plain_response(body) is None
    with pytest.raises(UpstreamError):
        read_and_repair(body)
