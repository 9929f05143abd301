"""The status of a router in plain values, without addresses and keys."""

from collections.abc import Mapping, Sequence
from typing import Any

from llm_routing.configuration.provider_problems import unused_key_notice
from llm_routing.configuration.snapshot import Snapshot
from llm_routing.core.attempts.advice import FORBIDDEN_ADDRESS, UNREACHABLE
from llm_routing.core.breaker import BreakerState, BreakerStatus
from llm_routing.core.ports import BreakerRegistry, CredentialStore
from llm_routing.core.routing_table import ModelSpec, ProviderSpec
from llm_routing.core.types import TargetKey
from llm_routing.vendors import VENDORS

from .credential_breakers import CredentialBreakers
from .target_health import Check, TargetHealth

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"


def health_status(
    snapshot: Snapshot,
    credentials: CredentialStore,
    target_health: TargetHealth,
    breakers: BreakerRegistry,
    credential_breakers: CredentialBreakers,
    records: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the status of a router, as docs/http.md describes it."""
    table = snapshot.table
    models: dict[str, list[ModelSpec]] = {name: [] for name in table.providers}
    for model in table.models.values():
        models[model.provider].append(model)
    statuses, out = breakers.statuses(), credential_breakers.statuses()
    providers = {
        name: _provider(
            spec,
            models[name],
            credentials.get(name) is not None,
            out.get(name),
            target_health,
            statuses,
            is_forbidden=name in snapshot.forbidden_addresses
            or target_health.is_address_forbidden(name, [row.model_id for row in models[name]]),
        )
        for name, spec in table.providers.items()
    }
    status = _together([entry["status"] for entry in providers.values()])
    is_recording = not records.get("trouble") and not records.get("unwritten")
    if status == HEALTHY and not (snapshot.is_confirmed and is_recording):
        status = DEGRADED
    return {
        "status": status,
        "configuration": {
            "version": table.version,
            "origin": snapshot.origin.value,
            "routes": len(table.routes),
            "models": len(table.models),
        },
        "notices": [unused_key_notice(*found) for found in snapshot.unused_keys.items()],
        "usage_records": dict(records) or None,
        "providers": providers,
    }


def breaker_counts(breakers: BreakerRegistry) -> dict[str, int]:
    """Returns the number of the process's breakers by state, for metrics."""
    statuses = breakers.statuses().values()
    return {
        "breakers_open": sum(status.state is BreakerState.OPEN for status in statuses),
        "breakers_half_open": sum(status.state is BreakerState.HALF_OPEN for status in statuses),
        "breaker_openings_total": sum(status.openings for status in statuses),
    }


def _provider(
    spec: ProviderSpec,
    models: Sequence[ModelSpec],
    has_credential: bool,
    out: BreakerStatus | None,
    target_health: TargetHealth,
    breakers: Mapping[TargetKey, BreakerStatus],
    *,
    is_forbidden: bool,
) -> dict[str, Any]:
    entries = {
        model.model_id: _model((spec.name, model.model_id), target_health, breakers)
        for model in models
    }
    check = target_health.check_of((spec.name, ""))
    if is_forbidden or not has_credential or (out is not None and out.state is BreakerState.OPEN):
        status = UNHEALTHY
    elif entries:
        status = _together([entry["status"] for entry in entries.values()])
    else:
        status = HEALTHY if check is None or check.is_healthy else UNHEALTHY
    if status == HEALTHY and out is not None:
        status = DEGRADED
    if is_forbidden:
        problem: str | None = FORBIDDEN_ADDRESS
    elif not has_credential:
        problem = _missing_key(spec)
    else:
        problem = _hint(spec, models, check, target_health, breakers)
    return {
        "status": status,
        "problem": problem,
        "vendor": spec.vendor,
        "has_credential": has_credential,
        "credential": _breaker(out),
        "availability": target_health.availability(spec.name),
        **_traffic([(spec.name, model.model_id) for model in models], check, target_health),
        "last_check": _check(check, target_health),
        "models": entries,
    }


def _missing_key(spec: ProviderSpec) -> str:
    variables = [spec.api_key_env] if spec.api_key_env else VENDORS[spec.vendor].api_key_envs
    return f"There is no key for it: set {' or '.join(variables)}, or store one in the admin."


def _hint(
    spec: ProviderSpec,
    models: Sequence[ModelSpec],
    check: Check | None,
    target_health: TargetHealth,
    breakers: Mapping[TargetKey, BreakerStatus],
) -> str | None:
    """Returns the provider's hint if the last check or the last calls could not connect to it."""
    ids = [model.model_id for model in models]
    codes = set(target_health.last_errors(spec.name, ids))
    codes.update(
        status.cause
        for model_id in ids
        if (status := breakers.get((spec.name, model_id)))
        and status.state is not BreakerState.CLOSED
    )
    if check is not None and not check.is_healthy:
        codes.add(check.error_code)
    return spec.quirks.unreachable_hint or None if codes & UNREACHABLE else None


def _model(
    key: TargetKey, target_health: TargetHealth, breakers: Mapping[TargetKey, BreakerStatus]
) -> dict[str, Any]:
    breaker = breakers.get(key)
    check = target_health.check_of(key)
    state = BreakerState.CLOSED if breaker is None else breaker.state
    if state is BreakerState.OPEN or f"{key[0]}/{key[1]}" in target_health.unhealthy:
        status = UNHEALTHY
    elif state is BreakerState.HALF_OPEN:
        status = DEGRADED
    else:
        status = HEALTHY
    return {
        "status": status,
        **_traffic([key], check, target_health),
        "last_check": _check(check, target_health),
        "breaker": _breaker(breaker),
    }


def _traffic(
    keys: Sequence[TargetKey], check: Check | None, target_health: TargetHealth
) -> dict[str, Any]:
    traffic = target_health.traffic(keys)
    latency = traffic.latency_ms
    if latency is None and check is not None and check.is_healthy:
        latency = check.latency_ms
    return {
        "calls": traffic.calls,
        "error_rate": round(traffic.failures / traffic.calls, 4) if traffic.calls else None,
        "latency_ms": None if latency is None else round(latency, 1),
    }


def _check(check: Check | None, target_health: TargetHealth) -> dict[str, Any] | None:
    if check is None:
        return None
    return {
        "is_healthy": check.is_healthy,
        "error_code": check.error_code or None,
        "kind": check.kind,
        "age_seconds": round(target_health.now() - check.at, 1),
    }


def _breaker(status: BreakerStatus | None) -> dict[str, Any]:
    if status is None:
        return {"state": BreakerState.CLOSED.value, "cause": None, "retry_after": None}
    is_closed = status.state is BreakerState.CLOSED
    return {
        "state": status.state.value,
        "cause": status.cause or None,
        "retry_after": None if is_closed else round(status.retry_after, 1),
    }


def _together(statuses: Sequence[str]) -> str:
    """Combines several statuses: unhealthy if nothing works, healthy if everything does."""
    if all(status == UNHEALTHY for status in statuses):
        return UNHEALTHY
    return HEALTHY if all(status == HEALTHY for status in statuses) else DEGRADED
