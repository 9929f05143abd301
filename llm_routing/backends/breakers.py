"""The circuit breakers of this process, one for each target, for any of its threads.

When a breaker opens and closes is decided in `core.breaker`; how processes share theirs is in
`shared_breakers`.
"""

import threading
from collections.abc import Callable, Mapping
from random import Random

from msgspec import Struct

from llm_routing.core.bounded_map import BoundedMap
from llm_routing.core.breaker import (
    Breaker,
    BreakerPermit,
    BreakerRules,
    BreakerStatus,
    Rejected,
)
from llm_routing.core.errors import UpstreamError
from llm_routing.core.ports import Clock, Permit
from llm_routing.core.routing_table import Target
from llm_routing.core.types import TargetKey

MAX_BREAKERS = 10_000


class MemoryBreakers:
    """`core.ports.BreakerRegistry` in memory. The least recently used ones are evicted."""

    def __init__(self, rules: BreakerRules, clock: Clock, rng: Random) -> None:
        self.rules = rules
        self._clock = clock
        self._rng = rng
        self._lock = threading.Lock()
        self._breakers: BoundedMap[TargetKey, Breaker] = BoundedMap(
            lambda: Breaker(self.rules, self._rng), MAX_BREAKERS
        )

    async def admit(self, target: Target, *, force: bool = False) -> Permit | Rejected:
        """Returns a permit for `target`, or the rejection; see `core.ports.BreakerStore`."""
        with self._lock:
            breaker = self._of(target.key)
            admitted = breaker.admit(self._clock.monotonic(), force=force)
        if isinstance(admitted, Rejected):
            return admitted
        return LockedPermit(admitted, self._lock, self._clock)

    def statuses(self) -> Mapping[TargetKey, BreakerStatus]:
        """The status of every breaker that has been used."""
        with self._lock:
            now = self._clock.monotonic()
            return {key: breaker.status(now) for key, breaker in self._breakers.items()}

    def reset(self, provider: str, model: str) -> None:
        """Closes the breaker of one target, if there is one."""
        with self._lock:
            breaker = self._breakers.get((provider, model))
            if breaker is not None:
                breaker.reset()

    async def aclose(self) -> None:
        """No-op: no other process knows these breakers."""

    def _of(self, key: TargetKey) -> Breaker:
        """Returns the breaker of a target, new or known. The caller holds the lock."""
        breaker = self._breakers[key]
        self._breakers.move_to_end(key)
        return breaker


class LockedPermit(Struct, eq=False):
    """`core.ports.Permit` for a breaker that several threads use. `on_settled` is called once,
    under the lock, with whether the call succeeded."""

    _permit: BreakerPermit
    _lock: threading.Lock
    _clock: Clock
    _on_settled: Callable[[bool], None] | None = None

    def succeed(self, seconds: float = 0.0) -> None:
        """See `Permit.succeed`."""
        with self._lock:
            self._permit.succeed(self._clock.monotonic(), seconds)
            self._settle(is_success=True)

    def fail(self, error: UpstreamError) -> None:
        """See `Permit.fail`."""
        with self._lock:
            self._permit.fail(self._clock.monotonic(), error.code, error.retry_after)
            self._settle()

    def release(self) -> None:
        """See `Permit.release`."""
        with self._lock:
            self._permit.release()
            self._settle()

    def _settle(self, *, is_success: bool = False) -> None:
        on_settled, self._on_settled = self._on_settled, None
        if on_settled is not None:
            on_settled(is_success)
