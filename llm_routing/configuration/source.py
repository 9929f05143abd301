"""The configuration of the process: read from the database, replaced as a whole; the last good one
stays.

Requests read only `snapshot_source.current`. `refresh` runs in the background thread, and in this
process after every commit that changed the configuration.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from llm_routing.conf import get_settings
from llm_routing.core.routing_table import RoutingTable
from llm_routing.models import ConfigurationVersion, Provider
from llm_routing.models.databases import DATABASE_ERRORS

from .compiler import compile_table
from .credentials import load_credentials
from .kept_tables import (
    CACHE_SECONDS,
    cache_table,
    cached_table,
    keep_latest,
    last_known_table,
    table_cache_key,
)
from .provider_problems import forbidden_addresses, unused_key_notice, unused_keys
from .snapshot import EMPTY_SNAPSHOT, Snapshot, SnapshotOrigin

logger = logging.getLogger(__name__)


class SnapshotSource:
    """The process's snapshot. `current` is replaced as a whole and may be read from any thread."""

    def __init__(self) -> None:
        self.current = EMPTY_SNAPSHOT
        self._lock = threading.Lock()

    def refresh(
        self,
        known: tuple[int, str] | None = None,
        *,
        last_resort: Callable[[], Snapshot] | None = None,
    ) -> bool:
        """Loads the configuration if it has changed; returns whether it had. `known` is the version
        in the database with its stamp, if the caller has read it: without a change nothing is read
        again.

        If the database is unavailable, the current snapshot stays. A process without a snapshot
        starts from the table in the shared cache or in the file, else from `last_resort`.
        """
        with self._lock:
            try:
                if known is None or not self._is_current(known):
                    # Read again: another thread may have loaded a newer one meanwhile.
                    known = ConfigurationVersion.objects.version_and_stamp("routing")
                if self._is_current(known):
                    if not self.current.is_confirmed:
                        self.current = replace(self.current, is_confirmed=True)
                    return False
                snapshot = compile_snapshot(*known)
            except DATABASE_ERRORS as error:
                # The message of a database error may quote a query's values.
                logger.warning("The configuration cannot be read: %s", type(error).__name__)
                self._fall_back(last_resort)
                return False
            snapshot.table.index()
            _log_problems(snapshot, self.current)
            self.current = snapshot
            keep_latest(snapshot.table)
            logger.info("Configuration version %d is in use.", snapshot.table.version)
            return True

    def after_fork(self) -> None:
        """Replaces the lock in a forked child: another thread of the parent may have held it."""
        self._lock = threading.Lock()

    def mark_unconfirmed(self) -> None:
        """Records that the database is unavailable; the current snapshot stays in use."""
        with self._lock:
            self._fall_back(None)

    def _is_current(self, version: tuple[int, str]) -> bool:
        table = self.current.table
        is_from_database = self.current.origin is SnapshotOrigin.DATABASE
        return is_from_database and version == (table.version, table.stamp)

    def _fall_back(self, last_resort: Callable[[], Snapshot] | None) -> None:
        if self.current.origin is not SnapshotOrigin.NOWHERE:
            if self.current.is_confirmed:
                self.current = replace(self.current, is_confirmed=False)
            return
        found = last_known_table()
        if found is not None:
            origin, table = found
            table.index()
            credentials = load_credentials(_providers_of(table))
            self.current = Snapshot(
                table,
                credentials,
                origin,
                is_confirmed=False,
                forbidden_addresses=forbidden_addresses(table, get_settings()),
            )
            _log_problems(self.current, EMPTY_SNAPSHOT)
        elif last_resort is not None:
            self.current = replace(last_resort(), is_confirmed=False)
        else:
            return
        logger.warning(
            "Starting without the database, from the %s configuration, version %d.",
            self.current.origin.value,
            self.current.table.version,
        )


def compile_snapshot(version: int, stamp: str) -> Snapshot:
    """Returns the active rows of the database as a snapshot. Looks for the table in the shared
    cache first. Raises `django.db.Error`."""
    rows = list(Provider.objects.all())
    providers = [row for row in rows if row.is_active]
    key = table_cache_key(version, stamp)
    table = cached_table(key)
    if table is not None and (table.version, table.stamp) != (version, stamp):
        logger.warning("The cached configuration is not of version %d and is not used.", version)
        table = None
    if table is None:
        table = replace(compile_table(version, providers), stamp=stamp)
        cache_table(key, table, CACHE_SECONDS)
    return Snapshot(
        table,
        load_credentials(providers),
        SnapshotOrigin.DATABASE,
        forbidden_addresses=forbidden_addresses(table, get_settings()),
        unused_keys=unused_keys(rows),
    )


def _log_problems(new: Snapshot, old: Snapshot) -> None:
    """Logs what keeps providers of the new snapshot out of use, unless the old one had it too."""
    for provider, reason in new.forbidden_addresses.items() - old.forbidden_addresses.items():
        logger.warning("Provider %s cannot be called: %s", provider, reason)
    for provider, variable in new.unused_keys.items() - old.unused_keys.items():
        logger.warning("%s", unused_key_notice(provider, variable))


def _providers_of(table: RoutingTable) -> list[Provider]:
    """Returns the provider rows that a table contains: without keys, which only the database
    stores."""
    return [
        Provider(
            name=spec.name,
            vendor=spec.vendor,
            base_url=spec.base_url,
            api_key_env=spec.api_key_env,
        )
        for spec in table.providers.values()
    ]


snapshot_source = SnapshotSource()
