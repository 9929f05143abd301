"""Usage records: one row per attempt at a provider, written by the ledger and never changed.

There are no foreign keys: a record outlives the provider, model, route and API key it names.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self

from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from llm_routing.core.types import AttemptOutcome, CostSource

from . import fields
from .bulk_insert import insert_missing
from .text import ExactCharField

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
    """Queries on usage records."""

    def between(self, start: datetime, end: datetime) -> Self:
        """Returns the attempts that started at `start` or later and before `end`."""
        return self.filter(started_at__gte=start, started_at__lt=end)

    def of_tenant(self, tenant: str) -> Self:
        """Returns the attempts of one tenant."""
        return self.filter(tenant=tenant)

    def prune(self, before: datetime, max_rows: int) -> int:
        """Deletes up to `max_rows` attempts that started before a moment, oldest first.

        Returns how many it selected; two processes that prune at the same time count the same rows.
        """
        self._for_write = True
        old = self.filter(started_at__lt=before).order_by("started_at")
        # Keys first: MySQL does not support LIMIT in a subquery, and a short statement holds few
        # locks.
        keys = list(old.values_list("pk", flat=True)[:max_rows])
        self.filter(pk__in=keys).delete()
        return len(keys)

    def add_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Inserts rows that all have the same columns, skipping attempts that are recorded already.

        Raises `django.db.Error`.
        """
        self._for_write = True
        insert_missing(self.model, "attempt_id", rows, self.db)

    def check_row(self, row: Mapping[str, Any]) -> None:
        """Inserts a row and rolls back. Raises the errors of `add_rows`."""
        self._for_write = True
        with transaction.atomic(using=self.db):
            self.add_rows([row])
            transaction.set_rollback(True, using=self.db)


class UsageRecord(models.Model):
    """One attempt at a provider: tokens, cost and time."""

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
        help_text=_("The part of the cache write tokens that is cached for an hour."),
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
        help_text=_("Empty: unknown, because the model has no price. Zero is a known cost."),
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
        help_text=_("The provider's error message, without quotes from the request."),
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
                _("The outcome is unknown."),
            ),
            fields.at_least("cost", 0, "usage", _("A cost must not be below 0.")),
        )

    def __str__(self) -> str:
        return f"{self.request_id} #{self.attempt} {self.provider}/{self.model}"
