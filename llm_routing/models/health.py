"""Health: one row per check of a provider or of one of its models, and the lease for checking.

`llm_routing.health` decides when to check and how to use the results. `breakers` has the reported
circuit breakers.
"""

from datetime import timedelta
from typing import Self

from django.db import models
from django.db.models import F, OuterRef, Q, Subquery
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from . import fields
from .databases import DatabaseNow, PrimaryQuerySet
from .text import ExactCharField


class HealthCheckQuerySet(PrimaryQuerySet["HealthCheck"]):
    """Reads checks."""

    def newest_by_target(self) -> Self:
        """Returns the newest check of each provider and model."""
        newest = (
            self.model.objects.using(self.db)
            .filter(provider=OuterRef("provider"), model=OuterRef("model"))
            .order_by("-checked_at", "-id")
            .values("id")[:1]
        )
        return self.filter(id=Subquery(newest))


class HealthCheck(models.Model):
    """One check: whether a target answered, and how fast."""

    provider = ExactCharField(_("provider"), max_length=64)
    model = ExactCharField(_("model"), max_length=200, blank=True)
    kind = ExactCharField(_("kind"), max_length=32, default="sweep")
    is_healthy = models.BooleanField(_("healthy"))
    error_code = ExactCharField(_("error"), max_length=64, blank=True)
    latency_ms = models.FloatField(_("latency in ms"), null=True, blank=True)
    checked_at = models.DateTimeField(_("checked"), default=timezone.now)

    objects = HealthCheckQuerySet.as_manager()

    class Meta:
        verbose_name = _("health check")
        verbose_name_plural = _("health checks")
        ordering = ("-checked_at", "-id")
        indexes = (
            models.Index(fields=("-checked_at", "-id"), name="llm_health_checked"),
            models.Index(
                fields=("provider", "model", "-checked_at"), name="llm_health_target_checked"
            ),
        )
        constraints = (
            fields.at_least("latency_ms", 0, "health", _("A latency must not be below 0.")),
        )

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}" if self.model else self.provider


class SweepLeaseQuerySet(PrimaryQuerySet["SweepLease"]):
    """Takes and releases leases by the database's clock, because the holder's may be wrong."""

    def claim(self, name: str, holder: str, ttl: float, *, interval: float | None = None) -> bool:
        """Tries to take the lease for `ttl` seconds and returns whether `holder` has it. It must be
        free or expired and, with `interval`, the last sweep must have begun at least that many
        seconds ago."""
        self.bulk_create([self.model(name=name)], ignore_conflicts=True)
        free = self.filter(Q(expires_at__isnull=True) | Q(expires_at__lte=DatabaseNow()), name=name)
        if interval is not None:
            due = Q(swept_at__isnull=True) | Q(
                swept_at__lte=DatabaseNow() - timedelta(seconds=interval)
            )
            free = free.filter(due)
        until = DatabaseNow() + timedelta(seconds=ttl)
        return bool(free.update(holder=holder, claimed_at=DatabaseNow(), expires_at=until))

    def renew(self, name: str, holder: str, ttl: float) -> bool:
        """Renews the lease for `ttl` seconds and returns whether `holder` still has it. An expired
        lease is renewed if no other process has taken it."""
        until = DatabaseNow() + timedelta(seconds=ttl)
        return bool(self.filter(name=name, holder=holder).update(expires_at=until))

    def release(self, name: str, holder: str, *, swept: bool) -> None:
        """Releases the lease if `holder` still has it; `swept`: everything was checked."""
        values = {"swept_at": F("claimed_at")} if swept else {}
        self.filter(name=name, holder=holder).update(holder="", expires_at=None, **values)


class SweepLease(models.Model):
    """The lease of the process that may sweep; `swept_at` is the start of the last complete
    sweep."""

    name = ExactCharField(_("name"), max_length=32, primary_key=True)
    holder = ExactCharField(_("holder"), max_length=200, blank=True)
    claimed_at = models.DateTimeField(_("claimed"), null=True)
    expires_at = models.DateTimeField(_("expires"), null=True)
    swept_at = models.DateTimeField(_("last sweep"), null=True)

    objects = SweepLeaseQuerySet.as_manager()

    class Meta:
        verbose_name = _("sweep lease")
        verbose_name_plural = _("sweep leases")

    def __str__(self) -> str:
        return self.name
