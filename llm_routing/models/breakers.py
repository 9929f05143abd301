"""Circuit breakers that are not closed, as each process reports them, and orders to reset them.

The breakers themselves are in each process's memory (`core.breaker`).
"""

from django.db import models
from django.utils.translation import gettext_lazy as _

from llm_routing.core.breaker import BreakerState

from .databases import PrimaryQuerySet
from .text import ExactCharField

STATES = [
    (BreakerState.OPEN.value, _("Open")),
    (BreakerState.HALF_OPEN.value, _("Half open")),
]


class BreakerReportQuerySet(PrimaryQuerySet["BreakerReport"]):
    """Reads reports."""


class BreakerReport(models.Model):
    """A breaker that is open or half open in one process. It belongs to a target or, without a
    model, to the provider's credential with the fingerprint `credential`. A report that is no
    longer renewed is from an ended process."""

    process = ExactCharField(_("process"), max_length=150)
    provider = ExactCharField(_("provider"), max_length=64)
    model = ExactCharField(_("model"), max_length=200, blank=True)
    credential = ExactCharField(_("credential"), max_length=32, blank=True)
    state = ExactCharField(_("state"), max_length=16, choices=STATES)
    cause = ExactCharField(_("cause"), max_length=64, blank=True)
    openings = models.PositiveIntegerField(_("openings"), default=1)
    opened_at = models.DateTimeField(_("open since"))
    retry_at = models.DateTimeField(_("next probe"))
    seen_at = models.DateTimeField(_("reported"))

    objects = BreakerReportQuerySet.as_manager()

    class Meta:
        verbose_name = _("open circuit breaker")
        verbose_name_plural = _("open circuit breakers")
        ordering = ("provider", "model", "process")
        default_permissions = ("view",)
        permissions = (("reset_breaker", _("Can reset circuit breakers")),)
        constraints = (
            models.UniqueConstraint(
                fields=("process", "provider", "model"), name="llm_breaker_of_process"
            ),
        )

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}".rstrip("/")


class BreakerResetQuerySet(PrimaryQuerySet["BreakerReset"]):
    """Reads reset orders."""


class BreakerReset(models.Model):
    """An order to every process to close a target's breaker or, without a model, that of the
    provider's credential."""

    provider = ExactCharField(_("provider"), max_length=64)
    model = ExactCharField(_("model"), max_length=200, blank=True)
    ordered_by = ExactCharField(_("ordered by"), max_length=150, blank=True)
    ordered_at = models.DateTimeField(_("ordered"))

    objects = BreakerResetQuerySet.as_manager()

    class Meta:
        verbose_name = _("circuit breaker reset")
        verbose_name_plural = _("circuit breaker resets")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}".rstrip("/")
