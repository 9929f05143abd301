"""Answers of one kind: where they are kept, and who waits for whom where several want the same.

What is kept, under which key, is the rules' to say (`cache`, `idempotency`).
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

from llm_routing.core.errors import DeadlineExceeded
from llm_routing.core.ports import Clock, Found, Lease, NoLease, ResponseCache, SharedCache
from llm_routing.core.running import running_loop

from .flight import Flight, Flights, Landing
from .idempotency import IdempotencyRule
from .rules import CachedAnswer, CacheRule

T = TypeVar("T")
Rule = CacheRule | IdempotencyRule

MOST_WAITS = 3
FIRST_POLL = 0.01
LAST_POLL = 0.1


class Shelf:
    """Answers in the memory of the process and, with `shared`, among processes. One for a
    router."""

    def __init__(self, memory: ResponseCache, shared: SharedCache | None, clock: Clock) -> None:
        self.memory = memory
        self.hits = self.misses = 0
        self._shared = shared
        self._clock = clock
        self._flights: WeakKeyDictionary[asyncio.AbstractEventLoop, Flights] = WeakKeyDictionary()

    async def find(
        self,
        key: str,
        rule: Rule,
        deadline: float,
        read: Callable[[CachedAnswer], T | None],
    ) -> T | Flight:
        """What `read` makes of the answer that is there, or that another request brings while this
        one waits; else a flight. `read` gives None for what it cannot read; what it raises is
        raised. Raises `DeadlineExceeded` where the rule insists and the time (until `deadline`,
        monotonic) is over."""
        found = await self._look(key, rule, deadline, read) if rule.reads else None
        if found is None:
            found = Flight(key, rule.ttl, self.memory, self._shared)
        if isinstance(found, Flight):
            self.misses += 1
        else:
            self.hits += 1
        return found

    async def aclose(self) -> None:
        """Closes the connections of the running event loop."""
        if self._shared is not None:
            await self._shared.aclose()

    async def _look(
        self,
        key: str,
        rule: Rule,
        deadline: float,
        read: Callable[[CachedAnswer], T | None],
    ) -> T | Flight | None:
        """An answer, the flight that others wait for, or None to go alone."""
        loop = running_loop()
        flights = self._flights.get(loop)
        if flights is None:
            flights = self._flights[loop] = {}
        waits = 0
        while rule.insists or waits < MOST_WAITS:
            waits += 1
            cached = self.memory.get(key, rule.ttl)
            if cached is None:
                if key not in flights:
                    flights[key] = loop.create_future()
                    flight = Flight(key, rule.ttl, self.memory, self._shared, flights)
                    if self._shared is None:
                        return flight
                    return await self._lead(flight, self._shared, key, rule, deadline, read)
                waiting = flights[key]
                await asyncio.wait({waiting}, timeout=self._patience(rule, deadline))
                outcome = waiting.result() if waiting.done() else _out_of_patience(rule)
                if outcome is Landing.FAILED:
                    continue
                if outcome is Landing.NOT_KEPT:
                    return None
                cached = outcome
            return read(cached)
        return None

    async def _lead(
        self,
        flight: Flight,
        shared: SharedCache,
        key: str,
        rule: Rule,
        deadline: float,
        read: Callable[[CachedAnswer], T | None],
    ) -> T | Flight:
        """What other processes have, else the flight, for them too where there is a lease."""
        try:
            claimed = await self._claim(shared, key, rule, deadline)
            if isinstance(claimed, Found):
                found = read(claimed.answer)
                if found is not None:
                    self.memory.put(key, claimed.answer, claimed.ttl, age=claimed.age)
                    flight.hand_on(claimed.answer)
                    return found
            elif not isinstance(claimed, NoLease):
                flight.take(claimed)
        except BaseException:
            await flight.close()
            raise
        return flight

    async def _claim(
        self, shared: SharedCache, key: str, rule: Rule, deadline: float
    ) -> Found | Lease | NoLease:
        """What `SharedCache.claim` says once nobody else has the lease, or patience is over."""
        until = self._clock.monotonic() + self._patience(rule, deadline)
        poll = FIRST_POLL
        while (claimed := await shared.claim(key, rule.ttl)) is NoLease.BUSY:
            if self._clock.monotonic() + poll > until:
                _out_of_patience(rule)
                break
            await asyncio.sleep(poll)
            poll = min(poll * 1.5, LAST_POLL)
        return claimed

    def _patience(self, rule: Rule, deadline: float) -> float:
        """Seconds to wait for another's answer: half of what is left, so that there is time to go
        alone where the one who leads does not come back; all of it for who may not go alone."""
        left = max(0.0, deadline - self._clock.monotonic())
        return left if rule.insists else left / 2


def _out_of_patience(rule: Rule) -> Landing:
    if rule.insists:
        raise DeadlineExceeded(
            "Time ran out before the first request with this idempotency key had its answer."
        )
    return Landing.NOT_KEPT
