"""Finds the database of our tables, and its current time.

A project may route `llm_routing` to a separate database, read from replicas, or store dates without
a time zone.
"""

from datetime import UTC, datetime, tzinfo
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError, models, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Now
from django.utils import timezone

DATABASE_ERRORS = (DatabaseError, InterfaceError)
"""Exceptions of queries when the database is unavailable or its content is unusable."""


def write_database(model: type[models.Model]) -> str:
    """Returns the alias of the database that takes writes of `model`."""
    return router.db_for_write(model)


def atomic(model: type[models.Model]) -> transaction.Atomic:
    """Starts a transaction in the database that takes writes of `model`."""
    return transaction.atomic(using=write_database(model))


T = TypeVar("T", bound=models.Model)


class PrimaryQuerySet(models.QuerySet[T]):
    """Reads from the database it writes to: a replica may lag behind a version, a lease or a
    revoked key that this process has just seen, and the process would not read it again."""

    @property
    def db(self) -> str:
        """Like Django's, without the replicas."""
        self._for_write = True
        return super().db


class DatabaseNow(Now):
    """The time of the statement by the database's clock, in the form in which Django stores
    times."""

    def as_mysql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """`CURRENT_TIMESTAMP` would use the session's time zone, which is the server's."""
        template = f"(UTC_TIMESTAMP(6) + INTERVAL {_offset_seconds(connection)} SECOND)"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """SQLite's clock is in UTC."""
        shift = f"{_offset_seconds(connection):+d} seconds"
        template = f"STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'NOW', '{shift}')"
        return self.as_sql(compiler, connection, template=template, **context)


def stored_zone(connection: BaseDatabaseWrapper) -> tzinfo:
    """Returns the time zone of the times in a database that stores none with them."""
    zone = connection.timezone if settings.USE_TZ else None
    return zone or timezone.get_default_timezone()


def _offset_seconds(connection: BaseDatabaseWrapper) -> int:
    offset = datetime.now(stored_zone(connection)).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def as_stored(moment: datetime) -> datetime:
    """Returns `moment`, which has a time zone, in the form that a field stores."""
    if settings.USE_TZ:
        return moment
    return timezone.make_naive(moment, timezone.get_default_timezone())


def as_utc(moment: datetime) -> datetime:
    """Returns a time of a row in UTC, also if the project stores no time zones."""
    if timezone.is_naive(moment):
        moment = timezone.make_aware(moment, timezone.get_default_timezone())
    return moment.astimezone(UTC)


def in_current_time_zone(moment: datetime) -> datetime:
    """Returns a time of a row in the time zone for display."""
    return moment if timezone.is_naive(moment) else timezone.localtime(moment)
