"""The health of this process's targets, kept up to date by the background thread.

`poll` brings what the database knows into memory and tells it what is known here.
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
from llm_routing.core.breaker import BreakerState, BreakerStatus
from llm_routing.core.ports import BreakerRegistry
from llm_routing.models import BreakerReport, BreakerReset, HealthCheck, ModelConfig
from llm_routing.models.databases import DatabaseNow, atomic, writes_to

from .credential_breakers import CredentialBreakers, News, Turn
from .target_health import Check, HealthSigns, Key

logger = logging.getLogger(__name__)

INTERVALS_BELIEVED = 3
RENEW_SECONDS = 10.0
BELIEVED_SECONDS = 30.0
UNSHARED_SECONDS = 60.0


@dataclass(slots=True)
class _Mark:
    """A model that has gone or come back, to be marked where all processes see it."""

    is_gone: bool
    since: float
    is_told: bool = False

    def tell(self, provider: str, model: str) -> None:
        """Logs it, once."""
        if self.is_told:
            return
        self.is_told = True
        if self.is_gone:
            logger.warning("%s does not know the model %s any more.", provider, model)
        else:
            logger.info("%s knows the model %s again.", provider, model)


class Watch:
    """What the process knows. Its routers share one. `interval` is the seconds between sweeps where
    a router has its own idea of it."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Starts anew: the routers are closed, or this is a forked child."""
        self.signs = HealthSigns(time.monotonic)
        self.breakers: BreakerRegistry | None = None
        rng = Random()  # noqa: S311  # it spreads probes and keeps no secret
        self.credential_breakers = CredentialBreakers(time.monotonic, rng)
        self.interval: float | None = None
        self._process = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._last_check: int | None = None
        self._last_reset: int | None = None
        self._reported: Mapping[Key, tuple[object, ...]] = {}
        self._renew_at = 0.0
        self._to_put_back: set[str] = set()
        self._to_mark: dict[Key, _Mark] = {}

    def look(self) -> None:
        """Judges anew what loses its weight with time, and logs what has happened. Needs no
        database."""
        self.signs.refresh()
        self.credential_breakers.refresh()
        for news in self.credential_breakers.take_news():
            _log_credential(news)
            if news.turn is Turn.BACK:
                self._to_put_back.add(news.provider)
            elif news.turn is Turn.OUT:
                self._to_put_back.discard(news.provider)
        for (provider, model), is_gone in self.signs.take_turns().items():
            self._to_mark[provider, model] = _Mark(is_gone, time.monotonic())
        for (provider, model), mark in self._to_mark.items():
            if time.monotonic() - mark.since > UNSHARED_SECONDS:
                # There is no database to say whether another process has told it.
                mark.tell(provider, model)

    def poll(self) -> None:
        """Takes over new checks, orders to reset and credentials that others have found to be out
        of use; reports breakers that are not closed, and marks models that have gone or come back.
        Raises `django.db.Error`."""
        self._load_checks()
        self._put_back()
        self._obey_resets()
        self._adopt()
        self._report()
        self._mark_models()

    def retract(self) -> None:
        """Takes back what this process has reported: it ends. Raises `django.db.Error`."""
        if self._reported:
            BreakerReport.objects.filter(process=self._process).delete()
            self._reported = {}

    def _load_checks(self) -> None:
        max_age = INTERVALS_BELIEVED * (self.interval or get_settings().health_check_interval)
        self.signs.max_age = max_age
        if self._last_check is None:
            rows = HealthCheck.objects.filter(
                checked_at__gt=DatabaseNow() - timedelta(seconds=max_age)
            )
        else:
            rows = HealthCheck.objects.filter(id__gt=self._last_check)
        # Ages by the database's clock; this machine's may be wrong.
        age = ExpressionWrapper(DatabaseNow() - F("checked_at"), output_field=DurationField())
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
        }
        self.signs.take(checks, _availability())
        self._last_check = found[-1].pk

    def _obey_resets(self) -> None:
        if self._last_reset is None:
            self._last_reset = BreakerReset.objects.aggregate(last=Max("id"))["last"] or 0
            return
        for reset in BreakerReset.objects.filter(id__gt=self._last_reset).order_by("id"):
            self._last_reset = reset.pk
            self.reset(reset.provider, reset.model)

    def reset(self, provider: str, model: str) -> None:
        """Closes a target's breaker in this process; without a model, the credential's."""
        if not model:
            self.credential_breakers.reset(provider)
        elif self.breakers is not None:
            self.breakers.reset(provider, model)

    def _put_back(self) -> None:
        """Has the others use credentials again that a probe of this process has found good."""
        if self._to_put_back:
            reset_breakers([(provider, "") for provider in self._to_put_back], "")
            self._to_put_back.clear()

    def _adopt(self) -> None:
        reports = open_breakers().filter(model="").exclude(process=self._process)
        wait = ExpressionWrapper(F("retry_at") - DatabaseNow(), output_field=DurationField())
        for report in reports.annotate(wait=wait):
            seconds = max(report.wait.total_seconds(), 0.0)
            self.credential_breakers.adopt(
                report.provider, report.credential, report.cause, seconds
            )

    def _mark_models(self) -> None:
        """Marks models; the process whose mark is the first one logs it for all."""
        for (provider, model_id), mark in list(self._to_mark.items()):
            rows = ModelConfig.objects.filter(provider__name=provider, model_id=model_id)
            keys = list(rows.values_list("pk", flat=True))
            at = timezone.now() if mark.is_gone else None
            if ModelConfig.objects.mark_vanished(keys, at) or not keys:
                mark.tell(provider, model_id)
            del self._to_mark[provider, model_id]

    def _report(self) -> None:
        statuses = self.breakers.statuses() if self.breakers is not None else {}
        credentials = self.credential_breakers.marked_statuses()
        marks = {(provider, ""): mark for provider, mark in credentials}
        troubled = {
            key: status
            for key, status in {
                **statuses,
                **{(provider, ""): status for (provider, _), status in credentials.items()},
            }.items()
            if status.state is not BreakerState.CLOSED
        }
        known = {key: (status.state, status.openings) for key, status in troubled.items()}
        is_due = bool(known) and time.monotonic() >= self._renew_at
        if known == self._reported and not is_due:
            return
        with atomic(BreakerReport):
            BreakerReport.objects.filter(process=self._process).delete()
            BreakerReport.objects.filter(seen_at__lt=DatabaseNow() - timedelta(minutes=5)).delete()
            BreakerReport.objects.bulk_create(
                _report_of(self._process, key, status, marks.get(key, ""))
                for key, status in troubled.items()
            )
        self._reported = known
        self._renew_at = time.monotonic() + RENEW_SECONDS


def open_breakers() -> QuerySet[BreakerReport]:
    """The reports of processes that live."""
    return BreakerReport.objects.filter(
        seen_at__gt=DatabaseNow() - timedelta(seconds=BELIEVED_SECONDS)
    )


def reset_breakers(targets: Iterable[Key], ordered_by: str) -> None:
    """Closes the breakers of targets, and of credentials where the model is empty: in this process
    after the commit, in the others with their next poll."""
    keys = sorted(set(targets))
    database = writes_to(BreakerReset)
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
        transaction.on_commit(lambda: _reset_here(keys), using=database)


def _reset_here(keys: Iterable[Key]) -> None:
    for provider, model in keys:
        watch.reset(provider, model)


def _log_credential(news: News) -> None:
    match news.turn:
        case Turn.OUT:
            origin = "the admin" if news.origin == STORED else news.origin
            logger.error(
                "The credential of provider %s is out of use: %s.%s Other targets are asked; in "
                "%.0f s one request tries it again.",
                news.provider,
                news.cause,
                f" Its key is from {origin}." if origin else "",
                news.retry_after,
            )
        case Turn.BACK:
            logger.warning("The credential of provider %s is in use again.", news.provider)
        case Turn.REPLACED:
            logger.warning("Provider %s has another credential, which is in use.", news.provider)
        case Turn.RESET:
            logger.warning("The credential of provider %s is in use again: reset.", news.provider)


def _report_of(process: str, key: Key, status: BreakerStatus, credential: str) -> BreakerReport:
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
    """The share of good checks of each provider in the last day."""
    rows = (
        HealthCheck.objects.filter(model="", checked_at__gt=DatabaseNow() - timedelta(days=1))
        .order_by()
        .values("provider")
        .annotate(total=Count("id"), good=Count("id", filter=Q(is_healthy=True)))
    )
    return {row["provider"]: row["good"] / row["total"] for row in rows}


watch = Watch()
