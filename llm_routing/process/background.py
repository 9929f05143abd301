"""The process's one background thread: polls the configuration, ships the ledger, takes samples.

A thread and not a task, so that the ORM is used without hops and it serves every way of running:
ASGI, WSGI, commands and workers.
"""

import atexit
import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from django.db import connections

from llm_routing.access.key_ring import keys
from llm_routing.access.known_keys import KnownKeys
from llm_routing.conf import get_settings
from llm_routing.configuration.content_check import ContentCheck
from llm_routing.configuration.source import SnapshotSource, snapshot_source
from llm_routing.core import ids, running
from llm_routing.health.monitor import health_monitor
from llm_routing.ledger.retention import BATCH, prune_batch
from llm_routing.ledger.shipping import Ledger
from llm_routing.metrics import Metrics
from llm_routing.models import ConfigurationVersion
from llm_routing.models.databases import DATABASE_ERRORS
from llm_routing.models.gateway_pool import use_gateway_pool
from llm_routing.system.private_files import tighten

logger = logging.getLogger(__name__)

RECOVERY_INTERVAL = 30.0
CONNECTION_SECONDS = 10.0
LONGEST_PAUSE = 10.0
PRUNE_INTERVAL = 600.0
STOP_TIMEOUT = 10.0


class Background:
    """Starts with the first router and ends with `stop` or with the process."""

    def __init__(self, snapshots: SnapshotSource) -> None:
        settings = get_settings()
        self.ledger = Ledger(settings.state_dir / "ledger", settings.ledger_max_bytes)
        is_off = settings.metrics_access == "off"
        self.metrics = Metrics(None if is_off else settings.state_dir / "metrics")
        self.known_keys = KnownKeys(settings.state_dir / "known_keys", keys)
        self._snapshots = snapshots
        self._content_checks = [ContentCheck(area) for area in ConfigurationVersion.Area]
        self._stopping = threading.Event()
        self._next_ship = float("-inf")
        self._ship_pause = settings.ledger_flush_interval
        self._access_version: tuple[int, str] | None = None
        self._thread = threading.Thread(target=self._run, name="llm_routing", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, after it has shipped what is settled."""
        self._stopping.set()
        self._thread.join(STOP_TIMEOUT)

    def _run(self) -> None:
        settings = get_settings()
        use_gateway_pool()
        next_poll = next_recovery = next_connection = next_prune = time.monotonic()
        while not self._stopping.is_set():
            now = time.monotonic()
            if now >= next_connection:
                # To open one costs more than most of the steps, and SQLite writes its log back
                # where the last one is closed. A step that fails closes it too.
                next_connection = now + CONNECTION_SECONDS
                self._guarded(connections.close_all)
            self._guarded(self.ledger.restore)
            self._guarded(self.metrics.restore)
            self._guarded(self._ship)
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
                self._guarded(self.metrics.tidy)
            self._guarded(_give_back)
            self._stopping.wait(
                min(settings.ledger_flush_interval, settings.snapshot_poll_interval)
            )
        # What was kept may be broken, and there is no second try.
        self._guarded(connections.close_all)
        self._guarded(self._close)
        self._guarded(health_monitor.withdraw_reports)
        self._guarded(partial(self.known_keys.save, at_once=True))
        self.metrics.close()
        connections.close_all()

    def _guarded(self, step: Callable[[], object]) -> bool:
        """Runs a step, and whether it came to its end; the thread outlives whatever it meets, above
        all an absent database."""
        with _working:
            try:
                step()
            except DATABASE_ERRORS as error:
                logger.warning("The database cannot be used: %s", type(error).__name__)
                connections.close_all()
            except Exception:
                logger.exception("A background step failed and will be tried again.")
                connections.close_all()
            else:
                return True
        return False

    def look_at_keys(self) -> None:
        """Has keys checked once more if any has changed since the last look. Raises
        `django.db.Error`."""
        version = ConfigurationVersion.objects.stamped("access")
        if version != self._access_version:
            self._access_version = version
            keys.invalidate()
            self.known_keys.outdate()

    def _poll(self) -> None:
        # A database that is silent takes its time to fail; it is asked one thing and no more. One
        # that has only ended the connection we kept is asked again, over another.
        was_kept = any(c.connection is not None for c in connections.all(initialized_only=True))
        if self._guarded(self.look_at_keys) or (was_kept and self._guarded(self.look_at_keys)):
            # The content is read before the tables are compiled from it, so that no change between
            # the two is missed.
            checks = (check.run for check in self._content_checks)
            steps = (self._snapshots.refresh, health_monitor.sync, self.known_keys.save)
            for step in (*checks, *steps):
                self._guarded(step)
        else:
            self._snapshots.mark_unconfirmed()

    def _ship(self) -> None:
        if time.monotonic() >= self._next_ship and not self._stores(self.ledger.ship):
            # Each try asks the database to refuse the same records again.
            self._ship_pause = min(2 * self._ship_pause, LONGEST_PAUSE)
            self._next_ship = time.monotonic() + self._ship_pause
        elif not self.ledger.trouble:
            self._ship_pause = get_settings().ledger_flush_interval

    def _recover(self) -> None:
        self._stores(self.ledger.recover)

    def _prune(self) -> bool:
        """Removes one batch of old usage records; whether it was the last for now. The next one
        comes after the next poll, so that neither polls nor other writers wait."""
        days = get_settings().usage_retention_days
        with _working:
            try:
                batch = prune_batch(days)
            except DATABASE_ERRORS:
                connections.close_all()  # the poll logs it
                return True
        return batch < BATCH

    def _stores(self, step: Callable[[], object]) -> bool:
        """Whether the database takes records. The ledger logs when that changes."""
        try:
            step()
        except DATABASE_ERRORS:
            connections.close_all()
            return False
        return True

    def _close(self) -> None:
        self.ledger.close()


def _give_back() -> None:
    """Others may wait for a connection that is from a pool, and one that failed may be broken."""
    for connection in connections.all(initialized_only=True):
        if connection.errors_occurred or connection.settings_dict["OPTIONS"].get("pool"):
            connection.close()


_lock = threading.Lock()
_working = threading.Lock()
_running: list[Background] = []


def ensure_background() -> Background:
    """The process's background thread, started where it was not."""
    with _lock:
        if not _running:
            tell_of_crashes()
            tighten(get_settings().state_dir)
            _running.append(Background(snapshot_source))
            _running[0].start()
        return _running[0]


def tell_of_crashes() -> None:
    """Has a crash of the process (SIGBUS above all, from a truncated file in STATE_DIR) leave a
    traceback on stderr, unless the host has arranged for it already."""
    if not faulthandler.is_enabled():
        # A host may have replaced stderr by an object without a file descriptor.
        with suppress(AttributeError, ValueError, OSError, RuntimeError):
            faulthandler.enable()


def stop_background() -> None:
    """Ends the background thread, if there is one."""
    with _lock:
        running = _running.copy()
        _running.clear()
    for background in running:
        background.stop()


def _before_fork() -> None:
    _lock.acquire()
    _working.acquire()


def _release() -> None:
    _working.release()
    _lock.release()


def _after_fork() -> None:
    """Threads do not survive a fork: the child starts its own when it needs one."""
    for background in _running:
        background.ledger.forget()
        background.metrics.forget()
    _running.clear()
    ids.forget()
    running.forget()
    _release()


# Held across the fork, so that the child inherits neither a lock of ours nor one of the database
# driver's from a thread that it does not have.
os.register_at_fork(before=_before_fork, after_in_parent=_release, after_in_child=_after_fork)
atexit.register(stop_background)
