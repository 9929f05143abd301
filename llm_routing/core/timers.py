"""Timers and timeouts that rarely fire: cheap to start and cancel, with one asyncio timer for all.

Everything here belongs to one event loop and is used in its thread.
"""

import asyncio
import threading
from abc import ABC, abstractmethod
from contextvars import Context
from types import TracebackType
from typing import Any, Self

RESOLUTION = 0.005
"""Seconds between two searches for due timers, and so the most by which a timer is late."""

_local = threading.local()


def running_loop() -> asyncio.AbstractEventLoop:
    """Returns the running event loop of this thread, like `asyncio.get_running_loop`.

    In Python 3.11 that function makes a system call each time to detect a fork; this one does not,
    so a forked child calls `forget_running_loop`. Raises `RuntimeError` if no loop is running.
    """
    return _running_timers().loop


def forget_running_loop() -> None:
    """Clears this thread's cached event loop. In a forked child the parent's loop would still seem
    to run."""
    _local.__dict__.clear()


class Timer(ABC):
    """Calls `on_timeout` once, some seconds after `start`, unless it is cancelled before.

    Like `loop.call_later`, for timers that are nearly always cancelled.
    """

    __slots__ = ("_timers", "due_at")

    def start(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the timer, or starts it again. `loop` is the running event loop."""
        self._timers = timers = _timers_of(loop)
        self.due_at = due_at = loop.time() + seconds
        timers.pending.add(self)
        if due_at < timers.wakes_at:
            timers.wake_at(due_at)

    def cancel(self) -> None:
        """Stops the timer; no-op if it has fired. Call it after `start` only."""
        self._timers.pending.discard(self)

    @abstractmethod
    def on_timeout(self) -> None:
        """Called when the time is over."""


class StallTimeout(Timer):
    """A reusable timeout for one wait after another, never two at a time.

    `with timeout.within(seconds):` raises `TimeoutError` if the wait in its block takes longer,
    like `asyncio.timeout`.
    """

    __slots__ = ("_cancelling", "_has_fired", "_loop", "_seconds", "_task")

    def __init__(self, seconds: float = 0.0) -> None:
        self._timers = timers = _running_timers()
        self._loop = timers.loop
        self._seconds = seconds
        self._has_fired = False

    def within(self, seconds: float) -> Self:
        """Sets the limit of the next wait."""
        self._seconds = seconds
        return self

    def __enter__(self) -> None:
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._cancelling = task.cancelling()
        # The same as `start` but inlined, because it runs for every request.
        timers = self._timers
        self.due_at = due_at = self._loop.time() + self._seconds
        timers.pending.add(self)
        if due_at < timers.wakes_at:
            timers.wake_at(due_at)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timers.pending.discard(self)
        if self._has_fired:
            self._has_fired = False
            # If other code has cancelled the task too, that cancellation must go through.
            if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def on_timeout(self) -> None:
        """Cancels the wait."""
        self._has_fired = True
        self._task.cancel()


class FutureTimeout(Timer):
    """A reusable timeout for one future after another, never two at a time: `TimeoutError` becomes
    the exception of one that is not done in time.

    A future that is done leaves its timer pending and the next one moves it, which costs one
    reading of the clock. Call `cancel` at the end.
    """

    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timers = _timers_of(loop)

    def limit(self, future: "asyncio.Future[Any]", seconds: float) -> None:
        """Sets the time that `future` has from now on."""
        self._future = future
        # The same as `start` but inlined, because it runs for every piece of a stream.
        timers = self._timers
        self.due_at = due_at = timers.loop.time() + seconds
        timers.pending.add(self)
        if due_at < timers.wakes_at:
            timers.wake_at(due_at)

    def on_timeout(self) -> None:
        """Ends the wait."""
        future = self._future
        if not future.done():
            future.set_exception(TimeoutError())
            # Seen: asyncio is not to log it if the waiting task is cancelled at the same time.
            future.exception()


def timeout(seconds: float) -> StallTimeout:
    """Returns a context manager that raises `TimeoutError` if its block takes longer."""
    return StallTimeout(seconds)


def _running_timers() -> "_LoopTimers":
    """The pending timers of the running event loop of this thread."""
    timers: _LoopTimers | None = getattr(_local, "timers", None)
    if timers is None or not timers.loop.is_running():
        timers = _local.timers = _LoopTimers(asyncio.get_running_loop())
    return timers


def _timers_of(loop: asyncio.AbstractEventLoop) -> "_LoopTimers":
    """The pending timers of `loop`, which runs in this thread."""
    timers: _LoopTimers | None = getattr(_local, "timers", None)
    if timers is None or timers.loop is not loop:
        timers = _local.timers = _LoopTimers(loop)
    return timers


class _LoopTimers:
    """The pending timers of one event loop, and the asyncio timer that serves them all."""

    __slots__ = ("_handle", "loop", "pending", "wakes_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pending: set[Timer] = set()
        self.wakes_at = float("inf")
        self._handle: asyncio.TimerHandle | None = None

    def wake_at(self, at: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self.wakes_at = at
        # It serves all requests, so it must not hold the context of the one that started it.
        self._handle = self.loop.call_at(at, self._fire_due, context=Context())

    def _fire_due(self) -> None:
        self._handle, self.wakes_at = None, float("inf")
        now = self.loop.time()
        due = [timer for timer in self.pending if timer.due_at <= now]
        self.pending.difference_update(due)
        for timer in due:
            timer.on_timeout()
        if self.pending:
            first = min(timer.due_at for timer in self.pending)
            self.wake_at(max(first, now + RESOLUTION))
