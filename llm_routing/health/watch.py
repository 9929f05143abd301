"""The health of this process's targets, kept up to date by the background thread.

`poll` brings what the database knows into memory and tells it what is known here.
"""

import os
import socket
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from uuid import uuid4

from django.db import transaction
from django.db.models import Count, DurationField, ExpressionWrapper, F, Max, Q, QuerySet
from django.db.models.functions import Now

from llm_routing.conf import get_settings
from llm_routing.core.breaker import BreakerState, BreakerStatus
from llm_routing.core.ports import BreakerRegistry
from llm_routing.models import BreakerReport, BreakerReset, HealthCheck

from .checks import NO_CREDENTIAL
from .signs import Check, HealthSigns, Key

INTERVALS_BELIEVED = 3
RENEW_SECONDS = 10.0
BELIEVED_SECONDS = 30.0


class Watch:
    """What the process knows. Its routers share one. `interval` is the seconds between sweeps where
    a router has its own idea of it."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Starts anew: the routers are closed, or this is a forked child."""
        self.signs = HealthSigns(time.monotonic)
        self.breakers: BreakerRegistry | None = None
        self.interval: float | None = None
        self._process = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._last_check: int | None = None
        self._last_reset: int | None = None
        self._reported: Mapping[Key, tuple[object, ...]] = {}
        self._renew_at = 0.0

    def poll(self) -> None:
        """Takes over new checks and orders to reset, and reports breakers that are not closed.
        Raises `django.db.Error`."""
        self._load_checks()
        self._obey_resets()
        self._report()

    def retract(self) -> None:
        """Takes back what this process has reported: it ends. Raises `django.db.Error`."""
        if self._reported:
            BreakerReport.objects.filter(process=self._process).delete()
            self._reported = {}

    def _load_checks(self) -> None:
        max_age = INTERVALS_BELIEVED * (self.interval or get_settings().health_check_interval)
        self.signs.max_age = max_age
        if self._last_check is None:
            rows = HealthCheck.objects.filter(checked_at__gt=Now() - timedelta(seconds=max_age))
        else:
            rows = HealthCheck.objects.filter(id__gt=self._last_check)
        # Ages by the database's clock; this machine's may be wrong.
        age = ExpressionWrapper(Now() - F("checked_at"), output_field=DurationField())
        found = list(rows.annotate(age=age).order_by("id"))
        if not found:
            self._last_check = self._last_check or 0
            return
        now = self.signs.now()
        checks = {
            (row.provider, row.model): Check(
                at=now - max(row.age.total_seconds(), 0.0),  # type: ignore[attr-defined]  # annotated
                is_healthy=row.is_healthy,
                error_code=row.error_code,
                latency_ms=row.latency_ms,
                kind=row.kind,
            )
            for row in found
            # A sweeper without a key says nothing about a process that may have one.
            if row.error_code != NO_CREDENTIAL
        }
        self.signs.take(checks, _availability())
        self._last_check = found[-1].pk

    def _obey_resets(self) -> None:
        if self._last_reset is None:
            self._last_reset = BreakerReset.objects.aggregate(last=Max("id"))["last"] or 0
            return
        for reset in BreakerReset.objects.filter(id__gt=self._last_reset).order_by("id"):
            self._last_reset = reset.pk
            if self.breakers is not None:
                self.breakers.reset(reset.provider, reset.model)

    def _report(self) -> None:
        statuses = self.breakers.statuses() if self.breakers is not None else {}
        troubled = {
            key: status
            for key, status in statuses.items()
            if status.state is not BreakerState.CLOSED
        }
        known = {key: (status.state, status.openings) for key, status in troubled.items()}
        is_due = bool(known) and time.monotonic() >= self._renew_at
        if known == self._reported and not is_due:
            return
        with transaction.atomic():
            BreakerReport.objects.filter(process=self._process).delete()
            BreakerReport.objects.filter(seen_at__lt=Now() - timedelta(minutes=5)).delete()
            BreakerReport.objects.bulk_create(
                _report_of(self._process, key, status) for key, status in troubled.items()
            )
        self._reported = known
        self._renew_at = time.monotonic() + RENEW_SECONDS


def open_breakers() -> QuerySet[BreakerReport]:
    """The reports of processes that live."""
    return BreakerReport.objects.filter(seen_at__gt=Now() - timedelta(seconds=BELIEVED_SECONDS))


def reset_breakers(targets: Iterable[Key], ordered_by: str) -> None:
    """Closes the breakers of targets: in this process after the commit, in the others with their
    next poll."""
    keys = sorted(set(targets))
    with transaction.atomic():
        BreakerReset.objects.bulk_create(
            BreakerReset(
                provider=provider, model=model, ordered_by=ordered_by[:150], ordered_at=Now()
            )
            for provider, model in keys
        )
        for provider, model in keys:
            BreakerReport.objects.filter(provider=provider, model=model).delete()
        transaction.on_commit(lambda: _reset_here(keys))


def _reset_here(keys: Iterable[Key]) -> None:
    if watch.breakers is not None:
        for provider, model in keys:
            watch.breakers.reset(provider, model)


def _report_of(process: str, key: Key, status: BreakerStatus) -> BreakerReport:
    provider, model = key
    return BreakerReport(
        process=process,
        provider=provider,
        model=model,
        state=status.state.value,
        cause=status.cause,
        openings=status.openings,
        opened_at=Now() - timedelta(seconds=status.opened_for),
        retry_at=Now() + timedelta(seconds=status.retry_after),
        seen_at=Now(),
    )


def _availability() -> Mapping[str, float]:
    """The share of good checks of each provider in the last day."""
    rows = (
        HealthCheck.objects.filter(model="", checked_at__gt=Now() - timedelta(days=1))
        .order_by()
        .values("provider")
        .annotate(total=Count("id"), good=Count("id", filter=Q(is_healthy=True)))
    )
    return {row["provider"]: row["good"] / row["total"] for row in rows}


watch = Watch()
