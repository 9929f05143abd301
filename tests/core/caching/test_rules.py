"""Cache rules, cache keys, the JSON of cached answers, and the bounded LRU."""

import tracemalloc
from collections import OrderedDict
from sys import getsizeof
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_routing.core.cached_answer import CachedAnswer, answer_from_json, answer_to_json
from llm_routing.core.caching.keys import digest, owned_key
from llm_routing.core.caching.lru import LRUCache
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
from llm_routing.core.types import Choice, Completion, FinishReason, LLMRequest, Source, Usage

ASKED = LLMRequest((Message(Role.USER, (TextPart("Hi"),)),), temperature=0.0)
SECRET = b"secret"


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


@given(st.lists(st.text() | st.binary()), st.lists(st.text() | st.binary()))
def test_only_equal_requests_have_equal_keys(
    one: list[str | bytes], other: list[str | bytes]
) -> None:
    def plain(parts: list[str | bytes]) -> list[bytes]:
        return [
            part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            for part in parts
        ]

    assert (digest(SECRET, one) == digest(SECRET, other)) is (plain(one) == plain(other))


def test_a_key_cannot_be_guessed_without_the_secret() -> None:
    assert digest(SECRET, ["Hi"]) != digest(b"another", ["Hi"])
    assert len(digest(SECRET, ["Hi"])) == 64


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


def answer(text: str = "x") -> CachedAnswer:
    return CachedAnswer("p", "m", text.encode())


def test_an_answer_is_served_until_it_is_too_old_for_the_request() -> None:
    cache = LRUCache(10, 10_000)
    cache.put("k", answer("one"), 60, now=1000)
    assert cache.get("k", 60, now=1059) == answer("one")
    assert cache.get("k", 30, now=1029) == answer("one")
    assert cache.get("k", 30, now=1030) is None
    assert cache.get("k", 90, now=1059) == answer("one")
    assert cache.get("k", 90, now=1060) is None
    assert (len(cache), cache.bytes, cache.evictions) == (0, 0, 0)


def test_the_age_of_a_stored_answer_counts_from_its_origin() -> None:
    cache = LRUCache(10, 10_000)
    cache.put("k", answer(), 20, now=1000, age=40)
    assert cache.get("k", 60, now=1019) is not None
    assert cache.get("k", 60, now=1020) is None
    cache.put("k", answer(), 20, now=1000, age=40)
    assert cache.get("k", 45, now=1005) is None
    cache.put("k", answer(), 0, now=1000)
    assert cache.get("k", 60, now=1000) is None


def test_the_least_recently_used_answer_is_evicted_first() -> None:
    cache = LRUCache(2, 10_000)
    for key in "ab":
        cache.put(key, answer(key), 60, now=0)
    assert cache.get("a", 60, now=1) is not None
    cache.put("c", answer("c"), 60, now=2)
    assert [key for key in "abc" if cache.get(key, 60, now=3)] == ["a", "c"]
    assert cache.evictions == 1
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)


@pytest.mark.parametrize(
    ("max_entries", "max_bytes"), [(10, 1_000_000), (1000, 10 * 1000)], ids=["number", "bytes"]
)
def test_an_owner_cannot_evict_entries_within_another_owner_s_share(
    max_entries: int, max_bytes: int
) -> None:
    cache = LRUCache(max_entries, max_bytes)
    for number in range(4):
        cache.put(owned_key(b"s", "small", str(number)), answer(), 60, now=0)
    for number in range(1150):
        cache.put(owned_key(b"s", "large", str(number)), answer(), 60, now=1)
    for number in range(4):
        assert cache.get(owned_key(b"s", "small", str(number)), 60, now=2) is not None
    assert cache.get(owned_key(b"s", "large", "1149"), 60, now=2) is not None
    assert cache.get(owned_key(b"s", "large", "0"), 60, now=2) is None


@pytest.mark.parametrize(("max_entries", "max_bytes"), [(0, 10_000), (10, 0), (10, 500)])
def test_an_answer_that_is_too_large_evicts_nothing(max_entries: int, max_bytes: int) -> None:
    cache = LRUCache(max_entries, max_bytes)
    cache.put("k", answer("x" * 1000), 60, now=0)
    assert (len(cache), cache.bytes, cache.evictions) == (0, 0, 0)


def test_replacing_an_answer_by_a_too_large_one_removes_it() -> None:
    cache = LRUCache(10, 2000)
    cache.put("k", answer("old"), 60, now=0)
    cache.put("k", answer("x" * 2000), 60, now=0)
    assert cache.get("k", 60, now=0) is None
    assert cache.bytes == 0


def test_the_counted_bytes_match_the_memory_used() -> None:
    cache = LRUCache(5000, 100_000_000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(2000):
            entry = CachedAnswer("p", "m", b"%d" % number * 100, Usage(number + 1000, 4000))
            cache.put(f"{number:064}", entry, 60, now=float(number))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken <= cache.bytes <= 1.5 * taken


KEYS = st.sampled_from("abcdef")
STEPS = st.lists(
    st.tuples(st.just("put"), KEYS, st.integers(0, 900), st.integers(0, 20))
    | st.tuples(st.just("get"), KEYS, st.integers(0, 30), st.just(0))
    | st.tuples(st.just("wait"), st.just(""), st.integers(1, 10), st.just(0)),
    max_size=60,
)


@given(STEPS, st.integers(0, 4), st.integers(0, 3000))
def test_the_lru_behaves_like_a_simple_model_for_any_sequence_of_operations(
    steps: list[Any], max_entries: int, max_bytes: int
) -> None:
    cache = LRUCache(max_entries, max_bytes)
    model: OrderedDict[str, tuple[CachedAnswer, int, int]] = OrderedDict()
    now = 0

    def size(key: str, entry: CachedAnswer) -> int:
        return entry.size + getsizeof(key)

    def taken() -> int:
        return sum(size(key, entry) for key, (entry, _, _) in model.items())

    for kind, key, number, ttl in steps:
        if kind == "wait":
            now += number
        elif kind == "put":
            entry = answer("x" * number)
            cache.put(key, entry, ttl, now)
            model.pop(key, None)
            if size(key, entry) <= max_bytes and max_entries and ttl:
                while len(model) >= max_entries or taken() + size(key, entry) > max_bytes:
                    model.popitem(last=False)
                model[key] = (entry, now, now + ttl)
        else:
            expected = None
            if key in model:
                entry, stored_at, expires_at = model[key]
                if now >= expires_at:
                    del model[key]
                elif now - stored_at < number:
                    expected = entry
                    model.move_to_end(key)
            assert cache.get(key, number, now) == expected
        assert len(cache) == len(model) <= max_entries
        assert cache.bytes == taken() <= max_bytes
