"""A snapshot of the built-in mappings: the catalogue and the environment, no database.

For programs that want a router before, or without, a configuration of their own.
"""

import os
from collections.abc import Mapping

from django.utils import timezone

from llm_routing.conf import get_settings
from llm_routing.core.ports import Credential
from llm_routing.core.routing_table import (
    ModelSpec,
    ProviderSpec,
    RouteSpec,
    RoutingTable,
    TargetSpec,
    route_key,
)
from llm_routing.vendors import VENDORS, Vendor

from .catalogue import MODELS, ROUTES
from .credentials import ProviderCredentials, build_credential, setting_values, vendor_key
from .prices import model_facts
from .provider_problems import forbidden_addresses
from .snapshot import Snapshot, SnapshotOrigin


def built_in_snapshot(overrides: Mapping[str, Credential]) -> Snapshot:
    """Returns the catalogue's routes over every vendor that has a key, in the environment or in
    `overrides` (credentials by vendor); over the sandbox if none has."""
    credentials = _credentials(overrides)
    providers = {name: _provider(VENDORS[name]) for name in credentials}
    models = _models(frozenset(providers))
    routes = {}
    for entry in ROUTES:
        keys = [key for key in entry.targets if key in models]
        keys += [key for key in entry.embeddings if key in models][:1]
        targets = tuple(TargetSpec(key, position) for position, key in enumerate(keys))
        routes[route_key(entry.use_case, entry.tier)] = RouteSpec(
            entry.use_case,
            entry.tier,
            targets,
            system_prompt=entry.system_prompt,
            allowed_fields=entry.allowed_fields,
        )
    table = RoutingTable(0, providers, models, routes)
    return Snapshot(
        table,
        ProviderCredentials(credentials),
        SnapshotOrigin.STATIC,
        forbidden_addresses=forbidden_addresses(table, get_settings()),
    )


def _credentials(overrides: Mapping[str, Credential]) -> dict[str, Credential]:
    values = setting_values(get_settings())
    found: dict[str, Credential] = {}
    for vendor in VENDORS.values():
        if vendor.is_local or vendor.is_sandbox:
            continue
        key = vendor_key(vendor, os.environ)
        credential = overrides.get(vendor.name) or build_credential(
            vendor, key.value, values, origin=key.origin
        )
        if credential is not None:
            found[vendor.name] = credential
    if not found:
        sandbox = VENDORS["sandbox"]
        key = vendor_key(sandbox, os.environ)
        credential = build_credential(sandbox, key.value, values, origin=key.origin)
        if credential is not None:
            found[sandbox.name] = credential
    return found


def _provider(vendor: Vendor) -> ProviderSpec:
    base_url = get_settings().provider_base_url(vendor)
    return ProviderSpec(
        name=vendor.name,
        vendor=vendor.name,
        format=vendor.format,
        base_url=base_url,
        quirks=vendor.quirks_at(base_url),
    )


def _models(providers: frozenset[str]) -> dict[str, ModelSpec]:
    today = timezone.now().date()
    models = {}
    for entry in MODELS:
        if entry.provider not in providers:
            continue
        price, context_window = None, None
        if entry.priced_as is not None:
            facts = model_facts(*entry.priced_as, on=today)
            context_window = facts.context_window
            price = facts.price if facts.price.is_known else None
        models[entry.key] = ModelSpec(
            provider=entry.provider,
            model_id=entry.model_id,
            alias=entry.model_id if entry.has_alias else "",
            display_name=entry.display_name,
            capabilities=entry.capabilities,
            context_window=context_window,
            max_output_tokens=entry.max_output_tokens,
            price=price,
            quirks=entry.quirks,
        )
    return models
