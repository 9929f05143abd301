"""Recent latencies of targets. They decide on hedging and on the wait after a 429."""

import threading
from collections import deque

from llm_routing.core.bounded_map import BoundedMap

WINDOW = 300.0
MAX_CALLS = 100
MIN_CALLS = 20
MAX_KEYS = 10_000


class Latencies:
    """Seconds to a whole answer or to a stream's first content, by key. Thread-safe.

    Only the last `MAX_CALLS` calls within `WINDOW` seconds are kept. Callers pass the time in
    monotonic seconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: BoundedMap[str, deque[tuple[float, float]]] = BoundedMap(
            lambda: deque(maxlen=MAX_CALLS), MAX_KEYS
        )

    def note(self, key: str, now: float, seconds: float) -> None:
        """Records a call that took at least `seconds`."""
        with self._lock:
            self._calls[key].append((now, seconds))
            self._calls.move_to_end(key)

    def quantile(self, key: str, share: float, now: float) -> float | None:
        """Returns the seconds within which `share` of the calls ended; None if there are too few
        calls."""
        with self._lock:
            calls = self._calls.get(key, ())
            seconds = sorted(took for at, took in calls if at > now - WINDOW)
        if len(seconds) < MIN_CALLS:
            return None
        return seconds[min(int(share * len(seconds)), len(seconds) - 1)]
