"""The sweeper inside a server: a thread that sweeps whenever no other process has.

It is separate from the background thread, because a sweep takes as long as providers need.
"""

import atexit
import logging
import threading
from collections.abc import Callable

from django.db import close_old_connections, connections

from llm_routing.models.databases import DATABASE_ERRORS
from llm_routing.system.forks import Stage
from llm_routing.system.threads import BackgroundThread, OnePerProcess

from .sweep import LeaseLost, NothingToCheck, SweepReport, SweepStopped

logger = logging.getLogger(__name__)

STANDBY_SECONDS = 5.0

RunSweep = Callable[[float, threading.Event], SweepReport | None]
"""Sweeps unless the last sweep began less than the given seconds ago. Stops when the event is
set."""


def sweep_forever(
    run: RunSweep,
    interval: float,
    stopping: threading.Event,
    tell: Callable[[SweepReport], None],
) -> None:
    """Sweeps every `interval` seconds, unless another process has, until `stopping` is set."""
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
            logger.exception("A sweep failed and will be repeated.")
        else:
            if report is not None:
                tell(report)
        stopping.wait(min(STANDBY_SECONDS, interval / 4))


def log_report(report: SweepReport) -> None:
    """Logs the unhealthy targets, and why this process refused to call a provider."""
    for result in report.results:
        if not result.is_healthy:
            target = f"{result.provider}/{result.model}" if result.model else result.provider
            # Refusals of this process are our own text; a vendor's message may repeat the request.
            reason = "" if result.is_about_target or result.model else f". {result.message}"
            logger.warning("%s is unhealthy: %s%s", target, result.error_code, reason)


_sweeper: OnePerProcess[BackgroundThread] = OnePerProcess(Stage.SWEEPER)


def ensure_sweeper(run: RunSweep, interval: float) -> None:
    """Starts the process's sweeper if there is none."""

    def sweep(stopping: threading.Event) -> None:
        try:
            sweep_forever(run, interval, stopping, log_report)
        finally:
            connections.close_all()

    _sweeper.ensure(lambda: BackgroundThread("llm_routing_sweeper", sweep))


def stop_sweeper() -> None:
    """Stops the sweeper, if there is one; a running sweep is cancelled."""
    _sweeper.stop()


atexit.register(stop_sweeper)
