"""The column with the last 24 hours and the open breakers of a provider or model.

Needs two queries per page, however many rows it has. The checks are in `models.health`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, cast

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db import connections
from django.db.models import Avg, Count, Q
from django.db.models.functions import TruncHour
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from llm_routing.core.breaker import BreakerState
from llm_routing.core.types import TargetKey
from llm_routing.health.monitor import open_breakers
from llm_routing.models import HealthCheck

from .base import status

if TYPE_CHECKING:
    Base = ChangeList
    AdminBase = admin.ModelAdmin[Any]
else:
    Base = AdminBase = object

HOURS = 24
BAR, GAP, HEIGHT, LEAST = 4, 1, 18, 3


@dataclass(frozen=True, slots=True)
class Hour:
    """The checks of one hour; `latency_ms` is the mean of the successful ones."""

    total: int = 0
    good: int = 0
    latency_ms: float | None = None

    @property
    def level(self) -> str:
        """The level for `base.status`."""
        if not self.total:
            return "off"
        if not self.good:
            return "bad"
        return "good" if self.good == self.total else "warning"


@dataclass(frozen=True, slots=True)
class Day:
    """The last 24 hours of one row, oldest first, and the state of its breakers."""

    hours: tuple[Hour, ...]
    is_open: bool
    is_half_open: bool


class TargetAdmin(Protocol):
    """The admin of rows that are targets."""

    def target_of(self, row: Any) -> TargetKey:
        """Returns the target of a row."""


class _Last24HoursResults(Base):
    """Mixin for change lists: their rows have the attribute `day`."""

    def get_results(self, request: HttpRequest) -> None:
        """Like Django's; adds the day to the rows on this page."""
        super().get_results(request)
        target_of = cast("TargetAdmin", self.model_admin).target_of
        rows = list(self.result_list)
        days = last_24_hours_of([target_of(row) for row in rows])
        for row in rows:
            row.day = days[target_of(row)]
        self.result_list = rows


class Last24HoursColumn(AdminBase):
    """Adds the column `day` to a `TargetAdmin`."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Returns the change list of Django or of the theme, with days."""
        kind = super().get_changelist(request, **kwargs)
        return type("Last24HoursChangeList", (_Last24HoursResults, kind), {})

    @admin.display(description=gettext_lazy("last day"))
    def day(self, row: Any) -> str:
        """Renders one bar per hour, whose height is the latency of the checks, and the breaker if
        it is not closed."""
        day: Day = row.day
        return format_html("{}{}", sparkline(day.hours), _breaker(day))


def last_24_hours_of(keys: Sequence[TargetKey]) -> Mapping[TargetKey, Day]:
    """Returns the last 24 hours of each target."""
    # Uses the database's own time zone: MySQL needs time zone tables for any conversion.
    zone = connections[HealthCheck.objects.db].timezone
    now = timezone.now()
    if zone is not None:
        now = now.astimezone(zone)
    now = now.replace(minute=0, second=0, microsecond=0)
    first = now - timedelta(hours=HOURS - 1)
    providers, models = {key[0] for key in keys}, {key[1] for key in keys}
    found: dict[TargetKey, dict[datetime, Hour]] = {}
    checks = (
        HealthCheck.objects.filter(provider__in=providers, model__in=models, checked_at__gte=first)
        .order_by()
        .annotate(hour=TruncHour("checked_at", tzinfo=zone))
        .values("provider", "model", "hour")
        .annotate(
            total=Count("id"),
            good=Count("id", filter=Q(is_healthy=True)),
            latency=Avg("latency_ms", filter=Q(is_healthy=True)),
        )
    )
    for row in checks:
        hours = found.setdefault((row["provider"], row["model"]), {})
        hours[row["hour"]] = Hour(row["total"], row["good"], row["latency"])
    states: dict[TargetKey, set[str]] = {}
    for report in open_breakers().filter(provider__in=providers):
        for key in ((report.provider, report.model), (report.provider, "")):
            states.setdefault(key, set()).add(report.state)
    slots = [first + timedelta(hours=n) for n in range(HOURS)]
    return {
        key: Day(
            tuple(found.get(key, {}).get(slot, Hour()) for slot in slots),
            is_open=BreakerState.OPEN.value in states.get(key, ()),
            is_half_open=BreakerState.HALF_OPEN.value in states.get(key, ()),
        )
        for key in keys
    }


def sparkline(hours: Sequence[Hour]) -> str:
    """Renders the hours as an inline SVG with a text description."""
    if not any(hour.total for hour in hours):
        return "—"
    slowest = max((hour.latency_ms or 0.0 for hour in hours), default=0.0) or 1.0
    bars = []
    for n, hour in enumerate(hours):
        height = HEIGHT if hour.level == "bad" else 1
        if hour.good:
            height = max(LEAST, round(HEIGHT * (hour.latency_ms or 0.0) / slowest))
        bars.append(
            {"x": n * (BAR + GAP), "y": HEIGHT - height, "height": height, "level": hour.level}
        )
    total, good = sum(hour.total for hour in hours), sum(hour.good for hour in hours)
    return render_to_string(
        "llm_routing/admin/sparkline.html",
        {
            "bars": bars,
            "bar": BAR,
            "width": len(bars) * (BAR + GAP) - GAP,
            "height": HEIGHT,
            "title": ngettext(
                "%(good)d of %(total)d check succeeded in the last day.",
                "%(good)d of %(total)d checks succeeded in the last day.",
                total,
            )
            % {"good": good, "total": total},
        },
    )


def _breaker(day: Day) -> str:
    if day.is_open:
        return format_html(" {}", status("bad", _("Breaker open")))
    if day.is_half_open:
        return format_html(" {}", status("warning", _("Breaker half open")))
    return ""
