"""The bounded LRU of cached answers."""

import tracemalloc
from collections import OrderedDict
from sys import getsizeof
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.cached_answer import CachedAnswer
from llm_routing.core.caching.keys import owned_key
from llm_routing.core.caching.lru import LRUCache
from llm_routing.core.types import Usage


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
