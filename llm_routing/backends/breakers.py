"""The circuit breakers of this process, one for each target, for any of its threads.

When a breaker opens and closes is decided in `core.breaker`.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from random import Random

from llm_routing.core.breaker import (
    Breaker,
    BreakerPermit,
    BreakerRules,
    BreakerStatus,
    Refusal,
)
from llm_routing.core.errors import UpstreamError
from llm_routing.core.ports import Clock, Permit
from llm_routing.core.routing_table import Target

MAX_BREAKERS = 10_000

Key = tuple[str, str]
"""A provider's name and the model's identifier there."""


class MemoryBreakers:
    """`core.ports.BreakerStore` in memory. Those that were used longest ago make room."""

    def __init__(self, rules: BreakerRules, clock: Clock, rng: Random) -> None:
        self._rules = rules
        self._clock = clock
        self._rng = rng
        self._lock = threading.Lock()
        self._breakers: OrderedDict[Key, Breaker] = OrderedDict()

    async def admit(self, target: Target) -> Permit | Refusal:
        """Leave to ask `target`, or why not; see `core.ports.BreakerStore`."""
        key = (target.provider.name, target.model.model_id)
        with self._lock:
            breaker = self._breakers.get(key)
            if breaker is None:
                breaker = self._breakers[key] = Breaker(self._rules, self._rng)
                if len(self._breakers) > MAX_BREAKERS:
                    self._breakers.popitem(last=False)
            else:
                self._breakers.move_to_end(key)
            admitted = breaker.admit(self._clock.monotonic())
        if isinstance(admitted, Refusal):
            return admitted
        return _LockedPermit(admitted, self._lock, self._clock)

    def statuses(self) -> Mapping[Key, BreakerStatus]:
        """How every breaker stands that has been used."""
        with self._lock:
            now = self._clock.monotonic()
            return {key: breaker.status(now) for key, breaker in self._breakers.items()}

    def reset(self, provider: str, model: str) -> None:
        """Closes the breaker of one target, if there is one."""
        with self._lock:
            breaker = self._breakers.get((provider, model))
            if breaker is not None:
                breaker.reset()


class _LockedPermit:
    __slots__ = ("_clock", "_lock", "_permit")

    def __init__(self, permit: BreakerPermit, lock: threading.Lock, clock: Clock) -> None:
        self._permit = permit
        self._lock = lock
        self._clock = clock

    def succeed(self) -> None:
        with self._lock:
            self._permit.succeed(self._clock.monotonic())

    def fail(self, error: UpstreamError) -> None:
        with self._lock:
            self._permit.fail(self._clock.monotonic(), error.code, error.retry_after)

    def release(self) -> None:
        with self._lock:
            self._permit.release()
