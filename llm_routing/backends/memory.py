"""The response cache in the memory of this process."""

from threading import Lock

from llm_routing.core.cached_answer import CachedAnswer
from llm_routing.core.caching.lru import LRUCache
from llm_routing.core.caching.ports import CacheSize
from llm_routing.core.ports import Clock


class MemoryCache:
    """`core.caching.ports.ResponseCache`: an LRU under a lock, which is held for microseconds."""

    def __init__(self, *, max_entries: int, max_bytes: int, clock: Clock) -> None:
        self._answers = LRUCache(max_entries, max_bytes)
        self._clock = clock
        self._lock = Lock()

    def get(self, key: str, max_age: float) -> CachedAnswer | None:
        """See `ResponseCache.get`."""
        with self._lock:
            return self._answers.get(key, max_age, self._clock.monotonic())

    def put(self, key: str, answer: CachedAnswer, ttl: float, *, age: float = 0.0) -> None:
        """See `ResponseCache.put`."""
        with self._lock:
            self._answers.put(key, answer, ttl, self._clock.monotonic(), age=age)

    @property
    def size(self) -> CacheSize:
        """The current entries and bytes."""
        with self._lock:
            answers = self._answers
            return CacheSize(len(answers), answers.bytes, answers.evictions)
