"""Compiles the active rows of the database into a routing table."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from llm_routing.conf import get_settings
from llm_routing.core.pricing import Price
from llm_routing.core.routing_table import (
    Inactive,
    ModelSpec,
    ProviderSpec,
    RouteSpec,
    RoutingTable,
    StreamRecovery,
    TargetSpec,
    route_key,
)
from llm_routing.models import ModelConfig, Provider, RouteTarget, UseCaseRoute
from llm_routing.vendors import VENDORS

logger = logging.getLogger(__name__)

_MODEL: Final = (
    "provider__name",
    "model_id",
    "alias",
    "display_name",
    "capabilities",
    "quirks",
    "context_window",
    "max_output_tokens",
    "input_price",
    "output_price",
    "cached_input_price",
    "cache_write_price",
    "cache_write_1h_price",
    "web_search_price",
)
_STATE: Final = ("is_active", "provider__is_active")
_TARGET: Final = ("route_id", "model__provider__name", "model__model_id", "position", "weight")
_ROUTE: Final = (
    "pk",
    "use_case",
    "tier",
    "system_prompt",
    "temperature",
    "max_tokens",
    "cache_ttl",
    "deadline",
    "connect_timeout",
    "first_token_timeout",
    "idle_timeout",
    "stream_recovery",
    "is_hedged",
    "probes_when_all_open",
    "allowed_fields",
)


def compile_table(version: int, providers: list[Provider]) -> RoutingTable:
    """Returns the routing table of the active rows. Invalid rows are logged and left out. Raises
    `django.db.Error`."""
    provider_specs = {
        provider.name: spec
        for provider in providers
        if (spec := _provider_spec(provider)) is not None
    }
    # Named tuples instead of model instances: with twenty thousand routes the instances would hold
    # the interpreter's lock, and so the event loop, for seconds.
    models: dict[str, ModelSpec] = {}
    inactive_models: dict[str, Inactive] = {}
    inactive_aliases: dict[str, str] = {}
    for row in ModelConfig.objects.values_list(*_MODEL, *_STATE, named=True):
        reason = _inactive_reason(row, provider_specs)
        if reason is None:
            model = _model_spec(row)
            models[model.key] = model
        else:
            key = f"{row.provider__name}/{row.model_id}"
            inactive_models[key] = reason
            if row.alias:
                inactive_aliases[row.alias] = key
    targets_of: dict[Any, list[TargetSpec]] = {}
    for target in RouteTarget.objects.values_list(*_TARGET, named=True):
        if (key := f"{target.model__provider__name}/{target.model__model_id}") in models:
            spec_of_target = TargetSpec(key, target.position, target.weight)
            targets_of.setdefault(target.route_id, []).append(spec_of_target)
    routes = {}
    for route in UseCaseRoute.objects.active().values_list(*_ROUTE, named=True):
        targets = targets_of.get(route.pk, [])
        routes[route_key(route.use_case, route.tier)] = RouteSpec(
            use_case=route.use_case,
            tier=route.tier,
            targets=_without_sandbox(targets, models, provider_specs),
            system_prompt=route.system_prompt,
            temperature=route.temperature,
            max_tokens=route.max_tokens,
            cache_ttl=route.cache_ttl,
            deadline=route.deadline,
            connect_timeout=route.connect_timeout,
            first_token_timeout=route.first_token_timeout,
            idle_timeout=route.idle_timeout,
            stream_recovery=StreamRecovery(route.stream_recovery),
            is_hedged=route.is_hedged,
            probes_when_all_open=route.probes_when_all_open,
            allowed_fields=frozenset(route.allowed_fields),
        )
    all_use_cases = UseCaseRoute.objects.values_list("use_case", flat=True).distinct()
    return RoutingTable(
        version,
        provider_specs,
        models,
        routes,
        inactive_models=inactive_models,
        inactive_aliases=inactive_aliases,
        inactive_use_cases=frozenset(all_use_cases) - {route.use_case for route in routes.values()},
    )


def _inactive_reason(row: Any, providers: Mapping[str, ProviderSpec]) -> Inactive | None:
    if not row.provider__is_active:
        return Inactive.PROVIDER
    if not row.is_active:
        return Inactive.MODEL
    return None if row.provider__name in providers else Inactive.VENDOR


def _without_sandbox(
    targets: Sequence[TargetSpec],
    models: Mapping[str, ModelSpec],
    providers: Mapping[str, ProviderSpec],
) -> tuple[TargetSpec, ...]:
    """Returns the targets without the sandbox's, unless there are no others."""
    real = tuple(
        target
        for target in targets
        if not VENDORS[providers[models[target.model].provider].vendor].is_sandbox
    )
    return real or tuple(targets)


def _provider_spec(provider: Provider) -> ProviderSpec | None:
    vendor = VENDORS.get(provider.vendor)
    if vendor is None:
        logger.error("Provider %s has an unknown vendor and is left out.", provider.name)
        return None
    base_url = get_settings().provider_base_url(vendor, provider.base_url)
    return ProviderSpec(
        name=provider.name,
        vendor=vendor.name,
        format=vendor.format,
        base_url=base_url,
        api_key_env=provider.api_key_env,
        priority=provider.priority,
        connect_timeout=provider.connect_timeout,
        first_token_timeout=provider.first_token_timeout,
        idle_timeout=provider.idle_timeout,
        total_timeout=provider.total_timeout,
        max_connections=provider.max_connections,
        quirks=vendor.quirks_at(base_url),
    )


def _model_spec(model: Any) -> ModelSpec:
    price = Price(
        input=model.input_price,
        output=model.output_price,
        cached_input=model.cached_input_price,
        cache_write=model.cache_write_price,
        cache_write_1h=model.cache_write_1h_price,
        web_search=model.web_search_price,
    )
    return ModelSpec(
        provider=model.provider__name,
        model_id=model.model_id,
        alias=model.alias or "",
        display_name=model.display_name,
        capabilities=frozenset(model.capabilities),
        context_window=model.context_window,
        max_output_tokens=model.max_output_tokens,
        price=price if price.is_known else None,
        quirks=frozenset(model.quirks),
    )
