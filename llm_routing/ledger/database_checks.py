"""System checks of the database with our tables.

A database or a setting that would lose records is an error, which stops the start. Checks that
need a connection run with `manage.py check --database` and before each migration.
"""

from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist

from llm_routing.conf import get_settings
from llm_routing.models import UsageRecord
from llm_routing.models.bulk_insert import rejects_invalid_values
from llm_routing.models.databases import write_database

from .store import SET_ASIDE

SUPPORTED = ("sqlite", "postgresql", "mysql")
NO_DATABASE = "unknown"
_MIN_VERSIONS = {"MariaDB": (10, 6), "MySQL": (8, 0, 17)}


@checks.register()
def check_database_settings(**_: Any) -> Sequence[checks.CheckMessage]:
    """Checks that our tables are in a supported database, in which changes are committed."""
    alias = write_database(UsageRecord)
    try:
        connection = connections[alias]
    except ConnectionDoesNotExist:
        return [_no_database(f"DATABASE_ROUTERS choose {alias}, which DATABASES lacks.")]
    if connection.vendor == NO_DATABASE:
        return [_no_database(f"The database {alias}, which llm_routing uses, has no engine.")]
    found: list[checks.CheckMessage] = []
    if connection.vendor not in SUPPORTED:
        found.append(
            checks.Error(
                f"llm_routing does not support the database {alias}: {connection.display_name}.",
                hint="Put llm_routing in a database of its own with DATABASE_ROUTERS: SQLite, "
                "PostgreSQL, MySQL or MariaDB (docs/databases.md).",
                id="llm_routing.E011",
            )
        )
    if not connection.settings_dict["AUTOCOMMIT"]:
        found.append(
            checks.Error(
                f"The database {alias} has AUTOCOMMIT off: usage records would not be committed.",
                hint="Remove AUTOCOMMIT from its entry, or put llm_routing in a database of its "
                "own with DATABASE_ROUTERS.",
                id="llm_routing.E012",
            )
        )
    return [*found, *_set_aside()]


@checks.register(checks.Tags.database)
def check_database_server(
    databases: Sequence[str] | None = None, **_: Any
) -> Sequence[checks.CheckMessage]:
    """Checks the version and mode of MySQL and MariaDB; Django checks the other servers."""
    alias = write_database(UsageRecord)
    if alias not in (databases or ()) or connections[alias].vendor != "mysql":
        return []
    connection: Any = connections[alias]
    name = "MariaDB" if connection.mysql_is_mariadb else "MySQL"
    found: list[checks.CheckMessage] = []
    if connection.mysql_version < _MIN_VERSIONS[name]:
        least = ".".join(map(str, _MIN_VERSIONS[name]))
        found.append(
            checks.Error(
                f"The database {alias} is older than {name} {least}, the oldest we support.",
                hint="Update the server.",
                id="llm_routing.E013",
            )
        )
    if not rejects_invalid_values(connection):
        found.append(
            checks.Error(
                f"The database {alias} is not in strict mode: it truncates values that do not fit.",
                hint='Add to its OPTIONS: "init_command": "SET sql_mode = CONCAT(@@sql_mode, '
                "',STRICT_TRANS_TABLES')\".",
                id="llm_routing.E014",
            )
        )
    return found


def _no_database(problem: str) -> checks.CheckMessage:
    return checks.Error(
        problem,
        hint="Name it in DATABASES, or another one in db_for_write of DATABASE_ROUTERS.",
        id="llm_routing.E010",
    )


def _set_aside() -> Sequence[checks.CheckMessage]:
    try:
        path = get_settings().state_dir / "ledger" / SET_ASIDE
    except ImproperlyConfigured:
        return []  # `check_settings` reports it
    if not path.exists():
        return []
    return [
        checks.Warning(
            f"Usage records could not be stored and are set aside in {path}.",
            hint="Fix the cause, then rename the file to again.jsonl (docs/outages.md).",
            id="llm_routing.W007",
        )
    ]
