"""`manage.py llm_health_sweep`: checks every active provider and model.

`llm_routing.health` runs the checks and records the results.
"""

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from llm_routing.conf import get_settings
from llm_routing.factory import sweep_health
from llm_routing.health.checks import CheckResult
from llm_routing.health.sweep import (
    LeaseLost,
    NothingToCheck,
    Selection,
    SweepReport,
    SweepStopped,
)
from llm_routing.health.sweeper import sweep_forever
from llm_routing.management.database import COULD_NOT_RUN, database_error
from llm_routing.models.databases import DATABASE_ERRORS
from llm_routing.process.background import stop_background

UNHEALTHY = 1
MAX_WAIT = 60.0


class Command(BaseCommand):
    """Sweeps once, or in a loop until it is stopped, and prints the results."""

    help = (
        "Checks every active provider and model, once or in a loop, and records "
        "the results. Only one sweeper works at a time, however many run. Exit "
        "status: 0 all healthy, 1 something is not, 2 could not run."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--provider",
            action="extend",
            nargs="+",
            default=[],
            metavar="NAME",
            help="Only these active providers.",
        )
        parser.add_argument(
            "--model",
            action="extend",
            nargs="+",
            default=[],
            metavar="MODEL",
            help="Only these active models: provider/model_id, alias or identifier.",
        )
        parser.add_argument(
            "--deep",
            action="store_true",
            help="Request a completion of one token from every model, which is billed, "
            "instead of the list of models from every provider.",
        )
        parser.add_argument(
            "--loop",
            action="store_true",
            help="Sweep in a loop until SIGTERM or SIGINT, then exit with 0.",
        )
        parser.add_argument(
            "--interval",
            type=float,
            metavar="SECONDS",
            help="With --loop: seconds between sweeps. Default: HEALTH_CHECK_INTERVAL.",
        )
        parser.add_argument(
            "--json", action="store_true", help="Print each report as JSON, in a loop one per line."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        interval = options["interval"]
        if interval is not None and (not options["loop"] or not 1 <= interval <= 86_400):
            raise CommandError(
                "--interval requires --loop and must be from 1 to 86400 seconds.",
                returncode=COULD_NOT_RUN,
            )
        selection = Selection(
            tuple(options["provider"]), tuple(options["model"]), deep=options["deep"]
        )
        try:
            with _stopping_on_signal() as stopping:
                if options["loop"]:
                    self._loop(selection, interval, stopping, options)
                else:
                    self._once(selection, stopping, options)
        except ImproperlyConfigured as error:
            raise CommandError(str(error), returncode=COULD_NOT_RUN) from None
        finally:
            # The completions are in the database when the command ends.
            stop_background()

    def _once(
        self, selection: Selection, stopping: threading.Event, options: dict[str, Any]
    ) -> None:
        try:
            report = sweep_health(selection, max_wait=MAX_WAIT, stopping=stopping)
        except NothingToCheck as error:
            raise CommandError(str(error), returncode=COULD_NOT_RUN) from None
        except LeaseLost:
            raise CommandError(
                "Another sweeper has taken over.", returncode=COULD_NOT_RUN
            ) from None
        except SweepStopped:
            raise CommandError("Stopped.", returncode=COULD_NOT_RUN) from None
        except DATABASE_ERRORS as error:
            raise database_error(error) from error
        if report is None:
            raise CommandError(
                f"Another sweeper has been running for {MAX_WAIT:.0f} seconds.",
                returncode=COULD_NOT_RUN,
            )
        self._tell(report, options)
        if not report.is_healthy:
            sys.exit(UNHEALTHY)

    def _loop(
        self,
        selection: Selection,
        interval: float | None,
        stopping: threading.Event,
        options: dict[str, Any],
    ) -> None:
        def run(interval: float, stopping: threading.Event) -> SweepReport | None:
            return sweep_health(selection, interval=interval, stopping=stopping)

        def tell(report: SweepReport) -> None:
            self._tell(report, options)

        sweep_forever(run, interval or get_settings().health_check_interval, stopping, tell)

    def _tell(self, report: SweepReport, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json(), indent=None if options["loop"] else 2))
        elif options["verbosity"] >= 1:
            for result in report.results:
                if not result.is_healthy:
                    self.stdout.write(self.style.ERROR(_line(result)))
                elif options["verbosity"] >= 2 or not result.model:
                    self.stdout.write(_line(result))
            self.stdout.write(_summary(report))
            if report.refused:
                self.stdout.write(self.style.WARNING(_REFUSED))
        self.stdout.flush()


@contextmanager
def _stopping_on_signal() -> Iterator[threading.Event]:
    """Yields an event that SIGTERM and SIGINT set."""
    stopping = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        stopping.set()

    if threading.current_thread() is not threading.main_thread():
        # Only the main thread receives signals; a caller in another thread stops the loop itself.
        yield stopping
        return
    before = {signum: signal.signal(signum, stop) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _line(result: CheckResult) -> str:
    target = f"{result.provider}/{result.model}" if result.model else result.provider
    latency = "" if result.latency_ms is None else f" ({result.latency_ms:.0f} ms)"
    if result.is_healthy:
        note = f", {result.error_code}" if result.error_code else ""
        return f"{target}: healthy{note}{latency}"
    return f"{target}: {result.error_code}{latency}. {result.message}"


_REFUSED = (
    "Checks that this process refused to send are not recorded: its settings "
    "or environment differ from the server's. Give it the same keys and "
    "LLM_ALLOWED_UPSTREAM_NETWORKS."
)


def _summary(report: SweepReport) -> str:
    good = sum(result.is_healthy for result in report.results)
    bad = len(report.results) - good - report.refused
    refused = f", {report.refused} refused by this process" if report.refused else ""
    unchecked = f", {len(report.unchecked)} not checked in time" if report.unchecked else ""
    return f"{good} healthy, {bad} unhealthy{refused}{unchecked}, in {report.seconds:.1f} s."
