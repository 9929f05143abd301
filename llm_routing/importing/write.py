"""Writes a plan beside the rows of operators, in one transaction.

The readers make the plan; `write_providers` writes its providers.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from llm_routing.core.types import ModelTier
from llm_routing.discovery.describe import describe
from llm_routing.discovery.lists import ListedModel
from llm_routing.models import ModelConfig, Provider, RouteTarget, UseCaseRoute
from llm_routing.models.databases import write_database
from llm_routing.models.provenance import (
    last_written_by,
    lock_configuration,
    save,
    with_change_reason,
)
from llm_routing.models.use_cases import is_use_case
from llm_routing.setup.report import Action

from .outcome import Outcome
from .plan import Plan, PlannedModel, PlannedRoute, PlannedTarget
from .report import MigrationReport
from .rows import (
    OURS,
    REASON,
    TargetToWrite,
    embeddings_beside,
    path_of,
    removed_since,
    routes_with_touched_targets,
)
from .text import use_case_name
from .write_providers import ProviderWriter

_ROUTE_FIELDS: Final = (
    "system_prompt", "temperature", "max_tokens", "cache_ttl", "deadline", "is_active",
)  # fmt: skip
_PRICES: Final = (
    "input_price", "output_price", "cached_input_price", "cache_write_price",
    "cache_write_1h_price",
)  # fmt: skip


def migrate(
    plan: Plan,
    *,
    environ: Mapping[str, str],
    store_keys: bool = False,
    dry_run: bool = False,
    today: date | None = None,
) -> MigrationReport:
    """Makes the configuration match the plan, except where an operator has changed it.

    A row whose newest change in the history is by a program (setup, discovery, an earlier import)
    may be written. Any other row is an operator's and stays; if it differs, it is a conflict. So is
    a row that an import created and somebody removed. A second run of the same file changes
    nothing.

    A provider is active if its key is found in `environ`, or if it needs none. `store_keys`
    encrypts keys from the file into their providers' rows. `dry_run` rolls everything back.
    """
    database = write_database(Provider)
    with transaction.atomic(using=database):
        lock_configuration()
        report = _Migration(plan, environ, store_keys, today or timezone.now().date()).run(dry_run)
        if dry_run:
            transaction.set_rollback(True, using=database)
    return report


class _Migration:
    """One run, inside its transaction."""

    def __init__(
        self, plan: Plan, environ: Mapping[str, str], store_keys: bool, today: date
    ) -> None:
        self._plan = plan
        self._environ = environ
        self._store_keys = store_keys
        self._today = today
        self._outcome = Outcome()
        self._routes = list(plan.routes)

    def run(self, dry_run: bool) -> MigrationReport:
        writer = ProviderWriter(
            self._outcome, self._environ, store_keys=self._store_keys, source=self._plan.source
        )
        providers = writer.write(self._plan.providers)
        models = self._write_models(providers)
        self._write_routes(models)
        return self._outcome.report(self._plan, is_dry_run=dry_run)

    def _write_models(self, providers: Mapping[str, Provider]) -> dict[str, ModelConfig]:
        """Writes the plan's models. Returns their rows by the plan's keys."""
        rows = ModelConfig.objects.filter(provider__in=providers.values()).select_related(
            "provider"
        )
        present = {(row.provider_id, row.model_id): row for row in rows}
        ours = last_written_by(ModelConfig, OURS)
        removed = removed_since(ModelConfig, lambda entry: (entry.provider_id, entry.model_id))
        found = {}
        for planned in self._plan.models:
            provider = providers.get(planned.provider)
            if provider is None:
                self._outcome.conflict("model", planned.key, "its provider could not be written")
                continue
            row = present.get((provider.pk, planned.model_id))
            if row is None:
                if (provider.pk, planned.model_id) in removed:
                    self._outcome.conflict(
                        "model", planned.key, "it was removed after an earlier import"
                    )
                    continue
                row = self._new_model(planned, provider)
                if row is None:
                    continue
            else:
                self._adjust_model(row, planned, row.pk in ours)
            found[planned.key] = row
        return found

    def _new_model(self, planned: PlannedModel, provider: Provider) -> ModelConfig | None:
        """Returns a model with the file's facts, completed with known facts."""
        listed = ListedModel(
            planned.model_id,
            capabilities=planned.capabilities,
            context_window=planned.context_window,
            max_output_tokens=planned.max_output_tokens,
        )
        facts = describe(provider.vendor, listed, self._today)
        said = {name: getattr(planned, name) for name in _PRICES}
        if any(price is not None for price in said.values()):
            facts |= said
        row = ModelConfig(provider=provider, **facts)
        if not self._outcome.is_valid("model", planned.key, row):
            return None
        self._give_alias(row, planned, is_ours=True)
        ModelConfig.objects.bulk_create(with_change_reason([row], REASON))
        self._outcome.change(
            "model", planned.key, Action.CREATED, f"alias {row.alias}" if row.alias else ""
        )
        return row

    def _adjust_model(self, row: ModelConfig, planned: PlannedModel, is_ours: bool) -> None:
        changed = ["alias"] if self._give_alias(row, planned, is_ours=is_ours) else []
        for name in _PRICES:
            wanted = getattr(planned, name)
            if wanted is not None and getattr(row, name) != wanted:
                self._outcome.conflict(
                    "model", planned.key, f"its {name} differs from the file's; it stays"
                )
        if not row.is_active:
            if is_ours:
                row.is_active = True
                changed.append("is_active")
            else:
                self._outcome.note(
                    "model", planned.key, "it is inactive: an operator deactivated it"
                )
        if changed:
            save(row, *changed, reason=REASON)
            self._outcome.change("model", planned.key, Action.UPDATED, ", ".join(changed))
        else:
            self._outcome.unchanged += 1

    def _give_alias(self, row: ModelConfig, planned: PlannedModel, *, is_ours: bool) -> bool:
        """Gives the row the planned alias. Returns whether it was not set before. If the model has
        another alias, or a use case has this name, a route of that name leads to the model
        instead."""
        alias = planned.alias
        if not alias or row.alias == alias:
            return False
        if (row.alias or is_use_case(alias)) and use_case_name(alias) == alias:
            target = PlannedTarget(planned.key)
            self._routes.append(PlannedRoute(alias, ModelTier.STANDARD.value, (target,)))
        elif row.alias or not is_ours:
            reason = "an operator removed its alias" if row.alias else "an operator gave it none"
            self._outcome.conflict("alias", alias, f"{planned.key} stays unchanged: {reason}")
        else:
            row.alias = alias
            if self._outcome.is_valid("alias", alias, row):
                return True
            row.alias = None
        return False

    # Routes

    def _write_routes(self, models: Mapping[str, ModelConfig]) -> None:
        present = {
            (row.use_case, row.tier): row for row in UseCaseRoute.objects.all().with_targets()
        }
        ours = last_written_by(UseCaseRoute, OURS)
        touched = routes_with_touched_targets()
        removed = removed_since(UseCaseRoute, lambda entry: (entry.use_case, entry.tier))
        for planned in self._routes:
            wanted = [
                (models[target.model], target.position, target.weight)
                for target in planned.targets
                if target.model in models
            ]
            row = present.get((planned.use_case, planned.tier))
            if not wanted:
                self._outcome.conflict("route", planned.name, "none of its models could be written")
            elif row is None:
                if (planned.use_case, planned.tier) in removed:
                    self._outcome.conflict(
                        "route", planned.name, "it was removed after an earlier import"
                    )
                else:
                    self._new_route(planned, wanted)
            else:
                self._adjust_route(row, planned, wanted, row.pk in ours and row.pk not in touched)

    def _new_route(self, planned: PlannedRoute, wanted: list[TargetToWrite]) -> None:
        self._free_name(planned)
        row = UseCaseRoute(use_case=planned.use_case, tier=planned.tier, **_values(planned))
        if not self._outcome.is_valid("route", planned.name, row):
            return
        UseCaseRoute.objects.bulk_create(with_change_reason([row], REASON))
        self._add_targets(row, wanted)
        self._outcome.change("route", planned.name, Action.CREATED, path_of(wanted))

    def _free_name(self, planned: PlannedRoute) -> None:
        """Removes the route's name from a model that has it as a program's alias: setup uses
        identifiers of well-known models as aliases, and the route takes precedence for callers."""
        holder = ModelConfig.objects.filter(
            alias=planned.use_case, pk__in=last_written_by(ModelConfig, OURS)
        ).first()
        if holder is not None:
            holder.alias = None
            save(holder, "alias", reason=REASON)
            reason = f"its alias {planned.use_case} is now the name of a route"
            self._outcome.change("model", holder.address, Action.UPDATED, reason)

    def _adjust_route(
        self,
        row: UseCaseRoute,
        planned: PlannedRoute,
        wanted: list[TargetToWrite],
        is_ours: bool,
    ) -> None:
        present = {target.model_id: target for target in row.targets.all()}
        wanted = wanted + embeddings_beside(wanted, list(present.values()))
        values = _values(planned)
        changed = [name for name, value in values.items() if getattr(row, name) != value]
        targets_differ = {(t.model_id, t.position, t.weight) for t in present.values()} != {
            (model.pk, position, weight) for model, position, weight in wanted
        }
        if not changed and not targets_differ:
            self._outcome.unchanged += 1
            return
        if not is_ours:
            what = [*changed, "targets"] if targets_differ else changed
            self._outcome.conflict(
                "route", planned.name, f"an operator set other {', '.join(what)}"
            )
            return
        if changed:
            for name in changed:
                setattr(row, name, values[name])
            if not self._outcome.is_valid("route", planned.name, row):
                return
            save(row, *changed, reason=REASON)
        if targets_differ:
            for target in with_change_reason(present.values(), REASON):
                target.delete()
            self._add_targets(row, wanted)
        self._outcome.change("route", planned.name, Action.UPDATED, path_of(wanted))

    def _add_targets(self, row: UseCaseRoute, wanted: list[TargetToWrite]) -> None:
        targets = [
            RouteTarget(route=row, model=model, position=position, weight=weight)
            for model, position, weight in wanted
        ]
        RouteTarget.objects.bulk_create(with_change_reason(targets, REASON))


def _values(planned: PlannedRoute) -> dict[str, Any]:
    return {name: getattr(planned, name) for name in _ROUTE_FIELDS}
