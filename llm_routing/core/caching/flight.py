"""A request that calls upstream while identical requests wait for its answer.

`single_flight` decides which request leads.
"""

import asyncio
from enum import Enum

from msgspec import Struct

from llm_routing.core.cached_answer import CachedAnswer
from llm_routing.core.timers import running_loop

from .ports import Lease, ResponseCache, SharedCache
from .rules import MAX_ENTRY_BYTES


class FlightFailure(Enum):
    """The reason why a flight has no answer to share: it failed and another try may succeed
    (`FAILED`), or the answer may not be cached (`NOT_KEPT`)."""

    FAILED = "failed"
    NOT_KEPT = "not kept"


Outcome = CachedAnswer | FlightFailure
InFlightByKey = dict[str, "InFlight"]


class InFlight(Struct, eq=False):
    """Publishes its outcome once: to the waiters in this event loop and to the shared cache. If
    `flights` is given, it is there under `key` until it has an outcome. Always close it."""

    _key: str
    _ttl: float
    _memory: ResponseCache
    _shared: SharedCache | None
    _flights: "InFlightByKey | None" = None
    _outcome: "asyncio.Future[Outcome] | None" = None
    _lease: Lease | None = None
    _answer: CachedAnswer | None = None
    _is_resolved: bool = False
    _is_closed: bool = False

    def __post_init__(self) -> None:
        if self._flights is not None:
            self._flights[self._key] = self

    def outcome(self) -> "asyncio.Future[Outcome]":
        """Returns the outcome for a request that waits. Most flights have none that does."""
        if self._outcome is None:
            self._outcome = running_loop().create_future()
        return self._outcome

    def set_lease(self, lease: Lease) -> None:
        """Makes requests in other processes wait for this flight too."""
        self._lease = lease

    def finish(self, answer: CachedAnswer) -> None:
        """Stores and publishes an answer. One that is too large is not cached."""
        if len(answer.body) > MAX_ENTRY_BYTES:
            self.finish_uncacheable()
        else:
            self._answer = answer
            self._memory.put(self._key, answer, self._ttl)
            self._resolve(answer)

    def finish_shared(self, answer: CachedAnswer) -> None:
        """Publishes an answer from the shared cache to the local waiters."""
        self._resolve(answer)

    def finish_uncacheable(self) -> None:
        """Tells the waiters that the answer may not be cached."""
        self._resolve(FlightFailure.NOT_KEPT)

    async def close(self) -> None:
        """Writes the answer to the shared cache, or releases the lease if there is none."""
        if self._is_closed:
            return
        self._is_closed = True
        self._resolve(FlightFailure.FAILED)
        if self._answer is None:
            if self._lease is not None:
                await self._lease.release()
        elif self._lease is not None:
            await self._lease.publish(self._answer, self._ttl)
        elif self._shared is not None:
            await self._shared.put(self._key, self._answer, self._ttl)

    def _resolve(self, outcome: Outcome) -> None:
        if self._is_resolved:
            return
        self._is_resolved = True
        if self._flights is not None:
            del self._flights[self._key]
        if self._outcome is not None:
            self._outcome.set_result(outcome)
