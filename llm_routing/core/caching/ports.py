"""Protocols for caches of answers: in memory, and shared between processes.

The implementations are in `backends`.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from msgspec import Struct

from llm_routing.core.cached_answer import CachedAnswer


@dataclass(frozen=True, slots=True)
class CacheSize:
    """The size of a cache in memory, and the number of entries evicted so far."""

    entries: int
    bytes: int
    evictions: int


class ResponseCache(Protocol):
    """A cache in the memory of this process. Thread-safe; no method blocks."""

    def get(self, key: str, max_age: float) -> CachedAnswer | None:
        """Returns the answer if there is one younger than `max_age` seconds."""

    def put(self, key: str, answer: CachedAnswer, ttl: float, *, age: float = 0.0) -> None:
        """Stores an answer, `age` seconds old, for `ttl` more seconds."""

    @property
    def size(self) -> CacheSize:
        """The current entries and bytes."""


class CacheHit(Struct, frozen=True):
    """An answer from a shared cache, with its age and its remaining time to live in seconds."""

    answer: CachedAnswer
    age: float
    ttl: float


class Lease(Protocol):
    """The right to call upstream for a key while other requests wait. It expires at the latest when
    its process ends. Neither method raises."""

    async def publish(self, answer: CachedAnswer, ttl: float) -> None:
        """Stores the answer for waiting and later requests, and ends the lease."""

    async def release(self) -> None:
        """Ends the lease without an answer, so that another request can take it."""


class LeaseUnavailable(Enum):
    """The reason why there is neither an answer nor a lease."""

    BUSY = "busy"
    UNAVAILABLE = "unavailable"


class SharedCache(Protocol):
    """A cache shared between processes. No method raises: entries that are invalid, from another
    release or unreachable count as missing."""

    async def claim(self, key: str, max_age: float) -> CacheHit | Lease | LeaseUnavailable:
        """Returns the answer if there is one younger than `max_age` seconds, else a lease, or
        `BUSY` while another request holds the lease."""

    async def put(self, key: str, answer: CachedAnswer, ttl: float) -> None:
        """Stores an answer that was fetched without a lease."""

    async def aclose(self) -> None:
        """Closes the connections of the running event loop."""
