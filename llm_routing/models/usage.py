"""Usage: one row for each attempt at a provider, written by the ledger and never changed.

No foreign keys: a record outlives the provider, the model, the route and the key it names.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, Self

from django.db import NotSupportedError, connections, models, transaction
from django.db.backends.base.operations import BaseDatabaseOperations
from django.db.backends.utils import CursorWrapper
from django.utils.translation import gettext_lazy as _

from llm_routing.core.codec import encode_struct
from llm_routing.core.types import AttemptOutcome, CostSource

from . import fields
from .databases import storable
from .text import ExactCharField

_Columns = Sequence["models.Field[Any, Any]"]
_Rows = Sequence[Mapping[str, Any]]
# Of PostgreSQL and SQLite alike; it forgives that and nothing else.
_UNLESS_THERE = "ON CONFLICT (attempt_id) DO NOTHING"
MOST_ROWS = 500
"""So many in one statement at most, whatever the database can take."""

OUTCOMES = [
    (AttemptOutcome.SUCCESS.value, _("Success")),
    (AttemptOutcome.FAILURE.value, _("Failure")),
    (AttemptOutcome.CANCELLED.value, _("Cancelled")),
    (AttemptOutcome.INTERRUPTED.value, _("Interrupted")),
]

COST_SOURCES = [
    (CostSource.VENDOR.value, _("Provider's bill")),
    (CostSource.PRICE_LIST.value, _("Price list")),
    (CostSource.ESTIMATED.value, _("Price list, tokens estimated")),
]


class UsageRecordQuerySet(models.QuerySet["UsageRecord"]):
    """Reads usage."""

    def between(self, start: datetime, end: datetime) -> Self:
        """Attempts that began at `start` or later and before `end`."""
        return self.filter(started_at__gte=start, started_at__lt=end)

    def of_tenant(self, tenant: str) -> Self:
        """One tenant's attempts."""
        return self.filter(tenant=tenant)

    def prune(self, before: datetime, most: int) -> int:
        """Deletes attempts that began before a moment, the oldest first and `most` at most, and
        returns how many there were; of two processes at the same time both count them."""
        self._for_write = True
        old = self.filter(started_at__lt=before).order_by("started_at")
        # Keys first: MySQL has no LIMIT in a subquery, and a short statement holds few locks.
        keys = list(old.values_list("pk", flat=True)[:most])
        self.filter(pk__in=keys).delete()
        return len(keys)

    def add_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Inserts rows, all with the same columns, but for those whose attempt is there already.
        Raises `django.db.Error`.

        On PostgreSQL and SQLite by statements of our own: `bulk_create` comes to the same and takes
        three times as long, for what precedes the database; the ledger is shipped by the process
        that answers requests.
        """
        self._for_write = True
        database = connections[self.db]
        if not database.settings_dict["AUTOCOMMIT"]:
            raise NotSupportedError("AUTOCOMMIT is off, so that nothing would be committed")
        insert = _INSERTS.get(database.vendor)
        if insert is None:
            self._insert_instances(rows)
            return
        meta = self.model._meta  # noqa: SLF001  # documented API
        by_name = {column.name: column for column in meta.concrete_fields}
        columns = [by_name[name] for name in rows[0]]
        ops = database.ops
        names = ", ".join(ops.quote_name(str(column.column)) for column in columns)
        into = f"INSERT INTO {ops.quote_name(meta.db_table)} ({names})"
        with transaction.atomic(using=self.db), database.cursor() as cursor:
            insert(cursor, into, columns, rows)

    def check_row(self, row: Mapping[str, Any]) -> None:
        """Inserts a row and takes it back. Raises what `add_rows` raises."""
        self._for_write = True
        with transaction.atomic(using=self.db):
            self.add_rows([row])
            transaction.set_rollback(True, using=self.db)

    def _insert_instances(self, rows: _Rows) -> None:
        if not is_strict(connections[self.db]):
            raise NotSupportedError("the database is not in strict mode and would cut values off")
        # Not `ignore_conflicts`: MySQL's INSERT IGNORE cuts values off and stores zero for NULL. An
        # update of the key to itself forgives a row that is there and nothing else.
        with transaction.atomic(using=self.db):
            self.bulk_create(
                [self.model(**{**row, "started_at": storable(row["started_at"])}) for row in rows],
                batch_size=MOST_ROWS,
                update_conflicts=True,
                update_fields=["attempt_id"],
            )


def _insert_json(cursor: CursorWrapper, into: str, columns: _Columns, rows: _Rows) -> None:
    """One value for all rows: PostgreSQL takes them apart, which its driver would put together."""
    # Without their lengths, past which a cast would cut off what an insert refuses.
    types = [str(column.db_type(cursor.db)).partition("(")[0] for column in columns]
    names = [cursor.db.ops.quote_name(str(column.column)) for column in columns]
    row = ", ".join(f"{name} {kind}" for name, kind in zip(names, types, strict=True))
    values = f"SELECT * FROM json_to_recordset(%s::json) AS arrived({row})"  # noqa: S608  # our names
    cursor.execute(f"{into} {values} {_UNLESS_THERE}", [encode_struct(rows).decode()])


def _insert_rows(cursor: CursorWrapper, into: str, columns: _Columns, rows: _Rows) -> None:
    """Many to a statement: between two, SQLite lets go of the interpreter and waits for it."""
    database, ops = cursor.db, cursor.db.ops
    prepared: list[tuple[int, Callable[[Any], Any]]] = [
        (index, adapt)
        for index, column in enumerate(columns)
        if (adapt := _adapter(ops, column)) is not None
    ]
    values = []
    for row in rows:
        row_values = list(row.values())
        for index, adapt in prepared:
            row_values[index] = adapt(row_values[index])
        values.append(row_values)
    one = f"({', '.join('?' * len(columns))})"
    most = min(ops.bulk_batch_size(columns, values), MOST_ROWS)
    # SQLite's own way, for Django's looks for the place of each value in a text of many rows.
    database.validate_no_broken_transaction()
    with database.wrap_database_errors:
        for start in range(0, len(values), most):
            batch = values[start : start + most]
            sql = f"{into} VALUES {', '.join([one] * len(batch))} {_UNLESS_THERE}"
            database.connection.execute(sql, tuple(chain.from_iterable(batch))).close()


def _adapter(
    ops: BaseDatabaseOperations, column: "models.Field[Any, Any]"
) -> Callable[[Any], Any] | None:
    """What makes of a column's values what the database takes; None where they are that."""
    if isinstance(column, models.DateTimeField):
        return lambda moment: ops.adapt_datetimefield_value(storable(moment))
    if isinstance(column, models.DecimalField):
        return partial(
            ops.adapt_decimalfield_value,
            max_digits=column.max_digits,
            decimal_places=column.decimal_places,
        )
    return None


def is_strict(connection: Any) -> bool:
    """Whether a MySQL or MariaDB refuses values that do not fit. Asks once for each connection."""
    return bool(connection.sql_mode & {"STRICT_TRANS_TABLES", "STRICT_ALL_TABLES"})


_INSERTS: Mapping[str, Callable[[CursorWrapper, str, _Columns, _Rows], None]] = {
    "postgresql": _insert_json,
    "sqlite": _insert_rows,
}


class UsageRecord(models.Model):
    """One attempt at a provider: what was used, what it cost, how long it took."""

    attempt_id = ExactCharField(_("attempt ID"), max_length=64, unique=True)
    request_id = ExactCharField(_("request ID"), max_length=128)
    tenant = ExactCharField(_("tenant"), max_length=64, default="default")
    api_key_name = ExactCharField(_("API key"), max_length=100, blank=True)
    operation = ExactCharField(_("operation"), max_length=32)
    use_case = ExactCharField(_("use case"), max_length=64, blank=True)
    tier = ExactCharField(_("tier"), max_length=16, blank=True)
    provider = ExactCharField(_("provider"), max_length=64)
    model = ExactCharField(_("model"), max_length=200)
    attempt = models.PositiveSmallIntegerField(_("attempt"), default=1)
    outcome = ExactCharField(_("outcome"), max_length=16, choices=OUTCOMES)
    error_code = ExactCharField(_("error"), max_length=64, blank=True)
    status = models.PositiveSmallIntegerField(_("HTTP status"), null=True, blank=True)
    input_tokens = models.PositiveIntegerField(_("input tokens"), default=0)
    output_tokens = models.PositiveIntegerField(_("output tokens"), default=0)
    cached_input_tokens = models.PositiveIntegerField(_("cached input tokens"), default=0)
    cache_write_tokens = models.PositiveIntegerField(
        _("cache write tokens"),
        default=0,
        help_text=_("Input tokens written to the provider's cache."),
    )
    cache_write_1h_tokens = models.PositiveIntegerField(
        _("1-hour cache write tokens"),
        default=0,
        help_text=_("Of the cache write tokens, those written for an hour."),
    )
    reasoning_tokens = models.PositiveIntegerField(_("reasoning tokens"), default=0)
    web_searches = models.PositiveIntegerField(_("web searches"), default=0)
    is_estimated = models.BooleanField(_("tokens estimated"), default=False)
    cost = models.DecimalField(
        _("cost in USD"),
        max_digits=18,
        decimal_places=10,
        null=True,
        blank=True,
        help_text=_("Empty: not known, because the model lacks a price. Zero is a cost."),
    )
    cost_source = ExactCharField(
        _("cost from"), max_length=16, choices=COST_SOURCES, blank=True, default=""
    )
    latency_ms = models.FloatField(_("latency in ms"), default=0.0)
    time_to_first_token_ms = models.FloatField(
        _("time to first token in ms"), null=True, blank=True
    )
    started_at = models.DateTimeField(_("started"))
    upstream_request_id = ExactCharField(
        _("provider's request ID"), max_length=128, blank=True, default=""
    )
    error_message = ExactCharField(
        _("error message"),
        max_length=300,
        blank=True,
        default="",
        help_text=_("Without what it quotes of the request."),
    )

    objects = UsageRecordQuerySet.as_manager()

    class Meta:
        verbose_name = _("usage record")
        verbose_name_plural = _("usage records")
        ordering = ("-started_at", "-id")
        indexes = (
            models.Index(fields=("-started_at", "-id"), name="llm_usage_started"),
            models.Index(fields=("tenant", "-started_at"), name="llm_usage_tenant_started"),
            models.Index(fields=("request_id",), name="llm_usage_request"),
        )
        constraints = (
            fields.one_of(
                "outcome",
                [value for value, _label in OUTCOMES],
                "usage",
                _("The outcome is none that is known."),
            ),
            fields.at_least("cost", 0, "usage", _("A cost is not below 0.")),
        )

    def __str__(self) -> str:
        return f"{self.request_id} #{self.attempt} {self.provider}/{self.model}"
