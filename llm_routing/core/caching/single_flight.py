"""Cached answers with single-flight: concurrent identical requests wait for the first.

`rules` and `idempotency` decide what is stored under which key.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

from llm_routing.core.cached_answer import CachedAnswer
from llm_routing.core.errors import DeadlineExceeded
from llm_routing.core.ports import Clock
from llm_routing.core.timers import running_loop

from .flight import FlightFailure, InFlight, InFlightByKey
from .idempotency import IdempotencyRule
from .ports import CacheHit, Lease, LeaseUnavailable, ResponseCache, SharedCache
from .rules import CacheRule

T = TypeVar("T")
Rule = CacheRule | IdempotencyRule

MAX_WAITS = 3
MIN_POLL_SECONDS = 0.01
MAX_POLL_SECONDS = 0.1


class SingleFlightCache:
    """A cache in the memory of the process and, with `shared`, among processes. One per router and
    kind of rule."""

    def __init__(self, memory: ResponseCache, shared: SharedCache | None, clock: Clock) -> None:
        self.memory = memory
        self.hits = self.misses = 0
        self._shared = shared
        self._clock = clock
        self._flights: WeakKeyDictionary[asyncio.AbstractEventLoop, InFlightByKey] = (
            WeakKeyDictionary()
        )

    async def find(
        self,
        key: str,
        rule: Rule,
        deadline: float,
        read: Callable[[CachedAnswer], T | None],
    ) -> T | InFlight:
        """Returns the cached answer, or that of an identical request, as `read` returns it;
        otherwise a flight.

        `read` returns None for an answer that it cannot parse; its exceptions are raised. Raises
        `DeadlineExceeded` if the rule must wait and `deadline` (monotonic seconds) passes.
        """
        found = await self._look(key, rule, deadline, read) if rule.reads else None
        if found is None:
            found = InFlight(key, rule.ttl, self.memory, self._shared)
        if isinstance(found, InFlight):
            self.misses += 1
        else:
            self.hits += 1
        return found

    async def aclose(self) -> None:
        """Closes the shared cache's connections in the running event loop."""
        if self._shared is not None:
            await self._shared.aclose()

    async def _look(
        self,
        key: str,
        rule: Rule,
        deadline: float,
        read: Callable[[CachedAnswer], T | None],
    ) -> T | InFlight | None:
        """Returns an answer, or a flight that others wait for, or None to call upstream alone."""
        loop = running_loop()
        flights = self._flights.get(loop)
        if flights is None:
            flights = self._flights[loop] = {}
        waits = 0
        while rule.must_wait or waits < MAX_WAITS:
            waits += 1
            cached = self.memory.get(key, rule.ttl)
            if cached is None:
                running = flights.get(key)
                if running is None:
                    flight = InFlight(key, rule.ttl, self.memory, self._shared, flights)
                    if self._shared is None:
                        return flight
                    return await self._lead(flight, self._shared, key, rule, deadline, read)
                waiting = running.outcome()
                await asyncio.wait({waiting}, timeout=self._patience(rule, deadline))
                outcome = waiting.result() if waiting.done() else _out_of_patience(rule)
                if outcome is FlightFailure.FAILED:
                    continue
                if outcome is FlightFailure.NOT_KEPT:
                    return None
                cached = outcome
            return read(cached)
        return None

    async def _lead(
        self,
        flight: InFlight,
        shared: SharedCache,
        key: str,
        rule: Rule,
        deadline: float,
        read: Callable[[CachedAnswer], T | None],
    ) -> T | InFlight:
        """Returns the answer of another process; otherwise a flight, with a lease if one was
        granted."""
        try:
            claimed = await self._claim(shared, key, rule, deadline)
            if isinstance(claimed, CacheHit):
                found = read(claimed.answer)
                if found is not None:
                    self.memory.put(key, claimed.answer, claimed.ttl, age=claimed.age)
                    flight.finish_shared(claimed.answer)
                    return found
            elif not isinstance(claimed, LeaseUnavailable):
                flight.set_lease(claimed)
        except BaseException:
            await flight.close()
            raise
        return flight

    async def _claim(
        self, shared: SharedCache, key: str, rule: Rule, deadline: float
    ) -> CacheHit | Lease | LeaseUnavailable:
        """Returns the result of `SharedCache.claim` once the lease is free or the wait is over."""
        until = self._clock.monotonic() + self._patience(rule, deadline)
        poll = MIN_POLL_SECONDS
        while (claimed := await shared.claim(key, rule.ttl)) is LeaseUnavailable.BUSY:
            if self._clock.monotonic() + poll > until:
                _out_of_patience(rule)
                break
            await asyncio.sleep(poll)
            poll = min(poll * 1.5, MAX_POLL_SECONDS)
        return claimed

    def _patience(self, rule: Rule, deadline: float) -> float:
        """Returns the seconds to wait for another request's answer: all of the remaining time if
        the rule must wait, else half of it, so that there is time to call upstream if the leader
        fails."""
        left = max(0.0, deadline - self._clock.monotonic())
        return left if rule.must_wait else left / 2


def _out_of_patience(rule: Rule) -> FlightFailure:
    if rule.must_wait:
        raise DeadlineExceeded(
            "Time ran out before the first request with this idempotency key was answered."
        )
    return FlightFailure.NOT_KEPT
