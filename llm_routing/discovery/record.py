"""Writes discovered models beside the rows of operators, in one transaction.

New models become inactive rows with a reason in the history; missing ones are marked as vanished.
Nothing else changes.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction

from llm_routing.core.errors import UpstreamError
from llm_routing.models import ModelConfig, Provider
from llm_routing.models.databases import write_database
from llm_routing.models.provenance import history_of, lock_configuration, with_change_reason

from .describe import describe
from .fetch import ModelList
from .lists import offered_models
from .report import DiscoveryReport, ProviderReport

REASON = "llm_discover_models"


def record(
    lists: Mapping[str, ModelList | UpstreamError], *, now: datetime, dry_run: bool
) -> DiscoveryReport:
    """Adds new models, marks vanished ones, unmarks returned ones, and reports all of it.

    A model whose row an operator removed or renamed is not new. `dry_run` rolls everything back.
    """
    descriptions = _describe_new(lists, now)
    reports = []
    database = write_database(ModelConfig)
    with transaction.atomic(using=database):
        lock_configuration()
        providers = {row.name: row for row in Provider.objects.filter(name__in=lists)}
        for name, found in lists.items():
            if isinstance(found, UpstreamError):
                reports.append(ProviderReport(name, error=found.code, message=found.message))
            elif name not in providers:
                reports.append(ProviderReport(name, error="gone", message="It has been removed."))
            else:
                reports.append(_record(providers[name], found, descriptions.get(name, {}), now))
        if dry_run:
            transaction.set_rollback(True, using=database)
    return DiscoveryReport(tuple(reports), is_dry_run=dry_run, is_recorded=not dry_run)


def _describe_new(
    lists: Mapping[str, ModelList | UpstreamError], now: datetime
) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns the fields of models without a row. A long list takes seconds, so this runs before
    taking the lock that every configuration change needs."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for provider in Provider.objects.filter(name__in=lists):
        offered = lists[provider.name]
        if isinstance(offered, ModelList):
            present = set(provider.models.values_list("model_id", flat=True))
            found[provider.name] = {
                model.model_id: describe(provider.vendor, model, now.date())
                for model in offered.models
                if model.model_id not in present
            }
    return found


def _record(
    provider: Provider,
    found: ModelList,
    descriptions: Mapping[str, dict[str, Any]],
    now: datetime,
) -> ProviderReport:
    rows = {row.model_id: row for row in provider.models.all()}
    known = set(
        history_of(ModelConfig)
        .order_by()
        .filter(provider_id=provider.pk)
        .values_list("model_id", flat=True)
    )
    missing = [model.model_id for model in found.models if model.model_id not in rows]
    # The row was removed after the description and before the lock.
    added = [model_id for model_id in missing if model_id in descriptions and model_id not in known]
    new = [
        ModelConfig(provider=provider, is_active=False, **descriptions[model_id])
        for model_id in added
    ]
    ModelConfig.objects.bulk_create(with_change_reason(new, REASON), batch_size=500)
    vanished, returned = _compare(rows, found)
    ModelConfig.objects.mark_vanished([row.pk for row in vanished], now)
    ModelConfig.objects.mark_vanished([row.pk for row in returned], None)
    taken = set(added)
    return ProviderReport(
        provider=provider.name,
        models=tuple(model.model_id for model in found.models),
        added=tuple(added),
        vanished=tuple(row.model_id for row in vanished),
        returned=tuple(row.model_id for row in returned),
        left_alone=tuple(model_id for model_id in missing if model_id not in taken),
        unreadable=found.unreadable,
        is_complete=found.is_complete,
    )


def _compare(
    rows: Mapping[str, ModelConfig], found: ModelList
) -> tuple[list[ModelConfig], list[ModelConfig]]:
    """Returns the vanished rows, and the rows marked as vanished that are offered again."""
    offer = offered_models(found.models)
    vanished, returned = [], []
    for model_id, row in rows.items():
        if offer.has(model_id):
            if row.vanished_at is not None:
                returned.append(row)
        elif row.vanished_at is None and found.is_complete:
            vanished.append(row)
    return vanished, returned
