"""The process's background thread: polls the configuration, ships the ledger, samples metrics.

It is a thread and not a task, so it uses the ORM directly and serves every way of running: ASGI,
WSGI, commands and workers.
"""

import atexit
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

from django.db import connections

from llm_routing.access.api_keys import api_keys
from llm_routing.access.known_keys import KnownKeysFile
from llm_routing.conf import get_settings
from llm_routing.configuration.content_check import ContentCheck
from llm_routing.configuration.source import SnapshotSource, snapshot_source
from llm_routing.health.monitor import health_monitor
from llm_routing.ledger.retention import BATCH, prune_batch
from llm_routing.ledger.shipping import Ledger, Pause
from llm_routing.metrics import Metrics
from llm_routing.models import ConfigurationVersion
from llm_routing.models.databases import DATABASE_ERRORS
from llm_routing.models.gateway_pool import use_gateway_pool
from llm_routing.models.version import UNCHANGED
from llm_routing.system.crashes import enable_crash_tracebacks
from llm_routing.system.forks import Stage
from llm_routing.system.private_files import restrict_to_owner
from llm_routing.system.threads import BackgroundThread, OnePerProcess

logger = logging.getLogger(__name__)

Area = ConfigurationVersion.Area

RECOVERY_INTERVAL = 30.0
CONNECTION_SECONDS = 10.0
MAX_SHIP_PAUSE = 10.0
PRUNE_INTERVAL = 600.0

_step_running = threading.Lock()


class Background:
    """The thread and the objects that it works on. Starts with the first router; ends with `stop`
    or with the process."""

    def __init__(self, snapshots: SnapshotSource) -> None:
        settings = get_settings()
        self.ledger = Ledger(settings.state_dir / "ledger", settings.ledger_max_bytes)
        is_off = settings.metrics_access == "off"
        self.metrics = Metrics(None if is_off else settings.state_dir / "metrics")
        self.known_keys = KnownKeysFile(settings.state_dir / "known_keys", api_keys)
        self._snapshots = snapshots
        self._content_checks = {area: ContentCheck(area) for area in (Area.ROUTING, Area.ACCESS)}
        self._next_ship = float("-inf")
        self._ship_pause = settings.ledger_flush_interval
        self._versions: Mapping[str, tuple[int, str]] = {}
        self._access_version: tuple[int, str] | None = None
        self._thread = BackgroundThread("llm_routing", self._run)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread after it has shipped the settled attempts."""
        self._thread.stop()

    def forget(self) -> None:
        """Drops everything in a forked child: the ledger and the metrics belong to the parent."""
        self.ledger.forget()
        self.metrics.forget()

    def read_versions(self) -> None:
        """Reads which areas have changed, and rechecks API keys if any of them has changed since
        the last call. Raises `django.db.Error`."""
        self._versions = ConfigurationVersion.objects.versions_and_stamps()
        version = self._version(Area.ACCESS)
        if version != self._access_version:
            self._access_version = version
            api_keys.invalidate()
            self.known_keys.outdate()

    def _run(self, stopping: threading.Event) -> None:
        settings = get_settings()
        use_gateway_pool()
        next_poll = next_recovery = next_connection = next_prune = time.monotonic()
        while not stopping.is_set():
            now = time.monotonic()
            if now >= next_connection:
                # Connections are kept for a while: opening one costs more than most steps, and
                # SQLite checkpoints its log when the last one closes. A failed step closes it too.
                next_connection = now + CONNECTION_SECONDS
                self._guarded(connections.close_all)
            self._guarded(self.ledger.restore)
            self._guarded(self.metrics.restore)
            self._guarded(partial(self._ship, partial(_pause, stopping)))
            if now >= next_poll:
                next_poll = now + settings.snapshot_poll_interval
                self._poll()
                self._guarded(health_monitor.refresh)
                self._guarded(self.metrics.sample)
                if settings.usage_retention_days and now >= next_prune and self._prune():
                    next_prune = now + PRUNE_INTERVAL
            if now >= next_recovery:
                next_recovery = now + RECOVERY_INTERVAL
                self._guarded(self._recover)
                self._guarded(self.metrics.merge_ended)
            self._guarded(_release_pooled_connections)
            stopping.wait(min(settings.ledger_flush_interval, settings.snapshot_poll_interval))
        # A kept connection may be broken, and the last steps are not repeated.
        self._guarded(connections.close_all)
        self._guarded(self.ledger.close)
        self._guarded(health_monitor.withdraw_reports)
        self._guarded(partial(self.known_keys.save, at_once=True))
        self.metrics.close()
        connections.close_all()

    def _guarded(self, step: Callable[[], object]) -> bool:
        """Runs a step and returns whether it succeeded. The thread survives every error; the usual
        one is that the database is unavailable."""
        with _step_running:
            try:
                step()
            except DATABASE_ERRORS as error:
                logger.warning("The database cannot be used: %s", type(error).__name__)
                connections.close_all()
            except Exception:
                logger.exception("A background step failed and will be retried.")
                connections.close_all()
            else:
                return True
        return False

    def _poll(self) -> None:
        # A database that does not respond takes a while to fail, so it gets only one query. If it
        # has just closed the connection that was kept, the query is repeated over another one.
        was_kept = any(c.connection is not None for c in connections.all(initialized_only=True))
        if self._guarded(self.read_versions) or (was_kept and self._guarded(self.read_versions)):
            # The content is checked before the tables are compiled from it, so that a change
            # between the two is noticed.
            for area, check in self._content_checks.items():
                self._guarded(partial(self._check_content, area, check))
            self._guarded(partial(self._snapshots.refresh, self._version(Area.ROUTING)))
            self._guarded(partial(health_monitor.sync, self._version(Area.HEALTH)))
            self._guarded(self.known_keys.save)
        else:
            self._snapshots.mark_unconfirmed()

    def _version(self, area: str) -> tuple[int, str]:
        return self._versions.get(area, UNCHANGED)

    def _check_content(self, area: str, check: ContentCheck) -> None:
        if check.run(self._version(area)):
            self.read_versions()

    def _ship(self, pause: Pause) -> None:
        is_due = time.monotonic() >= self._next_ship
        if is_due and not self._stores(partial(self.ledger.ship, pause)):
            # Each try makes the database reject the same records again.
            self._ship_pause = min(2 * self._ship_pause, MAX_SHIP_PAUSE)
            self._next_ship = time.monotonic() + self._ship_pause
        elif not self.ledger.trouble:
            self._ship_pause = get_settings().ledger_flush_interval

    def _recover(self) -> None:
        self._stores(self.ledger.recover)

    def _stores(self, step: Callable[[], object]) -> bool:
        """Runs a step that stores records and returns whether it succeeded. The ledger logs when
        that changes."""
        try:
            step()
        except DATABASE_ERRORS:
            connections.close_all()
            return False
        return True

    def _prune(self) -> bool:
        """Deletes one batch of old usage records and returns whether it was the last for now. The
        next batch follows the next poll, so that neither polls nor other writers wait."""
        days = get_settings().usage_retention_days
        with _step_running:
            try:
                batch = prune_batch(days)
            except DATABASE_ERRORS:
                connections.close_all()  # the poll logs it
                return True
        return batch < BATCH


def _pause(stopping: threading.Event, seconds: float) -> None:
    """Waits within a step, until the process stops. A fork need not wait for it."""
    _step_running.release()
    try:
        stopping.wait(seconds)
    finally:
        _step_running.acquire()


def _release_pooled_connections() -> None:
    """Closes connections that other threads may wait for, and those that may be broken."""
    for connection in connections.all(initialized_only=True):
        if connection.errors_occurred or connection.settings_dict["OPTIONS"].get("pool"):
            connection.close()


_background: OnePerProcess[Background] = OnePerProcess(
    Stage.BACKGROUND, on_fork=Background.forget, locks=[_step_running]
)


def ensure_background() -> Background:
    """Returns the process's background thread; starts it first if there is none."""
    return _background.ensure(_create)


def _create() -> Background:
    enable_crash_tracebacks()
    restrict_to_owner(get_settings().state_dir)
    return Background(snapshot_source)


def stop_background() -> None:
    """Stops the background thread, if there is one."""
    _background.stop()


atexit.register(stop_background)
