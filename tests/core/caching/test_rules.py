"""Cache rules: which requests use the cache, and which answers are stored."""

import pytest
from msgspec.structs import replace

from llm_routing.core.caching.rules import MAX_TTL, CacheRule, cache_rule, is_cacheable_completion
from llm_routing.core.content import (
    ForeignPart,
    ForeignTool,
    Message,
    Part,
    RefusalPart,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
)
from llm_routing.core.routing_table import RouteSpec
from llm_routing.core.types import Choice, Completion, FinishReason, LLMRequest, Source

ASKED = LLMRequest((Message(Role.USER, (TextPart("Hi"),)),), temperature=0.0)


def route(cache_ttl: int | None) -> RouteSpec:
    return RouteSpec("debugging", "standard", (), cache_ttl=cache_ttl)


@pytest.mark.parametrize(
    ("request_", "is_cached"),
    [
        (ASKED, True),
        (replace(ASKED, temperature=None), False),
        (replace(ASKED, temperature=0.7), False),
        (replace(ASKED, temperature=0.7, seed=0), True),
        (replace(ASKED, n=2), False),
        (replace(ASKED, tools=(Tool("look"),)), True),
        (replace(ASKED, tools=(ForeignTool("anthropic_messages", {}),)), False),
        (replace(ASKED, source=Source("openai_chat", {"temperature": 0})), True),
        (replace(ASKED, source=Source("openai_chat", {"web_search_options": {}})), False),
        (replace(ASKED, extra={"plugins": []}), False),
    ],
)
def test_only_deterministic_requests_are_cached_unless_the_caller_decides(
    request_: LLMRequest, is_cached: bool
) -> None:
    assert (cache_rule(request_, None, 60) is not None) is is_cached
    assert cache_rule(replace(request_, cache=True), None, 60) is not None
    assert cache_rule(replace(request_, cache=False), None, 60) is None


@pytest.mark.parametrize(
    ("settings", "of_route", "of_request", "ttl"),
    [
        (60, None, None, 60),
        (60, 30, None, 30),
        (60, 30, 10, 10),
        (60, 30, 90, 90),
        (60, 30, 0, None),
        (60, 0, 90, None),
        (0, None, 90, None),
        (0, 30, None, 30),
        (60, None, -1, None),
        (10 * MAX_TTL, None, None, MAX_TTL),
    ],
)
def test_the_request_sets_the_lifetime_unless_the_operator_disables_the_cache(
    settings: int, of_route: int | None, of_request: int | None, ttl: int | None
) -> None:
    rule = cache_rule(replace(ASKED, cache_ttl=of_request), route(of_route), settings)
    assert (rule.ttl if rule else None) == ttl


def test_a_refreshing_request_fills_the_cache_without_reading() -> None:
    assert cache_rule(ASKED, None, 60) == CacheRule(60, reads=True)
    assert cache_rule(replace(ASKED, cache_refresh=True), None, 60) == CacheRule(60, reads=False)


TEXT, CALL = TextPart("Hello"), ToolCallPart("c1", "look", "{}")


@pytest.mark.parametrize(
    ("parts", "reason", "by_default", "if_asked"),
    [
        ((TEXT,), FinishReason.STOP, True, True),
        ((TEXT,), FinishReason.STOP_SEQUENCE, True, True),
        ((CALL,), FinishReason.TOOL_CALLS, False, True),
        ((TEXT, CALL), FinishReason.STOP, False, True),
        ((ForeignPart("openai_chat", {}),), FinishReason.STOP, False, True),
        ((TEXT,), FinishReason.LENGTH, False, False),
        ((TEXT,), FinishReason.CONTENT_FILTER, False, False),
        ((TEXT,), FinishReason.REFUSAL, False, False),
        ((RefusalPart("no"),), FinishReason.STOP, False, False),
        ((TEXT,), FinishReason.PAUSE, False, False),
        ((TEXT,), None, False, False),
        ((), FinishReason.STOP, False, False),
    ],
)
def test_only_answers_with_a_normal_finish_are_stored(
    parts: tuple[Part, ...], reason: FinishReason | None, by_default: bool, if_asked: bool
) -> None:
    answer = Completion("a1", "m", (Choice(parts, reason),), None)
    assert is_cacheable_completion(answer, CacheRule(60)) is by_default
    assert is_cacheable_completion(answer, CacheRule(60, keeps_tool_calls=True)) is if_asked
    one_is_cut = replace(answer, choices=(*answer.choices, Choice((TEXT,), FinishReason.LENGTH)))
    assert not is_cacheable_completion(one_is_cut, CacheRule(60))


def test_an_answer_without_choices_is_not_stored() -> None:
    assert not is_cacheable_completion(Completion("a1", "m", (), None), CacheRule(60))
