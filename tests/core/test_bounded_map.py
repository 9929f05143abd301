"""A bounded map creates entries, keeps those in use and evicts the rest."""

from collections import deque

from llm_routing.core.bounded_map import BoundedMap


def test_a_missing_entry_is_created_once() -> None:
    entries: BoundedMap[str, list[int]] = BoundedMap(list, 3)
    entries["a"].append(1)
    entries["a"].append(2)
    assert entries == {"a": [1, 2]}


def test_the_least_recently_used_entry_is_evicted() -> None:
    evicted: deque[str] = deque()
    entries: BoundedMap[str, list[int]] = BoundedMap(list, 2, evicted.append)
    for key in ("a", "b"):
        entries[key].append(1)
    entries.move_to_end("a")
    entries["c"].append(1)
    assert list(entries) == ["a", "c"]
    assert list(evicted) == ["b"]


def test_asking_for_an_entry_with_get_creates_none() -> None:
    entries: BoundedMap[str, list[int]] = BoundedMap(list, 2)
    assert entries.get("a") is None
    assert "a" not in entries


def test_without_an_observer_the_bound_holds_too() -> None:
    entries: BoundedMap[int, list[int]] = BoundedMap(list, 2)
    for key in range(10):
        entries[key].append(key)
    assert list(entries) == [8, 9]
