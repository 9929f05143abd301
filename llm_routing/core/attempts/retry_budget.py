"""Budgets of extra calls: retries and hedges stay a share of the requests, however many fail.

Without a budget, an outage doubles the load on the provider that is already failing.
"""

import threading
from collections import deque

from llm_routing.core.bounded_map import BoundedMap

WINDOW = 10.0
MAX_BUDGETS = 1_000


class RetryBudget:
    """Limits extra calls within `WINDOW` seconds to the share `rate` of the requests; `minimum`
    calls are always allowed.

    Callers pass the time in monotonic seconds. Not thread-safe.
    """

    __slots__ = ("_minimum", "_rate", "_requests", "_seconds", "_spent")

    def __init__(self, rate: float, minimum: int) -> None:
        self._rate = rate
        self._minimum = minimum
        self._seconds: deque[list[int]] = deque()
        self._requests = self._spent = 0

    def note_request(self, now: float) -> None:
        """Counts a request that is not an extra call."""
        self._second(now)[1] += 1
        self._requests += 1

    def try_spend(self, now: float) -> bool:
        """Returns whether one extra call may be made, and counts it if so."""
        second = self._second(now)
        if self._spent >= max(self._minimum, int(self._rate * self._requests)):
            return False
        second[2] += 1
        self._spent += 1
        return True

    def _second(self, now: float) -> list[int]:
        """Returns the counts of the current second: its number, requests, extra calls."""
        number = int(now)
        seconds = self._seconds
        while seconds and seconds[0][0] <= number - WINDOW:
            _, requests, spent = seconds.popleft()
            self._requests -= requests
            self._spent -= spent
        if not seconds or seconds[-1][0] != number:
            seconds.append([number, 0, 0])
        return seconds[-1]


class RetryBudgets:
    """One budget per name. Thread-safe; the least recently used ones are evicted."""

    def __init__(self, rate: float, minimum: int) -> None:
        self._lock = threading.Lock()
        self._budgets: BoundedMap[str, RetryBudget] = BoundedMap(
            lambda: RetryBudget(rate, minimum), MAX_BUDGETS
        )

    def note_request(self, name: str, now: float) -> None:
        """See `RetryBudget.note_request`."""
        with self._lock:
            budget = self._budgets[name]
            self._budgets.move_to_end(name)
            budget.note_request(now)

    def try_spend(self, name: str, now: float) -> bool:
        """See `RetryBudget.try_spend`."""
        with self._lock:
            return self._budgets[name].try_spend(now)
