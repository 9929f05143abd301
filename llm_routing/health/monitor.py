"""Keeps the health of this process's targets up to date. The background thread drives it.

`refresh` updates memory alone; `sync` exchanges checks, breaker reports and resets with the
database.
"""

import logging
import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from uuid import uuid4

from django.db import transaction
from django.db.models import Count, DurationField, ExpressionWrapper, F, Max, Q, QuerySet
from django.utils import timezone

from llm_routing.conf import get_settings
from llm_routing.configuration.credentials import STORED
from llm_routing.configuration.source import snapshot_source
from llm_routing.core.breaker import BreakerState, BreakerStatus
from llm_routing.core.ports import BreakerRegistry
from llm_routing.core.types import TargetKey
from llm_routing.models import (
    BreakerReport,
    BreakerReset,
    ConfigurationVersion,
    HealthCheck,
    ModelConfig,
)
from llm_routing.models.databases import DatabaseNow, atomic, write_database

from .credential_breakers import CredentialBreakers, CredentialChange, CredentialEvent
from .target_health import Check, TargetHealth

logger = logging.getLogger(__name__)

CHECK_VALID_INTERVALS = 3
"""A check counts for this many sweep intervals."""
RENEW_SECONDS = 10.0
REPORT_VALID_SECONDS = 30.0
RELOAD_SECONDS = 10.0
"""Checks, resets and reports are also loaded this often if their version stays the same: a project
may write rows without it."""
MAX_UNSHARED_SECONDS = 60.0
"""After this time without a database each process logs a vanished model itself."""


@dataclass(slots=True)
class _ModelChange:
    """A model that vanished or returned, to be written to the database for all processes."""

    is_gone: bool
    since: float
    is_logged: bool = False

    def log(self, provider: str, model: str) -> None:
        """Logs the change once."""
        if self.is_logged:
            return
        self.is_logged = True
        if self.is_gone:
            logger.warning("Provider %s no longer knows the model %s.", provider, model)
        else:
            logger.info("Provider %s knows the model %s again.", provider, model)


class HealthMonitor:
    """The health state of the process, shared by its routers.

    `interval` is the number of seconds between sweeps if a router overrides the setting.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Resets all state, because the routers were closed or this is a forked child."""
        self.target_health = TargetHealth(time.monotonic)
        self.breakers: BreakerRegistry | None = None
        rng = Random()  # noqa: S311  # it spreads probes and keeps no secret
        self.credential_breakers = CredentialBreakers(time.monotonic, rng)
        self.interval: float | None = None
        self._process = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._last_check: int | None = None
        self._last_reset: int | None = None
        self._reported: Mapping[TargetKey, tuple[object, ...]] = {}
        self._renew_at = 0.0
        self._version: tuple[int, str] | None = None
        self._loaded_at = float("-inf")
        self._to_enable: set[str] = set()
        self._model_changes: dict[TargetKey, _ModelChange] = {}

    def refresh(self) -> None:
        """Expires old state and logs credential and model changes. Uses no database."""
        self.target_health.refresh()
        self.credential_breakers.refresh()
        for event in self.credential_breakers.drain_events():
            _log_credential(event)
            if event.change is CredentialChange.RESTORED:
                self._to_enable.add(event.provider)
            elif event.change is CredentialChange.DISABLED:
                self._to_enable.discard(event.provider)
        for (provider, model), is_gone in self.target_health.drain_changes().items():
            self._model_changes[provider, model] = _ModelChange(is_gone, time.monotonic())
        for (provider, model), change in self._model_changes.items():
            if time.monotonic() - change.since > MAX_UNSHARED_SECONDS:
                # Without the database it is unknown whether another process has logged it.
                change.log(provider, model)

    def sync(self, version: tuple[int, str] | None = None) -> None:
        """Exchanges state with the other processes through the database.

        Loads new checks, breaker resets and credentials that others disabled, unless `version`, the
        version of the area `health` with its stamp, is that of the last call; writes this process's
        open breakers and the models that vanished or returned. Raises `django.db.Error`.
        """
        now = time.monotonic()
        is_due = now - self._loaded_at >= RELOAD_SECONDS
        is_outdated = is_due or version is None or version != self._version
        if is_outdated:
            self._load_checks()
        self._share_enabled_credentials()
        if is_outdated:
            self._load_resets()
            self._load_disabled_credentials()
            self._version, self._loaded_at = version, now
        self._write_reports()
        self._write_model_changes()

    def note_forbidden_address(self, provider: str, reason: str) -> None:
        """Records that this process's settings refused the address of a provider, and logs it once.
        The reason says which setting."""
        is_known = provider in snapshot_source.current.forbidden_addresses  # and logged
        if self.target_health.record_forbidden_address(provider) and not is_known:
            logger.warning("Provider %s cannot be called: %s", provider, reason)

    def withdraw_reports(self) -> None:
        """Deletes this process's reports when it ends. Raises `django.db.Error`."""
        if self._reported:
            BreakerReport.objects.filter(process=self._process).delete()
            self._reported = {}

    def _load_checks(self) -> None:
        max_age = CHECK_VALID_INTERVALS * (self.interval or get_settings().health_check_interval)
        self.target_health.max_age = max_age
        if self._last_check is None:
            rows = HealthCheck.objects.filter(
                checked_at__gt=DatabaseNow() - timedelta(seconds=max_age)
            )
        else:
            rows = HealthCheck.objects.filter(id__gt=self._last_check)
        # Ages come from the database's clock, because this machine's may be wrong.
        age = ExpressionWrapper(DatabaseNow() - F("checked_at"), output_field=DurationField())
        found = list(rows.annotate(age=age).order_by("id"))
        if not found:
            self._last_check = self._last_check or 0
            return
        now = self.target_health.now()
        checks = {
            (row.provider, row.model): Check(
                at=now - max(row.age.total_seconds(), 0.0),  # type: ignore[attr-defined]  # annotated
                is_healthy=row.is_healthy,
                error_code=row.error_code,
                latency_ms=row.latency_ms,
                kind=row.kind,
            )
            for row in found
        }
        self.target_health.update_checks(checks, _availability())
        self._last_check = found[-1].pk

    def _load_resets(self) -> None:
        if self._last_reset is None:
            self._last_reset = BreakerReset.objects.aggregate(last=Max("id"))["last"] or 0
            return
        for reset in BreakerReset.objects.filter(id__gt=self._last_reset).order_by("id"):
            self._last_reset = reset.pk
            self.reset_breaker(reset.provider, reset.model)

    def reset_breaker(self, provider: str, model: str) -> None:
        """Closes a target's breaker in this process, or the credential's if `model` is empty."""
        if not model:
            self.credential_breakers.reset(provider)
        elif self.breakers is not None:
            self.breakers.reset(provider, model)

    def _share_enabled_credentials(self) -> None:
        """Tells the other processes which credentials passed a probe of this process."""
        if self._to_enable:
            reset_breakers([(provider, "") for provider in self._to_enable], "")
            self._to_enable.clear()

    def _load_disabled_credentials(self) -> None:
        reports = open_breakers().filter(model="").exclude(process=self._process)
        wait = ExpressionWrapper(F("retry_at") - DatabaseNow(), output_field=DurationField())
        for report in reports.annotate(wait=wait):
            seconds = max(report.wait.total_seconds(), 0.0)
            self.credential_breakers.disable_reported(
                report.provider, report.credential, report.cause, seconds
            )

    def _write_model_changes(self) -> None:
        """Marks models in the database. Only the process that sets the mark first logs it."""
        for (provider, model_id), change in list(self._model_changes.items()):
            rows = ModelConfig.objects.filter(provider__name=provider, model_id=model_id)
            keys = list(rows.values_list("pk", flat=True))
            at = timezone.now() if change.is_gone else None
            if ModelConfig.objects.mark_vanished(keys, at) or not keys:
                change.log(provider, model_id)
            del self._model_changes[provider, model_id]

    def _write_reports(self) -> None:
        statuses = self.breakers.statuses() if self.breakers is not None else {}
        credentials = self.credential_breakers.statuses_by_fingerprint()
        fingerprints = {(provider, ""): fingerprint for provider, fingerprint in credentials}
        not_closed = {
            key: status
            for key, status in {
                **statuses,
                **{(provider, ""): status for (provider, _), status in credentials.items()},
            }.items()
            if status.state is not BreakerState.CLOSED
        }
        known = {key: (status.state, status.openings) for key, status in not_closed.items()}
        is_due = bool(known) and time.monotonic() >= self._renew_at
        if known == self._reported and not is_due:
            return
        with atomic(BreakerReport):
            BreakerReport.objects.filter(process=self._process).delete()
            BreakerReport.objects.filter(seen_at__lt=DatabaseNow() - timedelta(minutes=5)).delete()
            BreakerReport.objects.bulk_create(
                _report_of(self._process, key, status, fingerprints.get(key, ""))
                for key, status in not_closed.items()
            )
            if known != self._reported:
                ConfigurationVersion.objects.bump(ConfigurationVersion.Area.HEALTH)
        self._reported = known
        self._renew_at = time.monotonic() + RENEW_SECONDS


def open_breakers() -> QuerySet[BreakerReport]:
    """Returns the breaker reports of running processes."""
    return BreakerReport.objects.filter(
        seen_at__gt=DatabaseNow() - timedelta(seconds=REPORT_VALID_SECONDS)
    )


def reset_breakers(targets: Iterable[TargetKey], ordered_by: str) -> None:
    """Closes the breakers of targets, or of credentials where the model is empty.

    This process follows after the commit, the others with their next `sync`.
    """
    keys = sorted(set(targets))
    database = write_database(BreakerReset)
    with transaction.atomic(using=database):
        BreakerReset.objects.bulk_create(
            BreakerReset(
                provider=provider,
                model=model,
                ordered_by=ordered_by[:150],
                ordered_at=DatabaseNow(),
            )
            for provider, model in keys
        )
        for provider, model in keys:
            BreakerReport.objects.filter(provider=provider, model=model).delete()
        ConfigurationVersion.objects.bump(ConfigurationVersion.Area.HEALTH)
        transaction.on_commit(lambda: _reset_here(keys), using=database)


def _reset_here(keys: Iterable[TargetKey]) -> None:
    for provider, model in keys:
        health_monitor.reset_breaker(provider, model)


def _log_credential(event: CredentialEvent) -> None:
    match event.change:
        case CredentialChange.DISABLED:
            origin = "the admin" if event.origin == STORED else event.origin
            logger.error(
                "The credential of provider %s is disabled: %s.%s Requests go to other targets; "
                "one request tries it again in %.0f s.",
                event.provider,
                event.cause,
                f" Its key comes from {origin}." if origin else "",
                event.retry_after,
            )
        case CredentialChange.RESTORED:
            logger.warning("The credential of provider %s is enabled again.", event.provider)
        case CredentialChange.REPLACED:
            logger.warning("Provider %s has a new credential, which is enabled.", event.provider)
        case CredentialChange.RESET:
            logger.warning("The credential of provider %s was reset.", event.provider)


def _report_of(
    process: str, key: TargetKey, status: BreakerStatus, credential: str
) -> BreakerReport:
    provider, model = key
    return BreakerReport(
        process=process,
        provider=provider,
        model=model,
        credential=credential,
        state=status.state.value,
        cause=status.cause,
        openings=status.openings,
        opened_at=DatabaseNow() - timedelta(seconds=status.opened_for),
        retry_at=DatabaseNow() + timedelta(seconds=status.retry_after),
        seen_at=DatabaseNow(),
    )


def _availability() -> Mapping[str, float]:
    """Returns the share of successful checks of each provider in the last day."""
    rows = (
        HealthCheck.objects.filter(model="", checked_at__gt=DatabaseNow() - timedelta(days=1))
        .order_by()
        .values("provider")
        .annotate(total=Count("id"), good=Count("id", filter=Q(is_healthy=True)))
    )
    return {row["provider"]: row["good"] / row["total"] for row in rows}


health_monitor = HealthMonitor()
