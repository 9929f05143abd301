"""Whether targets can be called now: which are inactive, skipped or behind an open breaker."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Exists, OuterRef, Q

from llm_routing.core.breaker import BreakerState
from llm_routing.health.monitor import open_breakers
from llm_routing.models import Provider, RouteTarget
from llm_routing.vendors import VENDORS


def has_open_breaker(provider: str, model: str) -> Exists:
    """Returns an annotation: whether a running process has an open breaker for the target or for
    its provider's credential. The arguments are the field names of provider and model ID."""
    reports = open_breakers().filter(state=BreakerState.OPEN.value, provider=OuterRef(provider))
    return Exists(reports.filter(Q(model="") | Q(model=OuterRef(model))))


def is_out(row: Any) -> bool:
    """Returns the annotation `is_out` of a row, which `has_open_breaker` computes."""
    return bool(row.is_out)


def is_sandbox(provider: Provider) -> bool:
    """Returns whether the provider is a sandbox."""
    vendor = VENDORS.get(provider.vendor)
    return vendor is not None and vendor.is_sandbox


def reachable(targets: Iterable[RouteTarget]) -> list[RouteTarget]:
    """Returns the active targets. Targets at the sandbox are excluded if there are real ones."""
    active = [row for row in targets if row.model.is_active and row.model.provider.is_active]
    return [row for row in active if not is_sandbox(row.model.provider)] or active
