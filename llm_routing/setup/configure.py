"""Writes the first configuration, and keeps every change of an operator.

`configuration.catalogue` holds the data; the command shows the result.
"""

import os
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from django.db import transaction
from django.db.models import Model
from django.utils import timezone

from llm_routing.conf import get_settings
from llm_routing.configuration.catalogue import MODELS, ROUTES, CatalogueModel, CatalogueRoute
from llm_routing.configuration.credentials import find_key
from llm_routing.configuration.prices import FREE, model_facts, price_fields
from llm_routing.core.types import TargetKey
from llm_routing.models import ModelConfig, Provider, RouteTarget, UseCaseRoute
from llm_routing.models.databases import write_database
from llm_routing.models.provenance import (
    IMPORT,
    SET_UP,
    history_of,
    last_written_by,
    lock_configuration,
    save,
    with_change_reason,
)
from llm_routing.vendors import VENDORS, Vendor

from .report import Action, Change, Report
from .state import answers_for_real, provider_states, route_states, wanting, warnings

REASON = SET_UP


def configure(
    *,
    environ: Mapping[str, str] = os.environ,
    dry_run: bool = False,
    today: date | None = None,
) -> Report:
    """Creates missing rows that never existed, in one transaction, and reports the changes.

    The history of the configuration shows which changes were setup's own; no separate record is
    kept. A row whose newest change is an operator's is never written again. A row that was deleted
    or renamed is not created again. Routes are created complete, once: a newer catalogue with
    better models does not redirect running traffic.

    An untouched or imported provider is activated as soon as its key is found. None is ever
    deactivated because its key is missing, since the shell that runs setup may lack the server's
    environment. Prices and other facts of an untouched model follow the catalogue.

    The sandbox answers only while no other provider can: it is activated if no other provider has a
    key, deactivated (unless an operator touched it) once every route has a real target, and never
    activated again.

    `dry_run` rolls everything back. Concurrent runs wait for each other.
    """
    database = write_database(Provider)
    with transaction.atomic(using=database):
        lock_configuration()
        report = _SetUp(environ, today or timezone.now().date(), dry_run).run()
        if dry_run:
            transaction.set_rollback(True, using=database)
    return report


class _SetUp:
    """One run, inside its transaction."""

    def __init__(self, environ: Mapping[str, str], today: date, dry_run: bool) -> None:
        self._environ = environ
        self._today = today
        self._dry_run = dry_run
        self._changes: list[Change] = []
        self._is_sandbox_needless = False

    def run(self) -> Report:
        self._set_up_providers()
        self._set_up_models()
        self._set_up_routes()
        self._end_sandbox()
        return Report(
            changes=tuple(self._changes),
            providers=provider_states(self._environ),
            routes=route_states(),
            warnings=tuple(warnings(self._environ)),
            is_dry_run=self._dry_run,
        )

    def _note(self, kind: str, name: str, action: Action, reason: str = "") -> None:
        self._changes.append(Change(kind, name, action, reason))

    # Providers

    def _set_up_providers(self) -> None:
        present = {provider.name: provider for provider in Provider.objects.all()}
        known = set(history_of(Provider).values_list("name", flat=True))
        ours = last_written_by(Provider, {REASON})
        waiting = last_written_by(Provider, {REASON, IMPORT})
        new = []
        for vendor in VENDORS.values():
            if vendor.is_sandbox:
                continue
            provider = present.get(vendor.name)
            if provider is None:
                if vendor.name in known:
                    self._note("provider", vendor.name, Action.SKIPPED, "deleted or renamed")
                else:
                    new.append(self._new_provider(vendor))
        for provider in present.values():
            if provider.pk in waiting and not provider.is_active and not _is_sandbox(provider):
                self._activate(provider)
        Provider.objects.bulk_create(_with_reason(new))
        self._set_up_sandbox(present, known, ours)

    def _new_provider(self, vendor: Vendor) -> Provider:
        provider = Provider(name=vendor.name, vendor=vendor.name, notes=_NOTES.get(vendor.name, ""))
        key = find_key(provider, self._environ)
        provider.is_active = bool(key.value)
        if key.value:
            reason = f"key from {key.origin}"
        elif vendor.needs_key:
            reason = f"inactive: {wanting(vendor)}"
        else:
            reason = "inactive: activate it where it runs"
        self._note("provider", vendor.name, Action.CREATED, reason)
        return provider

    def _activate(self, provider: Provider) -> None:
        key = find_key(provider, self._environ)
        if not key.value:
            return
        provider.is_active = True
        _save(provider, "is_active")
        self._note("provider", provider.name, Action.ACTIVATED, f"key from {key.origin}")

    def _set_up_sandbox(
        self, present: Mapping[str, Provider], known: set[str], ours: set[Any]
    ) -> None:
        vendor = VENDORS["sandbox"]
        base_url = get_settings().provider_base_url(vendor)
        is_wanted = not any(
            answers_for_real(provider, self._environ) for provider in Provider.objects.active()
        )
        sandbox = present.get(vendor.name)
        if sandbox is None:
            if vendor.name in known:
                self._note("provider", vendor.name, Action.SKIPPED, "deleted or renamed")
                return
            sandbox = Provider(
                name=vendor.name,
                vendor=vendor.name,
                base_url=base_url,
                is_active=is_wanted,
                notes=_NOTES[vendor.name],
            )
            Provider.objects.bulk_create(_with_reason([sandbox]))
            reason = "answers until a provider has its key" if is_wanted else "inactive: not needed"
            self._note("provider", vendor.name, Action.CREATED, reason)
            return
        if sandbox.pk not in ours:
            return
        self._is_sandbox_needless = sandbox.is_active and not is_wanted
        if sandbox.base_url != base_url:
            sandbox.base_url = base_url
            _save(sandbox, "base_url")
            self._note("provider", sandbox.name, Action.UPDATED, "base_url")

    def _end_sandbox(self) -> None:
        """Switches the sandbox off where no route needs it any more."""
        if not self._is_sandbox_needless:
            return
        real = RouteTarget.objects.filter(
            model__is_active=True, model__provider__is_active=True
        ).exclude(model__provider__vendor="sandbox")
        if UseCaseRoute.objects.active().exclude(pk__in=real.values("route")).exists():
            return
        sandbox = Provider.objects.get(name="sandbox")
        sandbox.is_active = False
        _save(sandbox, "is_active")
        self._note("provider", sandbox.name, Action.DEACTIVATED, "every route has a real target")

    # Models

    def _set_up_models(self) -> None:
        providers = _catalogue_providers()
        rows = ModelConfig.objects.filter(provider__in=providers.values())
        present = {(row.provider_id, row.model_id): row for row in rows}
        # An alias must not hide a use case.
        taken = {
            *ModelConfig.objects.exclude(alias=None).values_list("alias", flat=True),
            *UseCaseRoute.objects.values_list("use_case", flat=True),
        }
        known = _known_models()
        ours = last_written_by(ModelConfig, {REASON})
        new = []
        for entry in MODELS:
            provider = providers.get(entry.provider)
            row = present.get((provider.pk, entry.model_id)) if provider else None
            if row is not None:
                if row.pk in ours:
                    self._refresh(row, entry)
            elif (entry.provider, entry.model_id) in known:
                self._note("model", entry.key, Action.SKIPPED, "deleted or renamed")
            elif provider is None:
                self._note("model", entry.key, Action.SKIPPED, "its provider is gone")
            else:
                alias = entry.model_id if entry.has_alias else None
                if alias in taken:
                    alias = None
                new.append(ModelConfig(provider=provider, alias=alias, **self._facts(entry)))
                self._note("model", entry.key, Action.CREATED)
        ModelConfig.objects.bulk_create(_with_reason(new))

    def _facts(self, entry: CatalogueModel) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "model_id": entry.model_id,
            "display_name": entry.display_name,
            "capabilities": sorted(entry.capabilities),
            "quirks": sorted(entry.quirks),
            "max_output_tokens": entry.max_output_tokens,
        }
        if entry.priced_as is None:
            return facts | price_fields(FREE)
        known = model_facts(*entry.priced_as, self._today)
        return facts | {
            "context_window": known.context_window,
            **price_fields(known.price),
        }

    def _refresh(self, row: ModelConfig, entry: CatalogueModel) -> None:
        # A price that another release of genai-prices does not know is no change.
        facts = {name: value for name, value in self._facts(entry).items() if value is not None}
        changed = [name for name, value in facts.items() if getattr(row, name) != value]
        if not changed:
            return
        for name in changed:
            setattr(row, name, facts[name])
        _save(row, *changed)
        self._note("model", entry.key, Action.UPDATED, ", ".join(changed))

    # Routes

    def _set_up_routes(self) -> None:
        present = set(UseCaseRoute.objects.values_list("use_case", "tier"))
        known = set(history_of(UseCaseRoute).values_list("use_case", "tier"))
        providers = _catalogue_providers()
        models = {
            f"{row.provider.name}/{row.model_id}": row
            for row in ModelConfig.objects.filter(provider__in=providers.values()).select_related(
                "provider"
            )
        }
        targets: list[RouteTarget] = []
        for entry in ROUTES:
            name = f"{entry.use_case}:{entry.tier}"
            if (entry.use_case, entry.tier) in present:
                continue
            if (entry.use_case, entry.tier) in known:
                self._note("route", name, Action.SKIPPED, "deleted or renamed")
                continue
            chain = _chain(entry, models)
            if not chain:
                self._note("route", name, Action.SKIPPED, "its models are gone")
                continue
            route = UseCaseRoute(
                use_case=entry.use_case,
                tier=entry.tier,
                system_prompt=entry.system_prompt,
                allowed_fields=sorted(entry.allowed_fields),
            )
            UseCaseRoute.objects.bulk_create(_with_reason([route]))
            targets += (
                RouteTarget(route=route, model=model, position=position)
                for position, model in enumerate(chain)
            )
            self._note("route", name, Action.CREATED)
        RouteTarget.objects.bulk_create(_with_reason(targets))


_NOTES = {
    "portkey": (
        "Models are named @integration/model; the integrations of the catalogue "
        "have the names that Portkey suggests. PORTKEY_CONFIG adds a config to "
        "every request."
    ),
    "ollama": "Activate it where Ollama runs, and add the installed models.",
    "vllm": "Activate it if you run such a server, and add its models.",
    "sandbox": "Generated answers for tests and for the first run: manage.py llm_sandbox.",
}


def _is_sandbox(provider: Provider) -> bool:
    vendor = VENDORS.get(provider.vendor)
    return vendor is not None and vendor.is_sandbox


def _catalogue_providers() -> dict[str, Provider]:
    """Returns the providers of the catalogue whose rows still have their catalogue names."""
    return {
        provider.name: provider
        for provider in Provider.objects.filter(name__in=VENDORS)
        if provider.vendor == provider.name
    }


def _known_models() -> set[TargetKey]:
    """Returns every model that ever existed, by identifier and by every name that its provider ever
    had."""
    names: dict[Any, set[str]] = {}
    for provider_id, name in history_of(Provider).order_by().values_list("id", "name").distinct():
        names.setdefault(provider_id, set()).add(name)
    models = history_of(ModelConfig).order_by().values_list("provider_id", "model_id").distinct()
    return {
        (name, model_id) for provider_id, model_id in models for name in names.get(provider_id, ())
    }


def _chain(entry: CatalogueRoute, models: Mapping[str, ModelConfig]) -> list[ModelConfig]:
    """Returns the existing targets for a new route. Embeddings get no fallback, because vectors of
    different models cannot be compared; sandbox models are used only if nothing else exists."""
    embeddings = [models[key] for key in entry.embeddings if key in models]
    sandbox = [model for model in embeddings if VENDORS[model.provider.vendor].is_sandbox]
    real = [model for model in embeddings if model not in sandbox]
    real.sort(key=lambda model: not model.provider.is_active)
    return [models[key] for key in entry.targets if key in models] + real[:1] + sandbox


def _with_reason(rows: Iterable[Any]) -> list[Any]:
    return with_change_reason(rows, REASON)


def _save(row: Model, *fields: str) -> None:
    save(row, *fields, reason=REASON)
