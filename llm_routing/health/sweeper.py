"""The sweep inside a server: a thread of its own that sweeps whenever nobody else has.

A thread beside the background one, because a sweep takes as long as providers let it wait.
"""

import atexit
import logging
import os
import threading
from collections.abc import Callable

from django.db import close_old_connections, connections

from llm_routing.models.databases import DATABASE_ERRORS

from .sweep import LeaseLost, NothingToCheck, SweepReport, SweepStopped

logger = logging.getLogger(__name__)

STANDBY_SECONDS = 5.0
STOP_SECONDS = 10.0

RunSweep = Callable[[float, threading.Event], SweepReport | None]
"""Sweeps if the last sweep began so many seconds ago, until the event is set."""


def sweep_forever(
    run: RunSweep,
    interval: float,
    stopping: threading.Event,
    tell: Callable[[SweepReport], None],
) -> None:
    """Sweeps every `interval` seconds, or lets others, until `stopping` is set."""
    while not stopping.is_set():
        close_old_connections()
        try:
            report = run(interval, stopping)
        except NothingToCheck as error:
            logger.warning("Nothing to check: %s", error)
        except LeaseLost:
            logger.warning("Another sweeper has taken over.")
        except SweepStopped:
            return
        except DATABASE_ERRORS as error:
            logger.warning("The database cannot be used: %s", type(error).__name__)
            connections.close_all()
        except Exception:
            logger.exception("A sweep failed and will be tried again.")
        else:
            if report is not None:
                tell(report)
        stopping.wait(min(STANDBY_SECONDS, interval / 4))


class Sweeper:
    """The thread. Ends with `stop` or with the process."""

    def __init__(self, run: RunSweep, interval: float) -> None:
        self._run = run
        self._interval = interval
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sweep, name="llm_routing_sweeper", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; a sweep under way is given up."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def _sweep(self) -> None:
        try:
            sweep_forever(self._run, self._interval, self._stopping, _log)
        finally:
            connections.close_all()


def _log(report: SweepReport) -> None:
    for result in report.results:
        if not result.is_healthy:
            target = f"{result.provider}/{result.model}" if result.model else result.provider
            logger.warning("%s is unhealthy: %s", target, result.error_code)


_lock = threading.Lock()
_running: list[Sweeper] = []


def ensure_sweeper(run: RunSweep, interval: float) -> None:
    """Starts the process's sweeper where there is none."""
    with _lock:
        if not _running:
            _running.append(Sweeper(run, interval))
            _running[0].start()


def stop_sweeper() -> None:
    """Ends the sweeper, if there is one."""
    with _lock:
        running = _running.copy()
        _running.clear()
    for sweeper in running:
        sweeper.stop()


def _after_fork() -> None:
    """Threads do not survive a fork: the child starts its own when it needs one."""
    _running.clear()
    _lock.release()


# Held across the fork, so that the child does not inherit it from a thread that it does not have.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)
atexit.register(stop_sweeper)
