"""Properties of canonical answers: texts, tool calls, totals, JSON body."""

import json
from decimal import Decimal

import pytest

from llm_routing.core.content import (
    ImagePart,
    Message,
    Part,
    RefusalPart,
    Role,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from llm_routing.core.embeddings import EmbeddingResponse, Embeddings
from llm_routing.core.events import (
    AnswerEnded,
    AnswerStarted,
    ChoiceFinished,
    Frame,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from llm_routing.core.types import (
    AttemptOutcome,
    AttemptSummary,
    CacheState,
    Choice,
    Completion,
    FinishReason,
    LLMRequest,
    LLMResponse,
    RoutingFacts,
    Source,
    Usage,
)

CALLS = (ToolCallPart("c1", "look", "{"), ToolCallPart("c2", "listen", "{}"))
PARTS: tuple[Part, ...] = (
    ThinkingPart("hm"),
    TextPart("Hello, "),
    CALLS[0],
    RefusalPart("no"),
    TextPart("world"),
    CALLS[1],
)
USAGE = Usage(10, 4, cached_input_tokens=3, reasoning_tokens=2)
FACTS = RoutingFacts("req_1", "p", "m")
ANSWER = LLMResponse(
    Completion("a1", "m-2026", (Choice(PARTS, FinishReason.TOOL_CALLS),), USAGE),
    RoutingFacts(
        "req_1",
        "openai",
        "m",
        use_case="debugging",
        tier="premium",
        attempts=(
            AttemptSummary("groq", "g", AttemptOutcome.FAILURE, "rate_limited", 1.23456),
            AttemptSummary("openai", "m", AttemptOutcome.SUCCESS),
        ),
        cache=CacheState.MISS,
        cost=Decimal("1E-7"),
        latency_ms=12.34567,
        ignored=("seed",),
    ),
)
EMPTY = LLMResponse(Completion("", "", (), None), FACTS)


def test_the_text_of_a_message_or_choice_is_its_text_parts() -> None:
    assert Message(Role.ASSISTANT, PARTS).text == "Hello, world"
    assert Choice(PARTS, None).text == "Hello, world"
    assert Message(Role.USER, (ImagePart(url="https://x.test"),)).text == ""


def test_an_answer_reads_its_first_choice() -> None:
    assert ANSWER.content == "Hello, world"
    assert ANSWER.tool_calls == CALLS
    assert ANSWER.finish_reason is FinishReason.TOOL_CALLS
    assert ANSWER.usage is USAGE
    assert ANSWER.usage.total_tokens == 14
    assert (ANSWER.provider, ANSWER.model, ANSWER.cost) == ("openai", "m", Decimal("1E-7"))


def test_an_answer_without_choices_is_empty() -> None:
    assert EMPTY.content == ""
    assert EMPTY.tool_calls == ()
    assert EMPTY.finish_reason is None
    assert EMPTY.usage == Usage()


def test_the_native_body_contains_all_facts_as_json_values() -> None:
    body = ANSWER.dict()
    assert json.loads(json.dumps(body)) == body
    assert body == {
        "id": "req_1",
        "content": "Hello, world",
        "tool_calls": [
            {"id": "c1", "name": "look", "arguments": "{"},
            {"id": "c2", "name": "listen", "arguments": "{}"},
        ],
        "finish_reason": "tool_calls",
        "model": "m",
        "provider": "openai",
        "use_case": "debugging",
        "tier": "premium",
        "usage": {
            "input_tokens": 10,
            "output_tokens": 4,
            "total_tokens": 14,
            "cached_input_tokens": 3,
            "cache_write_tokens": 0,
            "cache_write_1h_tokens": 0,
            "reasoning_tokens": 2,
            "web_searches": 0,
            "estimated": False,
        },
        "cost_usd": "0.0000001",
        "latency_ms": 12.346,
        "cache": "miss",
        "replayed": False,
        "attempts": [
            {
                "provider": "groq",
                "model": "g",
                "outcome": "failure",
                "error_code": "rate_limited",
                "latency_ms": 1.235,
            },
            {
                "provider": "openai",
                "model": "m",
                "outcome": "success",
                "error_code": None,
                "latency_ms": 0.0,
            },
        ],
        "ignored": ["seed"],
    }


def test_unknown_facts_are_null_in_the_native_body() -> None:
    body = EMPTY.dict()
    unknown = ("finish_reason", "use_case", "tier", "cost_usd")
    assert [body[name] for name in unknown] == [None] * len(unknown)


def test_embeddings_without_usage_count_no_tokens() -> None:
    vectors = ((0.5, 1.0), (0.0, 2.0))
    assert EmbeddingResponse(Embeddings("m", vectors, USAGE), FACTS).usage is USAGE
    answer = EmbeddingResponse(Embeddings("m", vectors, None), FACTS)
    assert answer.usage == Usage()
    assert answer.vectors == vectors


@pytest.mark.parametrize(
    ("event", "is_content"),
    [
        (AnswerStarted("a1", "m"), False),
        (TextDelta("x"), True),
        (ThinkingDelta("x"), True),
        (ThinkingEnded(), True),
        (RefusalDelta("x"), True),
        (ToolCallStarted(0, "c", "f"), True),
        (ToolCallDelta(0, "{"), True),
        (ChoiceFinished(FinishReason.STOP), False),
        (UsageReported(USAGE), False),
        (AnswerEnded(), False),
    ],
)
def test_a_frame_has_content_if_callers_see_a_piece_of_the_answer(
    event: StreamEvent, is_content: bool
) -> None:
    assert Frame("f", b"", (event,)).has_content is is_content
    assert Frame("f", b"", (AnswerStarted("a1", "m"), event)).has_content is is_content


def test_a_ping_has_no_content() -> None:
    assert not Frame("f", b": ping\n\n").has_content


def test_bodies_are_not_logged() -> None:
    shown = repr(
        (
            LLMRequest((), source=Source("f", {"secret": "hunter2"})),
            Completion("a", "m", (), None, "f", b"hunter2"),
            Embeddings("m", (), None, "f", b"hunter2"),
            Frame("f", b"hunter2"),
        )
    )
    assert "hunter2" not in shown
