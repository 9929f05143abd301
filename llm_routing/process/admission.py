"""Limits the requests under way in this process; a bounded number waits and others are rejected.

`core.attempts.limits` has the queue. Connections to providers have separate limits.
"""

from llm_routing.conf import Settings
from llm_routing.core.attempts.limits import ConcurrencyLimit, LimitStatus, QueueFull, Slot
from llm_routing.core.errors import Overloaded
from llm_routing.core.ports import Clock


class Admission:
    """The limit of the process: its routers and event loops share the slots."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Returns to the initial state, without limits."""
        self._limit: ConcurrencyLimit | None = None
        self._longest = 0.0

    def begin(self, settings: Settings, clock: Clock) -> None:
        """Starts to limit requests, unless it already does."""
        if self._limit is None:
            self._longest = settings.total_timeout
            self._limit = ConcurrencyLimit(settings.max_concurrency, settings.max_queued, clock)

    @property
    def status(self) -> LimitStatus:
        """The numbers of requests under way, waiting and rejected."""
        return LimitStatus(0, 0, 0) if self._limit is None else self._limit.status

    def refusal(self, *, is_final: bool = False) -> Overloaded | None:
        """Returns why any request would be rejected now, before reading it. Counts as rejected once
        that is final."""
        if self._limit is None:
            return None
        full = self._limit.refusal(self._longest, is_final=is_final)
        return None if full is None else _overloaded(full)

    def check(self) -> None:
        """Raises the `refusal`."""
        refusal = self.refusal(is_final=True)
        if refusal is not None:
            raise refusal

    def try_acquire(self) -> Slot | None:
        """Returns a slot for a request until it ends, or None if no slot is free."""
        return Slot() if self._limit is None else self._limit.try_acquire()

    async def acquire(self, deadline: float) -> Slot:
        """Returns a slot for a request until it ends; waits until `deadline` (monotonic seconds) if
        needed. Raises `Overloaded`."""
        if self._limit is None:
            return Slot()
        slot = await self._limit.acquire(deadline)
        if isinstance(slot, QueueFull):
            raise _overloaded(slot)
        return slot


def _overloaded(full: QueueFull) -> Overloaded:
    return Overloaded(
        "The gateway has as many requests under way and waiting as the settings MAX_CONCURRENCY "
        "and MAX_QUEUED allow. Retry later.",
        retry_after=full.retry_after,
    )


admission = Admission()
