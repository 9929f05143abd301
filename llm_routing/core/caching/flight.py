"""One request that asks upstream while its equals wait for what it brings back.

Who flies and who waits is decided in `cached`.
"""

import asyncio
from enum import Enum

from llm_routing.core.ports import Lease, ResponseCache, SharedCache

from .rules import MAX_ENTRY_BYTES, CachedAnswer


class FlightFailure(Enum):
    """Why a flight brought nothing back: another try may help (`FAILED`), or the answer is one
    that is not kept (`NOT_KEPT`)."""

    FAILED = "failed"
    NOT_KEPT = "not kept"


Outcome = CachedAnswer | FlightFailure
InFlightByKey = dict[str, "asyncio.Future[Outcome]"]


class InFlight:
    """Tells its outcome once, to the waiters of this event loop and to the shared cache. With
    `flights` there is a future among them under its key. Close it in any case."""

    def __init__(
        self,
        key: str,
        ttl: float,
        memory: ResponseCache,
        shared: SharedCache | None,
        flights: InFlightByKey | None = None,
    ) -> None:
        self._key = key
        self._ttl = ttl
        self._memory = memory
        self._shared = shared
        self._flights = flights
        self._lease: Lease | None = None
        self._answer: CachedAnswer | None = None
        self._is_resolved = False
        self._is_closed = False

    def set_lease(self, lease: Lease) -> None:
        """Flies for other processes too."""
        self._lease = lease

    def finish(self, answer: CachedAnswer) -> None:
        """Brings back an answer. One that is too large is as good as refused."""
        if len(answer.body) > MAX_ENTRY_BYTES:
            self.finish_uncacheable()
        else:
            self._answer = answer
            self._memory.put(self._key, answer, self._ttl)
            self._resolve(answer)

    def finish_shared(self, answer: CachedAnswer) -> None:
        """Brings back what another process brought: it is known there already."""
        self._resolve(answer)

    def finish_uncacheable(self) -> None:
        """Brings back an answer that is not kept."""
        self._resolve(FlightFailure.NOT_KEPT)

    async def close(self) -> None:
        """Tells the other processes, or gives the lease back."""
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
            self._flights.pop(self._key).set_result(outcome)
