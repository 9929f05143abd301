"""Tells the failures of a target from those that one caller's requests provoke.

A prompt that always times out, or that breaks the vendor's server, must not open a circuit breaker
for every caller. `formats.error_attribution` judges a single error response.
"""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_routing.core.bounded_map import BoundedMap
from llm_routing.core.errors import (
    AnswerTooLarge,
    ConnectionLost,
    ConnectTimeout,
    MalformedAnswer,
    ServerFailed,
    TruncatedStream,
    UpstreamError,
    UpstreamTimeout,
)

MEMORY_SECONDS = 60.0
MAX_UNCONFIRMED = 2
MAX_CALLERS = 32
MAX_TARGETS = 10_000

_PROVOCABLE = (
    AnswerTooLarge,
    ConnectionLost,
    MalformedAnswer,
    ServerFailed,
    TruncatedStream,
    UpstreamTimeout,
)

CallerKey = tuple[str, str]
"""A tenant and the name of its key."""


@dataclass(slots=True)
class _Seen:
    """Recent results of a target for one caller."""

    served_at: float = float("-inf")
    failed_at: float = float("-inf")
    unconfirmed: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_UNCONFIRMED))


class FailureAttribution:
    """Recent results of targets by caller, in memory and thread-safe.

    A failure that a request can provoke counts against the target if no other caller has had a
    success within `MEMORY_SECONDS`, or if another caller has failed since its own last success.
    Otherwise one caller adds at most `MAX_UNCONFIRMED` failures in that time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._targets: BoundedMap[str, BoundedMap[CallerKey, _Seen]] = BoundedMap(
            lambda: BoundedMap(_Seen, MAX_CALLERS), MAX_TARGETS
        )

    @property
    def remembered_callers(self) -> Mapping[str, int]:
        """The number of callers whose results are remembered, by target."""
        with self._lock:
            return {target: len(callers) for target, callers in self._targets.items()}

    def note_success(self, target: str, caller: CallerKey, now: float) -> None:
        """Notes that the target has answered the caller."""
        with self._lock:
            self._of(target, caller).served_at = now

    def believe(self, target: str, caller: CallerKey, error: UpstreamError, now: float) -> bool:
        """Notes a failure and returns whether it counts against the target."""
        with self._lock:
            seen = self._of(target, caller)
            seen.failed_at = now
            if not isinstance(error, _PROVOCABLE) or isinstance(error, ConnectTimeout):
                return True
            since = now - MEMORY_SECONDS
            others = [one for who, one in self._targets[target].items() if who != caller]
            if not any(one.served_at > since for one in others):
                return True
            if any(one.failed_at > max(one.served_at, since) for one in others):
                return True
            counted = seen.unconfirmed
            if len(counted) == MAX_UNCONFIRMED and counted[0] > since:
                return False
            counted.append(now)
            return True

    def _of(self, target: str, caller: CallerKey) -> _Seen:
        callers = self._targets[target]
        seen = callers[caller]
        callers.move_to_end(caller)
        return seen
