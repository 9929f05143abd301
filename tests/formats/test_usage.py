"""Reads the token counts of vendors, in whatever form they write them."""

import json
from typing import Any

import pytest

from llm_routing.core.events import UsageReported
from llm_routing.core.types import MAX_TOKEN_COUNT, Usage
from llm_routing.formats.anthropic_messages import usage as anthropic_usage
from llm_routing.formats.openai_chat import usage as openai_usage
from llm_routing.formats.usage import read_count
from tests.formats.usage_bodies import (
    ANTHROPIC,
    OPENAI,
    anthropic_body,
    openai_body,
    openai_usage_of,
)


def anthropic_stream(start: Any, *deltas: Any) -> tuple[Usage | None, list[bytes]]:
    """Returns the last usage report of a stream, and the bytes for callers of the format."""
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": start}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": "Hi"},
        },
        {"type": "content_block_stop", "index": 0},
        *({"type": "message_delta", "delta": {}, "usage": usage} for usage in deltas[:-1]),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": deltas[-1]},
        {"type": "message_stop"},
    ]
    data = b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
    )
    frames = ANTHROPIC.stream_parser().feed(data)
    last = None
    for frame in frames:
        for event in frame.events:
            if isinstance(event, UsageReported):
                last = event.usage
    return last, [frame.raw for frame in frames]


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (0, 0),
        (1000, 1000),
        (1000.0, 1000),
        (12.3, 13),
        ("1000", 1000),
        (" 1000.0 ", 1000),
        ("12.3", 13),
        ("7.", 7),
        (MAX_TOKEN_COUNT, MAX_TOKEN_COUNT),
        (MAX_TOKEN_COUNT + 1, None),
        (1e300, None),
        (float("nan"), None),
        (float("inf"), None),
        (-1, None),
        (-0.5, None),
        ("-1", None),
        ("1_000", None),
        ("1e3", None),
        ("٣", None),
        ("9" * 5000, None),
        ("many", None),
        ("", None),
        (True, None),
        (None, None),
        ([1], None),
        ({}, None),
    ],
)
def test_readable_counts_are_read(value: Any, count: int | None) -> None:
    found = read_count(value)
    assert found == count
    assert found is None or type(found) is int


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 1000.0, "completion_tokens": "7", "total_tokens": "1007.0"},
        {
            "prompt_tokens": "1000",
            "completion_tokens": 7.0,
            "prompt_tokens_details": {"cached_tokens": None, "audio_tokens": "0"},
            "cost": None,
        },
    ],
)
def test_unusual_counts_reach_openai_callers_as_integers(usage: Any) -> None:
    body = openai_body(usage)
    assert openai_usage_of(body) == Usage(1000, 7)
    shown = json.loads(OPENAI.read_response(body).raw)["usage"]
    assert [type(shown[name]) for name in ("prompt_tokens", "completion_tokens")] == [int, int]


def test_unusual_counts_of_anthropic_reach_callers_as_integers() -> None:
    usage = {"input_tokens": "10.0", "cache_read_input_tokens": None, "output_tokens": 5.0}
    completion = ANTHROPIC.read_response(anthropic_body(usage))
    assert completion.usage == Usage(10, 5)
    assert json.loads(completion.raw)["usage"]["input_tokens"] == 10
    last, shown = anthropic_stream({"input_tokens": 10.0, "output_tokens": "1"}, usage)
    assert last == Usage(10, 5)
    assert b'"output_tokens":5}' in b"".join(shown)


@pytest.mark.parametrize("count", [-5, 2**31, 1e300, "many", True, [3], "NaN"])
@pytest.mark.parametrize("place", ["prompt_tokens", "completion_tokens", "total_tokens"])
def test_usage_with_an_impossible_count_is_discarded(place: str, count: Any) -> None:
    body = openai_body({"prompt_tokens": 3, "completion_tokens": 2, place: count})
    assert openai_usage_of(body) is None
    assert json.loads(OPENAI.read_response(body).raw)["usage"] is None


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_counts_that_are_not_numbers_are_ignored_without_failing_the_answer(number: float) -> None:
    body = openai_body({"prompt_tokens": 3, "completion_tokens": number})
    assert openai_usage_of(body) == Usage(3)
    shown = json.loads(OPENAI.read_response(body).raw)["usage"]
    assert shown == {"prompt_tokens": 3, "completion_tokens": None}
    usage = {"input_tokens": 3, "output_tokens": number}
    completion = ANTHROPIC.read_response(anthropic_body(usage))
    assert completion.usage == Usage(3)
    assert anthropic_stream({"input_tokens": 3}, usage)[0] == Usage(3, estimated=True)
    assert b"NaN" not in completion.raw + b"".join(anthropic_stream(usage, usage)[1])


@pytest.mark.parametrize("usage", [None, {}, [], "none", 7, {"speed": 3}])
def test_usage_without_counts_is_none(usage: Any) -> None:
    assert openai_usage_of(openai_body(usage)) is None
    assert ANTHROPIC.read_response(anthropic_body(usage)).usage is None


def test_the_last_report_of_a_count_in_a_stream_counts() -> None:
    last, _ = anthropic_stream(
        {"input_tokens": 8834, "output_tokens": 1},
        {"input_tokens": 18, "cache_read_input_tokens": 8831, "output_tokens": 426},
    )
    assert last == Usage(8849, 426, cached_input_tokens=8831)


@pytest.mark.parametrize(
    "delta",
    [
        {"output_tokens": 426},
        {"input_tokens": None, "cache_read_input_tokens": None, "output_tokens": 426},
        {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 426},
        {"input_tokens": 18, "output_tokens": 426},
    ],
)
def test_counts_missing_from_a_later_report_are_kept(delta: Any) -> None:
    start = {"input_tokens": 18, "cache_read_input_tokens": 8831, "output_tokens": 1}
    assert anthropic_stream(start, delta)[0] == Usage(8849, 426, cached_input_tokens=8831)


def test_zeros_after_a_count_are_ignored() -> None:
    body = openai_body({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
    counted = openai_body({"prompt_tokens": 3, "completion_tokens": 2})
    parser = OPENAI.stream_parser()
    reports: list[Usage] = []
    for chunk in (counted, body):
        answer = {**json.loads(chunk), "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
        for frame in parser.feed(b"data: " + json.dumps(answer).encode() + b"\n\n"):
            reports += [event.usage for event in frame.events if isinstance(event, UsageReported)]
    assert reports == [Usage(3, 2)]


@pytest.mark.parametrize("delta", [None, {}, {"output_tokens": None}, {"output_tokens": 0}])
def test_counts_at_the_start_of_a_stream_do_not_count_the_answer(delta: Any) -> None:
    start = {"input_tokens": 18, "output_tokens": 1}
    assert anthropic_stream(start, delta)[0] == Usage(18, 1, estimated=True)
    assert anthropic_stream(start, {"output_tokens": 7}, delta)[0] == Usage(18, 7)


def test_a_report_can_lower_a_count() -> None:
    last, _ = anthropic_stream(
        {"input_tokens": 100, "cache_creation_input_tokens": 50, "output_tokens": 9},
        {"input_tokens": 150, "cache_creation_input_tokens": 0, "output_tokens": 20},
        {"output_tokens": 7},
    )
    assert last == Usage(150, 7)


WRITTEN = {
    "input_tokens": 3,
    "cache_creation_input_tokens": 12_304,
    "cache_creation": {"ephemeral_5m_input_tokens": 304, "ephemeral_1h_input_tokens": 12_000},
    "cache_read_input_tokens": 40,
    "output_tokens": 550,
    "output_tokens_details": {"thinking_tokens": 50},
    "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
}


WRITTEN_USAGE = Usage(
    12_347,
    550,
    cached_input_tokens=40,
    cache_write_tokens=12_304,
    cache_write_1h_tokens=12_000,
    reasoning_tokens=50,
    web_searches=2,
)


def test_anthropics_cache_writes_are_separated_by_their_lifetime() -> None:
    assert ANTHROPIC.read_response(anthropic_body(WRITTEN)).usage == WRITTEN_USAGE
    assert anthropic_stream(WRITTEN, {"output_tokens": 550})[0] == WRITTEN_USAGE
    assert anthropic_stream({"input_tokens": 1}, WRITTEN)[0] == WRITTEN_USAGE


def test_a_split_of_cache_writes_without_a_sum_is_added_up() -> None:
    usage = {name: value for name, value in WRITTEN.items() if "creation_input" not in name}
    assert ANTHROPIC.read_response(anthropic_body(usage)).usage == WRITTEN_USAGE


def test_tokens_of_additional_sampling_are_counted() -> None:
    usage = {
        "input_tokens": 23_000,
        "output_tokens": 1000,
        "iterations": [
            {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500},
            {"type": "message", "input_tokens": 23_000, "output_tokens": 1000},
            "odd",
        ],
    }
    expected = Usage(203_000, 4500)
    assert ANTHROPIC.read_response(anthropic_body(usage)).usage == expected
    assert anthropic_stream({"input_tokens": 1, "output_tokens": 1}, usage, usage)[0] == expected


def test_callers_of_anthropic_see_what_a_vendor_of_anthropic_counted() -> None:
    shown = anthropic_usage.write_usage(WRITTEN_USAGE)
    assert shown == {**WRITTEN, "server_tool_use": {"web_search_requests": 2}}


def test_callers_of_openai_see_cache_writes_under_the_usual_names() -> None:
    shown = openai_usage.write_usage(WRITTEN_USAGE)
    assert shown["prompt_tokens"] == 12_347
    assert shown["prompt_tokens_details"]["cached_tokens"] == 40
    assert shown["prompt_tokens_details"]["cache_write_tokens"] == 12_304
    assert shown["cache_creation_input_tokens"] == 12_304
    assert shown["cache_read_input_tokens"] == 40
    assert shown["server_tool_use"] == {"web_search_requests": 2}


@pytest.mark.parametrize(
    "names",
    [
        # OpenRouter, and OpenAI from GPT-5.6 on.
        {"prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 300}},
        # LiteLLM.
        {
            "prompt_tokens_details": {"cached_tokens": 40, "cache_creation_tokens": 300},
            "cache_creation_input_tokens": 300,
            "cache_read_input_tokens": 40,
        },
        {"cache_creation_input_tokens": 300, "cache_read_input_tokens": 40},
    ],
)
def test_cache_writes_in_openais_shape_are_parts_of_the_prompt(names: Any) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 7, "total_tokens": 1007, **names}
    assert openai_usage_of(openai_body(usage)) == Usage(
        1000, 7, cached_input_tokens=40, cache_write_tokens=300
    )


def test_tokens_counted_only_in_the_total_are_input() -> None:
    """Portkey over Anthropic: 10 tokens, 40 read from the cache, 300 written to it."""
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 7,
        "total_tokens": 357,
        "cache_creation_input_tokens": 300,
        "cache_read_input_tokens": 40,
        "cache_creation": {"ephemeral_1h_input_tokens": 100},
    }
    assert openai_usage_of(openai_body(usage)) == Usage(
        350, 7, cached_input_tokens=40, cache_write_tokens=300, cache_write_1h_tokens=100
    )


def test_audio_and_predictions_are_parts_and_counted_once() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {
            "audio_tokens": 60,
            "cache_creation_token_details": {"ephemeral_1h_input_tokens": 9},
        },
        "completion_tokens_details": {
            "audio_tokens": 20,
            "reasoning_tokens": 10,
            "accepted_prediction_tokens": 4,
            "rejected_prediction_tokens": 5,
        },
    }
    found = openai_usage_of(openai_body(usage))
    assert found == Usage(
        100,
        50,
        reasoning_tokens=10,
        input_audio_tokens=60,
        output_audio_tokens=20,
        accepted_prediction_tokens=4,
        rejected_prediction_tokens=5,
    )
    assert openai_usage.read_usage(openai_usage.write_usage(found)) == found
