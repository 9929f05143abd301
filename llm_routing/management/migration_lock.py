"""A lock in the database that processes take before they migrate it.

Django computes the migrations and then applies them; two processes that do so at the same time
create the same tables.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from urllib.parse import urlsplit

from django.core.management.base import CommandError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from llm_routing.system.locked_files import lock_file

PAUSE_SECONDS = 0.5
# PostgreSQL's advisory locks are numbers; this one is the bytes of "llm_migr".
_NUMBER = int.from_bytes(b"llm_migr", "big")


@contextmanager
def migration_lock(alias: str, timeout: float, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds the lock of a database within the block. Calls `waiting` once if another process has
    it, and raises `CommandError` after `timeout` seconds."""
    connection = connections[alias]
    hold = _HOLDERS.get(connection.vendor)
    if hold is None:
        yield
        return
    with hold(connection) as try_to_lock:
        deadline = time.monotonic() + timeout
        is_told = False
        while not try_to_lock():
            if time.monotonic() >= deadline:
                raise CommandError(
                    f"Another process has been migrating the database {alias} for more than "
                    f"{timeout:.0f} s. Check whether it works, then run the same command again."
                )
            if not is_told:
                is_told = True
                waiting()
            time.sleep(PAUSE_SECONDS)
        yield


@contextmanager
def _postgresql(connection: BaseDatabaseWrapper) -> Iterator[Callable[[], bool]]:
    # Locks within a transaction, not a session, because PgBouncer's transaction pooling keeps only
    # a transaction on one server connection. Uses a separate connection, because a migration
    # commits.
    with closing(connection.copy()) as own:
        own.ensure_connection()
        own.set_autocommit(False)
        with own.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")

            def try_to_lock() -> bool:
                cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_NUMBER])
                return bool(cursor.fetchone()[0])

            yield try_to_lock


@contextmanager
def _mysql(connection: BaseDatabaseWrapper) -> Iterator[Callable[[], bool]]:
    # Lock names belong to the server, not to the database, and have at most 64 characters.
    database = str(connection.settings_dict["NAME"]).encode()
    name = f"llm_migrate:{blake2b(database, digest_size=16).hexdigest()}"
    with closing(connection.copy()) as own, own.cursor() as cursor:
        # The connection is idle during the migration.
        cursor.execute("SET SESSION wait_timeout = 86400")

        def try_to_lock() -> bool:
            cursor.execute("SELECT GET_LOCK(%s, 0)", [name])
            return bool(cursor.fetchone()[0] == 1)

        yield try_to_lock


@contextmanager
def _sqlite(connection: BaseDatabaseWrapper) -> Iterator[Callable[[], bool]]:
    name = str(connection.settings_dict["NAME"])
    if ":memory:" in name or "mode=memory" in name:
        yield lambda: True
        return
    path = urlsplit(name).path if name.startswith("file:") else name
    with ExitStack() as stack:
        yield lambda: stack.enter_context(lock_file(Path(f"{path}.migrating")))


_HOLDERS = {"postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite}
