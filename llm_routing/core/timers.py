"""Moments that are set often and seldom come: all those of an event loop share one timer."""

import asyncio
import threading
from contextvars import Context
from types import TracebackType
from typing import Any

from .running import running_loop

COARSE = 0.005
"""A crowd of alarms is looked through this often at most, in seconds."""


class Alarm:
    """Rings once, so many seconds after it was set, unless it is cleared before: `call_later` for
    what is nearly always cleared. For the thread of one event loop."""

    __slots__ = ("_alarms", "rings_at")

    def set(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        """It will ring in `loop`, the running one."""
        alarms: _Alarms | None = getattr(_local, "alarms", None)
        if alarms is None or alarms.loop is not loop:
            alarms = _local.alarms = _Alarms(loop)
        self._alarms = alarms
        self.rings_at = at = loop.time() + seconds
        alarms.waiting.add(self)
        if at < alarms.looks_at:
            alarms.look_at(at)

    def clear(self) -> None:
        """It will not ring."""
        self._alarms.waiting.discard(self)

    def ring(self) -> None:
        """What is to happen then."""
        raise NotImplementedError


class TimeLimit(Alarm):
    """`with TimeLimit(seconds):` around what the running task waits for raises `TimeoutError` where
    that takes longer, as `asyncio.timeout` does."""

    __slots__ = ("_cancelling", "_has_rung", "_seconds", "_task")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._has_rung = False

    def __enter__(self) -> None:
        loop = running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._cancelling = task.cancelling()
        self.set(self._seconds, loop)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()
        # Where somebody else has cancelled as well, it is theirs.
        if (
            self._has_rung
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error

    def ring(self) -> None:
        """Ends the wait."""
        self._has_rung = True
        self._task.cancel()


class _Alarms:
    """Those of one event loop, and when they are looked through next."""

    __slots__ = ("_timer", "looks_at", "loop", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: set[Alarm] = set()
        self.looks_at = float("inf")
        self._timer: asyncio.TimerHandle | None = None

    def look_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.looks_at = at
        # It serves all requests, so it must not hold the context of the one that set it.
        self._timer = self.loop.call_at(at, self._look, context=Context())

    def _look(self) -> None:
        self._timer, self.looks_at = None, float("inf")
        now = self.loop.time()
        due = [alarm for alarm in self.waiting if alarm.rings_at <= now]
        self.waiting.difference_update(due)
        for alarm in due:
            alarm.ring()
        if self.waiting:
            first = min(alarm.rings_at for alarm in self.waiting)
            self.look_at(max(first, now + COARSE))


_local = threading.local()
