"""A bounded LRU cache of answers, shared fairly among tenants."""

from collections import OrderedDict
from sys import getsizeof

from msgspec import Struct

from llm_routing.core.cached_answer import CachedAnswer

from .keys import owner_of


class _Entry(Struct, frozen=True):
    answer: CachedAnswer
    stored_at: float
    expires_at: float
    size: int


class LRUCache:
    """A cache of at most `max_entries` answers and `max_bytes` bytes. Not thread-safe.

    When it is full, the owner with the largest share loses its least recently used answer, so that
    no owner can evict entries within another's share. Times are monotonic seconds.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._shares: dict[str, _Share] = {}
        self._count = 0
        self.bytes = 0
        self.evictions = 0

    def __len__(self) -> int:
        return self._count

    def get(self, key: str, max_age: float, now: float) -> CachedAnswer | None:
        """Returns the answer if it has not expired and is younger than `max_age` seconds."""
        share = self._shares.get(owner_of(key))
        entry = None if share is None else share.entries.get(key)
        if share is None or entry is None:
            return None
        if now >= entry.expires_at:
            self._forget(share, share.entries.pop(key))
            return None
        if now - entry.stored_at >= max_age:
            return None
        share.entries.move_to_end(key)
        return entry.answer

    def put(
        self, key: str, answer: CachedAnswer, ttl: float, now: float, *, age: float = 0.0
    ) -> None:
        """Stores the answer, which is `age` seconds old, for `ttl` more seconds and replaces an
        earlier one. An answer larger than the cache is not stored."""
        owner = owner_of(key)
        share = self._shares.get(owner)
        if share is not None and (replaced := share.entries.pop(key, None)) is not None:
            self._forget(share, replaced)
        size = answer.size + getsizeof(key)
        if size > self._max_bytes or self._max_entries < 1 or ttl <= 0:
            return
        while self._count >= self._max_entries or self.bytes + size > self._max_bytes:
            largest = max(self._shares.values(), key=self._part)
            _, oldest = largest.entries.popitem(last=False)
            self._forget(largest, oldest)
            self.evictions += 1
        share = self._shares.get(owner)
        if share is None:
            share = self._shares[owner] = _Share(owner)
        share.entries[key] = _Entry(answer, now - age, now + ttl, size)
        share.bytes += size
        self._count += 1
        self.bytes += size

    def clear(self) -> None:
        """Removes all answers."""
        self._shares.clear()
        self._count = self.bytes = 0

    def _part(self, share: "_Share") -> float:
        """Returns the fraction of the cache that the share occupies."""
        return max(len(share.entries) / self._max_entries, share.bytes / self._max_bytes)

    def _forget(self, share: "_Share", removed: _Entry) -> None:
        """Accounts for an entry that was removed from its share."""
        share.bytes -= removed.size
        self._count -= 1
        self.bytes -= removed.size
        if not share.entries:
            del self._shares[share.owner]


class _Share:
    """The entries of one owner."""

    __slots__ = ("bytes", "entries", "owner")

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.entries: OrderedDict[str, _Entry] = OrderedDict()
        self.bytes = 0
