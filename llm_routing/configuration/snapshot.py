"""The configuration in memory: compiled from the database, swapped whole, last good one kept.

Where the database is away at the start, it comes from what the shared cache or a file still has.

Requests read `SnapshotSource.current` and nothing else; `refresh` runs in the background thread
and after every commit that changed the configuration.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from django.core.cache import caches
from django.db import DatabaseError, InterfaceError

from llm_routing.conf import get_settings
from llm_routing.core.ports import CredentialStore
from llm_routing.core.pricing import Price
from llm_routing.core.routing_table import (
    ModelSpec,
    ProviderSpec,
    RouteSpec,
    RoutingTable,
    StreamRecovery,
    TargetSpec,
    route_key,
    table_from_json,
    table_to_json,
)
from llm_routing.crypto.at_rest import Purpose, encryption_keys
from llm_routing.crypto.in_transit import Sealing
from llm_routing.models import (
    ConfigurationVersion,
    ModelConfig,
    Provider,
    RouteTarget,
    UseCaseRoute,
)
from llm_routing.system.private_files import private_directory, write_private
from llm_routing.vendors import VENDORS

from .credentials import Credentials, load_credentials

logger = logging.getLogger(__name__)

DATABASE_ERRORS = (DatabaseError, InterfaceError)
CACHE_SECONDS = 3600
LATEST = "llm_routing:table:latest"


class SnapshotOrigin(StrEnum):
    """Where a snapshot came from."""

    NOWHERE = "nowhere"
    STATIC = "static"
    CACHE = "cache"
    FILE = "file"
    DATABASE = "database"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A routing table and the credentials that go with it. Not `is_confirmed` is one that the
    database, when it was last asked, did not answer for."""

    table: RoutingTable
    credentials: CredentialStore
    origin: SnapshotOrigin
    is_confirmed: bool = True


EMPTY_SNAPSHOT = Snapshot(RoutingTable(version=-1), Credentials({}), SnapshotOrigin.NOWHERE)

_MODEL: Final = (
    "provider__name",
    "model_id",
    "alias",
    "display_name",
    "capabilities",
    "context_window",
    "max_output_tokens",
    "input_price",
    "output_price",
    "cached_input_price",
    "cache_write_price",
    "cache_write_1h_price",
    "web_search_price",
)
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
    "asks_when_all_open",
    "allowed_fields",
)


class SnapshotSource:
    """The process's snapshot. `current` is swapped whole and may be read from any thread."""

    def __init__(self) -> None:
        self.current = EMPTY_SNAPSHOT
        self._lock = threading.Lock()

    def refresh(self, *, last_resort: Callable[[], Snapshot] | None = None) -> bool:
        """Takes over what has changed in the database; True where anything had.

        Where the database is away or its content makes no snapshot, the current one stays; a
        process that has none yet starts from what other processes left in the shared cache or in
        the file, else from `last_resort`.
        """
        with self._lock:
            try:
                version, stamp = ConfigurationVersion.objects.stamped("routing")
                current = self.current
                if current.origin is SnapshotOrigin.DATABASE and (
                    (version, stamp) == (current.table.version, current.table.stamp)
                ):
                    if not current.is_confirmed:
                        self.current = replace(current, is_confirmed=True)
                    return False
                snapshot = compile_snapshot(version, stamp)
            except DATABASE_ERRORS as error:
                # The message of a database error may quote a query's values.
                logger.warning("The configuration cannot be read: %s", type(error).__name__)
                self._fall_back(last_resort)
                return False
            snapshot.table.index()
            self.current = snapshot
            _keep_latest(snapshot.table)
            _save(snapshot.table)
            logger.info("Configuration version %d is in use.", version)
            return True

    def mark_unconfirmed(self) -> None:
        """The database is away, as `refresh` would find: the snapshot stays, not confirmed."""
        with self._lock:
            self._fall_back(None)

    def _fall_back(self, last_resort: Callable[[], Snapshot] | None) -> None:
        if self.current.origin is not SnapshotOrigin.NOWHERE:
            if self.current.is_confirmed:
                self.current = replace(self.current, is_confirmed=False)
            return
        found = _last_known()
        if found is not None:
            origin, table = found
            table.index()
            credentials = load_credentials(_providers_of(table))
            self.current = Snapshot(table, credentials, origin, is_confirmed=False)
        elif last_resort is not None:
            self.current = replace(last_resort(), is_confirmed=False)
        else:
            return
        logger.warning(
            "Starting without the database, from the %s configuration, version %d.",
            self.current.origin.value,
            self.current.table.version,
        )


def compile_snapshot(version: int, stamp: str) -> Snapshot:
    """The active rows of the database as a snapshot. Raises `django.db.Error`."""
    providers = list(Provider.objects.active())
    key = _cache_key(version, stamp)
    cached = _cached(key)
    if cached is not None and (cached.version, cached.stamp) != (version, stamp):
        logger.warning("The cached configuration is not of version %d and is not used.", version)
        cached = None
    if cached is None:
        cached = replace(compile_table(version, providers), stamp=stamp)
        _cache(key, cached, CACHE_SECONDS)
    return Snapshot(cached, load_credentials(providers), SnapshotOrigin.DATABASE)


def compile_table(version: int, providers: list[Provider]) -> RoutingTable:
    """The routing table of the active rows. A row that makes no sense is logged and left out."""
    provider_specs = {
        provider.name: spec
        for provider in providers
        if (spec := _provider_spec(provider)) is not None
    }
    # Rows and no instances of models: twenty thousand routes are a hundred thousand of those, which
    # would keep the event loop from its work for seconds.
    models = {
        spec.key: spec
        for row in ModelConfig.objects.active().values_list(*_MODEL, named=True)
        if row.provider__name in provider_specs
        for spec in [_model_spec(row)]
    }
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
            asks_when_all_open=route.asks_when_all_open,
            allowed_fields=frozenset(route.allowed_fields),
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
    base_url = (provider.base_url or vendor.base_url).rstrip("/")
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


def _cache_key(version: int, stamp: str) -> str:
    return f"llm_routing:table:{version}:{stamp}"


def _last_known() -> tuple[SnapshotOrigin, RoutingTable] | None:
    """The table to start from without the database. The shared cache may be newer than the file of
    this machine; when it is older, somebody has put an old entry back, and the file counts."""
    cached, saved = _cached(LATEST), _saved()
    if cached is not None and (saved is None or cached.version >= saved.version):
        return SnapshotOrigin.CACHE, cached
    return None if saved is None else (SnapshotOrigin.FILE, saved)


def _keep_latest(table: RoutingTable) -> None:
    # For as long as the cache can: how long the database will be away nobody knows.
    _cache(LATEST, table, None)


def _table_of(data: bytes | str) -> RoutingTable:
    """The table that was kept, with what vendors take as this release knows it: another release may
    have written it. Raises `ValueError`."""
    table = table_from_json(data)
    providers = {
        name: replace(spec, quirks=VENDORS[spec.vendor].quirks) if spec.vendor in VENDORS else spec
        for name, spec in table.providers.items()
    }
    return replace(table, providers=providers)


def _cached(key: str) -> RoutingTable | None:
    alias = get_settings().snapshot_cache_alias
    if not alias:
        return None
    try:
        cache = caches[alias]
        token = cache.get(key)
        if token is None:
            return None
        return _table_of(_sealing().decrypt(token, cache.make_key(key)))
    except Exception as error:  # noqa: BLE001  # any cache, any fault: there are other places
        logger.warning("The cached configuration cannot be read: %s", type(error).__name__)
        return None


def _cache(key: str, table: RoutingTable, seconds: int | None) -> None:
    alias = get_settings().snapshot_cache_alias
    if not alias:
        return
    try:
        # Sealed, and bound to its name: whoever else can write to the cache must not decide where
        # our keys are sent, nor bring back a table of the past.
        cache = caches[alias]
        text = table_to_json(table).decode()
        cache.set(key, _sealing().encrypt(text, cache.make_key(key)), seconds)
    except Exception as error:  # noqa: BLE001  # as in `_cached`
        logger.warning("The configuration cannot be cached: %s", type(error).__name__)


def _sealing() -> Sealing:
    return Sealing(encryption_keys(Purpose.ROUTING_TABLE))


def _path() -> Path:
    return get_settings().state_dir / "routing_table.json"


def _save(table: RoutingTable) -> None:
    path = _path()
    try:
        private_directory(path.parent)
        write_private(path, table_to_json(table))
    except OSError as error:
        logger.warning("The configuration cannot be saved to a file: %s", error.strerror)


def _saved() -> RoutingTable | None:
    try:
        return _table_of(_path().read_bytes())
    except (OSError, ValueError):
        return None


source = SnapshotSource()
