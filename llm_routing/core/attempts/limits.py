"""Concurrency limits with a FIFO queue.

A waiting call waits in its own event loop. The slots belong to the process: any of its threads and
event loops may acquire and release them.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import Struct

from llm_routing.core import timers
from llm_routing.core.ports import Clock
from llm_routing.core.routing_table import ProviderSpec

MIN_QUEUE_RETRY_AFTER = 1.0
MAX_QUEUE_RETRY_AFTER = 60.0
SMOOTHING = 0.2
"""The weight of the latest wait in the average of those before it."""


@dataclass(frozen=True, slots=True)
class QueueFull:
    """No slot is free or expected in time; try again in `retry_after` seconds."""

    retry_after: float


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """The state of a limit: calls in progress, waiting calls, and calls rejected so far."""

    in_use: int
    queued: int
    shed: int


class Slot(Struct, eq=False):
    """One unit of a concurrency limit. Only the first `release` counts; it may come from any
    thread."""

    _limit: "ConcurrencyLimit | None" = None

    def release(self) -> None:
        """Gives the slot to the call that has waited longest."""
        limit, self._limit = self._limit, None
        if limit is not None:
            limit.release()


@dataclass(eq=False, slots=True)
class _Waiter:
    loop: asyncio.AbstractEventLoop
    since: float
    woken: "asyncio.Future[None]" = field(init=False)
    has_slot: bool = False

    def __post_init__(self) -> None:
        self.woken = self.loop.create_future()

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class ConcurrencyLimit:
    """At most `size` calls run at a time; at most `max_queued` wait, each until its deadline.

    If the queue is full, or if recent waits show that the deadline would pass, the call is rejected
    with `QueueFull` at once, so that it can still fail over.
    """

    def __init__(self, size: int, max_queued: int, clock: Clock) -> None:
        self.size = size
        self._max_queued = max_queued
        self._clock = clock
        self._lock = threading.Lock()
        self._in_use = 0
        self._shed = 0
        self._queue: deque[_Waiter] = deque()
        self._usual_wait = 0.0

    @property
    def status(self) -> LimitStatus:
        """The current state of the limit."""
        with self._lock:
            return LimitStatus(self._in_use, len(self._queue), self._shed)

    def resize(self, size: int) -> None:
        """Changes the limit. Slots in excess disappear as they are released."""
        with self._lock:
            self.size = size
            self._hand_on()

    def refusal(self, seconds: float, *, is_final: bool) -> QueueFull | None:
        """Returns the rejection that `acquire` would return at once for a call with a deadline in
        `seconds`; None if the call would be admitted or wait. With `is_final` a rejection is
        counted."""
        if self._in_use < self.size and not self._queue:
            return None
        with self._lock:
            full = self._refusal(seconds)
            self._shed += is_final and full is not None
            return full

    def try_acquire(self) -> Slot | None:
        """Returns a slot if one is free, else None."""
        with self._lock:
            if self._in_use < self.size and not self._queue:
                self._in_use += 1
                return Slot(self)
        return None

    async def acquire(self, deadline: float) -> Slot | QueueFull:
        """Returns a slot as soon as one is free. Returns `QueueFull` if none is expected before
        `deadline` (monotonic seconds), or when the deadline has passed."""
        with self._lock:
            if self._in_use < self.size and not self._queue:
                self._in_use += 1
                return Slot(self)
            now = self._clock.monotonic()
            refusal = self._refusal(deadline - now)
            if refusal is not None:
                self._shed += 1
                return refusal
            waiter = _Waiter(asyncio.get_running_loop(), now)
            self._queue.append(waiter)
        try:
            with timers.timeout(deadline - waiter.since):
                await waiter.woken
        except TimeoutError:
            with self._lock:
                self._withdraw(waiter)
                self._shed += 1
                return _full(self._usual_wait)
        except BaseException:
            with self._lock:
                self._withdraw(waiter)
            raise
        return Slot(self)

    def release(self) -> None:
        """Ends one call. Called by `Slot.release`."""
        with self._lock:
            self._in_use -= 1
            if self._queue:
                self._hand_on()

    def _refusal(self, seconds: float) -> QueueFull | None:
        wait = self._expected_wait()
        if len(self._queue) < self._max_queued and wait < seconds:
            return None
        return _full(wait)

    def _expected_wait(self) -> float:
        """Returns the recent wait in the queue, or that of its first call if it is longer."""
        if not self._queue:
            # Waits from before the queue was last empty say nothing about the present.
            self._usual_wait = 0.0
            return 0.0
        return max(self._usual_wait, self._clock.monotonic() - self._queue[0].since)

    def _hand_on(self) -> None:
        while self._queue and self._in_use < self.size:
            waiter = self._queue.popleft()
            self._learn(waiter)
            try:
                waiter.loop.call_soon_threadsafe(waiter.wake)
            except RuntimeError:
                # Its event loop is closed, so nothing waits there any more.
                continue
            waiter.has_slot = True
            self._in_use += 1

    def _learn(self, waiter: _Waiter) -> None:
        waited = self._clock.monotonic() - waiter.since
        self._usual_wait += SMOOTHING * (waited - self._usual_wait)

    def _withdraw(self, waiter: _Waiter) -> None:
        if waiter.has_slot:
            # The slot came too late for this call, so the next one gets it.
            self._in_use -= 1
            self._hand_on()
        elif waiter in self._queue:
            self._queue.remove(waiter)
            self._learn(waiter)


class ProviderLimits:
    """One limit per provider, of the size of its connection pool: the provider's `max_connections`
    if set, else `pool_size`."""

    def __init__(self, pool_size: int, max_queued: int, clock: Clock) -> None:
        self._pool_size = pool_size
        self._max_queued = max_queued
        self._clock = clock
        self._limits: dict[str, ConcurrencyLimit] = {}

    def try_acquire(self, provider: ProviderSpec) -> Slot | None:
        """See `ConcurrencyLimit.try_acquire`."""
        return self._of(provider).try_acquire()

    async def acquire(self, provider: ProviderSpec, deadline: float) -> Slot | QueueFull:
        """See `ConcurrencyLimit.acquire`."""
        return await self._of(provider).acquire(deadline)

    def _of(self, provider: ProviderSpec) -> ConcurrencyLimit:
        """Returns the provider's limit, resized if its configuration has changed."""
        size = provider.max_connections or self._pool_size
        limit = self._limits.get(provider.name)
        if limit is None:
            limit = self._limits.setdefault(
                provider.name, ConcurrencyLimit(size, self._max_queued, self._clock)
            )
        elif size != limit.size:
            limit.resize(size)
        return limit

    def statuses(self) -> Mapping[str, LimitStatus]:
        """Returns the state of the limits of all providers that were called."""
        return {name: limit.status for name, limit in list(self._limits.items())}


def _full(wait: float) -> QueueFull:
    return QueueFull(min(max(wait, MIN_QUEUE_RETRY_AFTER), MAX_QUEUE_RETRY_AFTER))
