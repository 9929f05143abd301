"""Health: one row for each check of a provider or of one of its models.

When a target is checked and what follows from it is decided elsewhere.
"""

from typing import Self

from django.db import models
from django.db.models import OuterRef, Subquery
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from . import fields


class HealthCheckQuerySet(models.QuerySet["HealthCheck"]):
    """Reads checks."""

    def newest_by_target(self) -> Self:
        """The newest check of each provider and model."""
        newest = (
            self.model.objects.filter(provider=OuterRef("provider"), model=OuterRef("model"))
            .order_by("-checked_at", "-id")
            .values("id")[:1]
        )
        return self.filter(id=Subquery(newest))


class HealthCheck(models.Model):
    """One check: whether a target answered, and how fast."""

    provider = models.CharField(_("provider"), max_length=64)
    model = models.CharField(_("model"), max_length=200, blank=True)
    kind = models.CharField(_("kind"), max_length=32, default="sweep")
    is_healthy = models.BooleanField(_("healthy"))
    error_code = models.CharField(_("error"), max_length=64, blank=True)
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
        constraints = (fields.at_least("latency_ms", 0, "health", _("A latency is not below 0.")),)

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}" if self.model else self.provider
