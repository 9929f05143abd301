"""Daemon threads that can be stopped, and objects of which a process has at most one."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from .forks import ForkHandlers, Stage, forks

STOP_TIMEOUT = 10.0


class BackgroundThread:
    """A daemon thread that runs `run` once; the event that `run` receives is set when it should
    return. Ends with `stop` or with the process."""

    def __init__(self, name: str, run: Callable[[threading.Event], None]) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=run, args=(self._stopping,), name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Tells the thread to stop and waits for it, up to `STOP_TIMEOUT` seconds."""
        self._stopping.set()
        self._thread.join(STOP_TIMEOUT)


class Service(Protocol):
    """An object with its own threads."""

    def start(self) -> None:
        """Starts the threads."""

    def stop(self) -> None:
        """Stops the threads."""


T = TypeVar("T", bound=Service)


class OnePerProcess(Generic[T]):
    """At most one `T` in this process: started on first use and dropped in a forked child, where
    its threads do not exist.

    `on_fork` is called in the child with what the parent had. The child keeps that object from
    garbage collection, because finalizers would close what belongs to the parent. `locks` are held
    across a fork.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        on_fork: Callable[[T], None] = lambda _: None,
        locks: Sequence[threading.Lock] = (),
        handlers: ForkHandlers = forks,
    ) -> None:
        self._on_fork = on_fork
        self._lock = threading.Lock()
        self._current: T | None = None
        self._inherited: list[T] = []
        handlers.add(stage, self._reset, locks=(self._lock, *locks))

    def ensure(self, create: Callable[[], T]) -> T:
        """Returns the object; creates and starts it first if there is none."""
        with self._lock:
            if self._current is None:
                self._current = create()
                self._current.start()
            return self._current

    def stop(self) -> None:
        """Stops and drops the object, if there is one."""
        with self._lock:
            current, self._current = self._current, None
        if current is not None:
            current.stop()

    def _reset(self) -> None:
        if self._current is not None:
            self._inherited.append(self._current)
            self._on_fork(self._current)
            self._current = None
