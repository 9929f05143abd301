"""Limits the requests under way in this process; a bounded number waits and others are rejected.

The queue is in `core.attempts.limits`. Connections to providers have limits of their own.
"""

from llm_routing.conf import Settings
from llm_routing.core.attempts.limits import ConcurrencyLimit, LimitStatus, QueueFull, Slot
from llm_routing.core.errors import Overloaded
from llm_routing.core.ports import Clock


class Admission:
    """One for the process: its routers and event loops share the places."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Returns to the initial state, without limits."""
        self._limit: ConcurrencyLimit | None = None
        self._clock: Clock | None = None
        self._longest = 0.0

    def begin(self, settings: Settings, clock: Clock) -> None:
        """Limits from now on, unless it does already."""
        if self._limit is None:
            self._clock = clock
            self._longest = settings.total_timeout
            self._limit = ConcurrencyLimit(settings.max_concurrency, settings.max_queued, clock)

    @property
    def status(self) -> LimitStatus:
        """The numbers of requests under way, waiting and rejected."""
        return LimitStatus(0, 0, 0) if self._limit is None else self._limit.status

    def refusal(self, *, is_final: bool = False) -> Overloaded | None:
        """Why a request that nobody has read yet would be refused whatever is in it. It counts as
        refused once that is final."""
        if self._limit is None or self._clock is None:
            return None
        deadline = self._clock.monotonic() + self._longest
        full = self._limit.refusal(deadline, is_final=is_final)
        return None if full is None else _overloaded(full)

    def check(self) -> None:
        """Raises the `refusal`."""
        refusal = self.refusal(is_final=True)
        if refusal is not None:
            raise refusal

    def try_acquire(self) -> Slot | None:
        """A place for a request until it ends, where there is one at once."""
        return Slot() if self._limit is None else self._limit.try_acquire()

    async def acquire(self, deadline: float) -> Slot:
        """A place for a request until it ends, waited for until `deadline` (monotonic seconds) if
        need be. Raises `Overloaded`."""
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
