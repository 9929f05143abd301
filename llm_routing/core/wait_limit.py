"""A limit on waits of which there are many: what `asyncio.timeout` does for one, cheaply."""

import asyncio
from types import TracebackType
from typing import Any, Self


class WaitLimit:
    """Limits one wait after another, never two at a time, with one timer for all of them.

    `with limit.within(seconds):` around a wait raises `TimeoutError` where that takes longer.
    """

    __slots__ = ("_cancelling", "_fires_at", "_is_over", "_loop", "_task", "_timer", "_until")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0
        self._until = 0.0
        self._cancelling = 0
        self._is_over = False

    def within(self, seconds: float) -> Self:
        """The wait that begins now may take so long."""
        self._until = until = self._loop.time() + seconds
        # A timer that fires too early looks again; data that flows pays for none.
        if self._timer is None or until < self._fires_at:
            self._set_timer()
        return self

    def __enter__(self) -> None:
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if self._is_over:
            self._is_over = False
            # Where somebody else has cancelled as well, it is theirs.
            if (
                task is not None
                and task.uncancel() <= self._cancelling
                and kind is asyncio.CancelledError
            ):
                raise TimeoutError from error

    def close(self) -> None:
        """No wait follows."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        self.close()
        self._fires_at = self._until
        self._timer = self._loop.call_at(self._until, self._check)

    def _check(self) -> None:
        self._timer = None
        if self._task is None:
            return
        if self._loop.time() < self._until:
            self._set_timer()
        else:
            self._is_over = True
            self._task.cancel()
