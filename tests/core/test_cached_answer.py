"""The JSON form of cached answers."""

import pytest
from msgspec.structs import replace

from llm_routing.core.cached_answer import CachedAnswer, answer_from_json, answer_to_json
from llm_routing.core.types import Usage

ANSWER = CachedAnswer("p", "m", '{"text":"Grüße"}'.encode(), Usage(3, 4), ("seed",))


def test_an_entry_survives_a_json_round_trip() -> None:
    text = answer_to_json("k", ANSWER)
    assert answer_from_json("k", text) == ANSWER
    assert answer_from_json("k", answer_to_json("k", replace(ANSWER, usage=None))).usage is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        '{"schema":2}',
        answer_to_json("k", ANSWER).replace('"schema":3', '"schema":2'),
        answer_to_json("k", ANSWER).replace('"schema":3,', ""),
        answer_to_json("another key", ANSWER),
        answer_to_json("k", ANSWER)[:-5],
        answer_to_json("k", ANSWER).replace('"input_tokens":3', '"input_tokens":"many"'),
    ],
)
def test_a_wrong_or_old_entry_is_rejected(text: str) -> None:
    with pytest.raises(ValueError):
        answer_from_json("k", text)


def test_a_body_that_is_not_utf_8_is_not_written() -> None:
    with pytest.raises(ValueError):
        answer_to_json("k", replace(ANSWER, body=b"\xff"))
