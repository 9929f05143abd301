"""A bounded dictionary that creates missing entries and evicts the least recently used ones."""

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class BoundedMap(OrderedDict[KeyT, ValueT]):
    """A dictionary of at most `max_entries` entries. Not thread-safe.

    `entries[key]` creates a missing entry with `create`, evicts the least recently used one if
    there is no room, and passes its key to `on_evict`. An entry that exists is marked as used with
    `move_to_end`, which costs no call of Python code.
    """

    def __init__(
        self,
        create: Callable[[], ValueT],
        max_entries: int,
        on_evict: Callable[[KeyT], None] | None = None,
    ) -> None:
        super().__init__()
        self._create = create
        self._max_entries = max_entries
        self._on_evict = on_evict

    def __missing__(self, key: KeyT) -> ValueT:
        value = self[key] = self._create()
        if len(self) > self._max_entries:
            evicted, _ = self.popitem(last=False)
            if self._on_evict is not None:
                self._on_evict(evicted)
        return value
