"""Inserts many rows and skips those whose key exists, faster than `QuerySet.bulk_create`.

Used for usage records. `bulk_create` gives the same result on PostgreSQL and SQLite and takes three
times as long, spent in Python; the ledger is shipped by the process that serves requests.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from django.db import NotSupportedError, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.utils.timezone import make_naive

from llm_routing.core.codec import encode_struct

from .databases import as_stored, stored_zone

Columns = Sequence["models.Field[Any, Any]"]
Rows = Sequence[Mapping[str, Any]]

MAX_ROWS_PER_STATEMENT = 500


def insert_missing(model: type[models.Model], key: str, rows: Rows, using: str) -> None:
    """Inserts `rows`, which all have the same columns, except those whose unique `key` exists.

    Datetimes in `rows` have a time zone. Raises `django.db.Error`.
    """
    database = connections[using]
    if not database.settings_dict["AUTOCOMMIT"]:
        raise NotSupportedError("AUTOCOMMIT is off: the rows would not be committed")
    insert = _INSERTS.get(database.vendor)
    if insert is None:
        _insert_instances(model, key, rows, using)
        return
    meta = model._meta  # noqa: SLF001  # documented API
    by_name = {column.name: column for column in meta.concrete_fields}
    columns = [by_name[name] for name in rows[0]]
    quote = database.ops.quote_name
    names = ", ".join(quote(str(column.column)) for column in columns)
    into = f"INSERT INTO {quote(meta.db_table)} ({names})"
    # PostgreSQL and SQLite share this syntax. It skips rows whose key exists; any other conflict is
    # still an error.
    unless_exists = f"ON CONFLICT ({quote(str(by_name[key].column))}) DO NOTHING"
    with transaction.atomic(using=using), database.cursor() as cursor:
        insert(cursor, into, unless_exists, columns, rows)


def rejects_invalid_values(database: BaseDatabaseWrapper) -> bool:
    """Returns whether a MySQL or MariaDB is in strict mode. One query per connection."""
    modes: set[str] = database.sql_mode  # type: ignore[attr-defined]  # of this vendor
    return bool(modes & {"STRICT_TRANS_TABLES", "STRICT_ALL_TABLES"})


def _insert_json(
    cursor: CursorWrapper, into: str, unless_exists: str, columns: Columns, rows: Rows
) -> None:
    """Passes all rows as one JSON parameter: PostgreSQL parses it faster than the driver adapts
    many parameters."""
    # Types without their lengths: a cast to varchar(n) would truncate a value that an insert
    # rejects.
    types = [str(column.db_type(cursor.db)).partition("(")[0] for column in columns]
    names = [cursor.db.ops.quote_name(str(column.column)) for column in columns]
    row = ", ".join(f"{name} {kind}" for name, kind in zip(names, types, strict=True))
    values = f"SELECT * FROM json_to_recordset(%s::json) AS arrived({row})"  # noqa: S608  # our names
    cursor.execute(f"{into} {values} {unless_exists}", [encode_struct(rows).decode()])


def _insert_rows(
    cursor: CursorWrapper, into: str, unless_exists: str, columns: Columns, rows: Rows
) -> None:
    """Inserts many rows per statement: SQLite releases the interpreter's lock around each
    statement and has to wait for it again."""
    database, ops = cursor.db, cursor.db.ops
    adapters: list[tuple[int, Callable[[Any], Any]]] = [
        (index, adapt)
        for index, column in enumerate(columns)
        if (adapt := _adapter(database, column)) is not None
    ]
    values = []
    for row in rows:
        row_values = list(row.values())
        for index, adapt in adapters:
            row_values[index] = adapt(row_values[index])
        values.append(row_values)
    one_row = f"({', '.join('?' * len(columns))})"
    size = min(ops.bulk_batch_size(columns, values), MAX_ROWS_PER_STATEMENT)
    # The driver's own cursor: Django's rewrites each placeholder of the long statement.
    database.validate_no_broken_transaction()
    with database.wrap_database_errors:
        for start in range(0, len(values), size):
            batch = values[start : start + size]
            sql = f"{into} VALUES {', '.join([one_row] * len(batch))} {unless_exists}"
            database.connection.execute(sql, tuple(chain.from_iterable(batch))).close()


def _insert_instances(model: type[models.Model], key: str, rows: Rows, using: str) -> None:
    """Inserts with `bulk_create`, for MySQL and MariaDB."""
    if not rejects_invalid_values(connections[using]):
        raise NotSupportedError("the database is not in strict mode and would truncate values")
    fields = [model._meta.get_field(name) for name in rows[0]]  # noqa: SLF001  # documented API
    moments = [field.name for field in fields if isinstance(field, models.DateTimeField)]
    # Not `ignore_conflicts`: MySQL's INSERT IGNORE truncates values and stores zero for NULL. An
    # update of the key to itself skips a row that exists; any other error is still raised.
    with transaction.atomic(using=using):
        model._base_manager.using(using).bulk_create(  # noqa: SLF001  # documented API
            [model(**{**row, **{name: as_stored(row[name]) for name in moments}}) for row in rows],
            batch_size=MAX_ROWS_PER_STATEMENT,
            update_conflicts=True,
            update_fields=[key],
        )


def _adapter(
    database: BaseDatabaseWrapper, column: "models.Field[Any, Any]"
) -> Callable[[Any], Any] | None:
    """Returns the function that converts a column's values for SQLite; None if none is needed."""
    ops = database.ops
    if isinstance(column, models.DateTimeField):
        zone = stored_zone(database)
        return lambda moment: ops.adapt_datetimefield_value(make_naive(moment, zone))
    if isinstance(column, models.BooleanField):
        return int  # the driver looks for an adapter of every other type
    if isinstance(column, models.DecimalField):
        return partial(
            ops.adapt_decimalfield_value,
            max_digits=column.max_digits,
            decimal_places=column.decimal_places,
        )
    return None


_INSERTS: Mapping[str, Callable[[CursorWrapper, str, str, Columns, Rows], None]] = {
    "postgresql": _insert_json,
    "sqlite": _insert_rows,
}
