"""The configuration in memory: compiled from the database, swapped whole, last good one kept.

Requests read `SnapshotSource.current` and nothing else; `refresh` runs in the background thread
and after every commit that changed the configuration.
"""

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from django.core.cache import caches
from django.db import DatabaseError, InterfaceError

from .conf import get_settings
from .core.ports import CredentialStore
from .core.pricing import Price
from .core.routing_table import (
    ModelSpec,
    ProviderSpec,
    RouteSpec,
    RoutingTable,
    TargetSpec,
    route_key,
    table_from_json,
    table_to_json,
)
from .credentials import Credentials, load_credentials
from .models import ConfigurationVersion, ModelConfig, Provider, UseCaseRoute
from .vendors import VENDORS

logger = logging.getLogger(__name__)

DATABASE_ERRORS = (DatabaseError, InterfaceError)


class SnapshotOrigin(StrEnum):
    """Where a snapshot came from."""

    NOWHERE = "nowhere"
    STATIC = "static"
    FILE = "file"
    DATABASE = "database"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A routing table and the credentials that go with it."""

    table: RoutingTable
    credentials: CredentialStore
    origin: SnapshotOrigin


EMPTY = Snapshot(RoutingTable(version=-1), Credentials({}), SnapshotOrigin.NOWHERE)


class SnapshotSource:
    """The process's snapshot. `current` is swapped whole and may be read from any thread."""

    def __init__(self) -> None:
        self.current = EMPTY
        self._lock = threading.Lock()

    def refresh(self) -> bool:
        """Takes over what has changed in the database; True where anything had.

        Where the database is away or its content makes no snapshot, the current one stays; a
        process that has none yet starts from the file the last one left.
        """
        with self._lock:
            try:
                version = ConfigurationVersion.objects.current("routing")
                if self.current.origin is SnapshotOrigin.DATABASE and (
                    version == self.current.table.version
                ):
                    return False
                snapshot = compile_snapshot(version)
            except DATABASE_ERRORS as error:
                # The message of a database error may quote a query's values.
                logger.warning("The configuration cannot be read: %s", type(error).__name__)
                return self._fall_back()
            self.current = snapshot
            _save(snapshot.table)
            logger.info("Configuration version %d is in use.", version)
            return True

    def _fall_back(self) -> bool:
        if self.current.origin is not SnapshotOrigin.NOWHERE:
            return False
        table = _saved()
        if table is None:
            return False
        self.current = Snapshot(table, load_credentials(_providers_of(table)), SnapshotOrigin.FILE)
        logger.warning("Starting from the saved configuration, version %d.", table.version)
        return True


def compile_snapshot(version: int) -> Snapshot:
    """The active rows of the database as a snapshot. Raises `django.db.Error`."""
    providers = list(Provider.objects.active())
    cached = _cached(version)
    if cached is None:
        cached = compile_table(version, providers)
        _cache(cached)
    return Snapshot(cached, load_credentials(providers), SnapshotOrigin.DATABASE)


def compile_table(version: int, providers: list[Provider]) -> RoutingTable:
    """The routing table of the active rows. A row that makes no sense is logged and left out."""
    provider_specs = {
        provider.name: spec
        for provider in providers
        if (spec := _provider_spec(provider)) is not None
    }
    models = {
        f"{model.provider.name}/{model.model_id}": _model_spec(model)
        for model in ModelConfig.objects.active().select_related("provider")
        if model.provider.name in provider_specs
    }
    routes = {}
    for route in UseCaseRoute.objects.active().with_targets():
        targets = [
            TargetSpec(key, target.position, target.weight)
            for target in route.targets.all()
            if (key := f"{target.model.provider.name}/{target.model.model_id}") in models
        ]
        routes[route_key(route.use_case, route.tier)] = RouteSpec(
            use_case=route.use_case,
            tier=route.tier,
            targets=_without_sandbox(targets, models, provider_specs),
            system_prompt=route.system_prompt,
            temperature=route.temperature,
            max_tokens=route.max_tokens,
            cache_ttl=route.cache_ttl,
            deadline=route.deadline,
        )
    return RoutingTable(version, provider_specs, models, routes)


def _without_sandbox(
    targets: Sequence[TargetSpec],
    models: Mapping[str, ModelSpec],
    providers: Mapping[str, ProviderSpec],
) -> tuple[TargetSpec, ...]:
    """The targets; beside a real one, without those whose answers are made up."""
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
    return ProviderSpec(
        name=provider.name,
        vendor=vendor.name,
        format=vendor.format,
        base_url=(provider.base_url or vendor.base_url).rstrip("/"),
        api_key_env=provider.api_key_env,
        priority=provider.priority,
        connect_timeout=provider.connect_timeout,
        first_token_timeout=provider.first_token_timeout,
        idle_timeout=provider.idle_timeout,
        total_timeout=provider.total_timeout,
        max_connections=provider.max_connections,
        quirks=vendor.quirks,
    )


def _model_spec(model: ModelConfig) -> ModelSpec:
    price = None
    if model.input_price is not None and model.output_price is not None:
        price = Price(model.input_price, model.output_price, model.cached_input_price)
    return ModelSpec(
        provider=model.provider.name,
        model_id=model.model_id,
        alias=model.alias or "",
        display_name=model.display_name,
        capabilities=frozenset(model.capabilities),
        context_window=model.context_window,
        max_output_tokens=model.max_output_tokens,
        price=price,
    )


def _providers_of(table: RoutingTable) -> list[Provider]:
    """Rows as far as a table remembers them: without keys that are stored in the database."""
    return [
        Provider(
            name=spec.name,
            vendor=spec.vendor,
            base_url=spec.base_url,
            api_key_env=spec.api_key_env,
        )
        for spec in table.providers.values()
    ]


def _cache_key(version: int) -> str:
    return f"llm_routing:table:{version}"


def _cached(version: int) -> RoutingTable | None:
    alias = get_settings().snapshot_cache_alias
    if not alias:
        return None
    try:
        text = caches[alias].get(_cache_key(version))
        return None if text is None else table_from_json(text)
    except Exception as error:  # noqa: BLE001  # any cache, any fault: the database has the answer
        logger.warning("The cached configuration cannot be read: %s", type(error).__name__)
        return None


def _cache(table: RoutingTable) -> None:
    alias = get_settings().snapshot_cache_alias
    if not alias:
        return
    try:
        caches[alias].set(_cache_key(table.version), table_to_json(table).decode(), 3600)
    except Exception as error:  # noqa: BLE001  # as in `_cached`
        logger.warning("The configuration cannot be cached: %s", type(error).__name__)


def _path() -> Path:
    return get_settings().state_dir / "routing_table.json"


def _save(table: RoutingTable) -> None:
    path = _path()
    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_bytes(table_to_json(table))
        temporary.replace(path)
    except OSError as error:
        logger.warning("The configuration cannot be saved to a file: %s", error.strerror)


def _saved() -> RoutingTable | None:
    try:
        return table_from_json(_path().read_bytes())
    except (OSError, ValueError):
        return None


source = SnapshotSource()
