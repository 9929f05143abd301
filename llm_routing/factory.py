"""The composition root: builds the routers of the process and closes them.

With `composition` the only code that sees Django, the network and the core together.
"""

import threading
from asyncio import get_running_loop
from collections.abc import Collection, Mapping
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from .backends.clock import SystemClock
from .composition.answer_caches import build_answer_caches
from .composition.breakers import build_breakers
from .composition.credentials import credentials_of_config
from .composition.gauges import read_gauges
from .composition.redis_clients import redis_clients
from .composition.transport import build_transport
from .conf import Settings, get_settings
from .configuration.built_in import built_in_snapshot
from .configuration.snapshot import CurrentCredentials, FixedSnapshot, SnapshotReader
from .configuration.source import snapshot_source
from .core.config import RouterConfig
from .core.ports import BreakerRegistry, Clock, Credential
from .crypto.at_rest import derived_key
from .discovery import DiscoveryReport, discover
from .health.monitor import health_monitor
from .health.sweep import Network, NoLedger, Selection, SweepReport, sweep
from .health.sweeper import ensure_sweeper
from .metrics import NoMetrics
from .models.databases import DATABASE_ERRORS
from .process.admission import admission
from .process.background import ensure_background
from .process.state import process_state, stop_threads
from .router import BaseLLMRouter, DynamicLLMRouter, StaticLLMRouter
from .router.parts import RouterParts
from .router.pending import PendingRouter
from .system.forks import Stage, forks
from .system.loops import require_no_event_loop

if TYPE_CHECKING:
    from .metrics.exposition import Exposition

_DEFAULT = RouterConfig()
_SETTINGS_OF_CONFIG = (
    "connection_pool_size",
    "cache_ttl",
    "cache_max_size",
    "cache_memory_limit_mb",
    "enable_monitoring",
    "health_check_interval",
)
_CACHE_KEYS = b"llm_routing keys of the response cache"

_lock = threading.Lock()
_routers: dict[tuple[bool, RouterConfig], BaseLLMRouter] = {}
_inherited: list[object] = []
_default_router: list[BaseLLMRouter] = []
"""The router without arguments, if it is built. Looking it up in `_routers` would hash a whole
`RouterConfig` for each request."""


def get_llm_router(dynamic: bool = True, config: RouterConfig | None = None) -> PendingRouter:
    """Returns, when awaited, the process's router for this configuration; the first call builds it.

    A dynamic router works from the models that operators edit, a static one from built-in mappings.
    It serves every event loop. Raises `ImproperlyConfigured` for invalid settings.
    """
    return PendingRouter(lambda: _get((dynamic, config or _DEFAULT)))


def get_llm_router_sync(dynamic: bool = True, config: RouterConfig | None = None) -> BaseLLMRouter:
    """`get_llm_router` for synchronous code, for `complete_sync`. Raises `RuntimeError` in a thread
    that runs an event loop."""
    require_no_event_loop()
    key = (dynamic, config or _DEFAULT)
    router = _routers.get(key)
    if router is None:
        _prepare(dynamic)
        router = _get_or_build(key)
    return router


def default_router_if_built() -> BaseLLMRouter | None:
    """Returns the router that `await get_llm_router()` returns, if it is built already."""
    return _default_router[0] if _default_router else None


async def _get(key: tuple[bool, RouterConfig]) -> BaseLLMRouter:
    router = _routers.get(key)
    if router is None:
        await sync_to_async(_prepare)(key[0])
        router = _get_or_build(key)
    return router


def _get_or_build(key: tuple[bool, RouterConfig]) -> BaseLLMRouter:
    with _lock:
        router = _routers.get(key)
        if router is None:
            router = _routers[key] = _build(*key)
            if key == (True, _DEFAULT):
                _default_router[:] = (router,)
        return router


async def close_routers() -> None:
    """Closes every router of the process, ships the ledger and stops the background threads."""
    for router in list(_routers.values()):
        await router.close()
    if health_monitor.breakers is not None:
        await health_monitor.breakers.aclose()
    # Last, because closing the others may have opened a connection again.
    await redis_clients.aclose()
    await get_running_loop().run_in_executor(None, stop_threads)
    process_state.close()


async def get_exposition() -> "Exposition":
    """Returns the metrics of this process and of those that share its state directory."""
    await get_llm_router()
    from .metrics.exposition import Exposition

    return Exposition(ensure_background().metrics)


async def discover_models(
    providers: Collection[str] = (), *, dry_run: bool = False
) -> DiscoveryReport:
    """Runs `discovery.discover` over connections of its own, for commands and the admin. Raises
    `UnknownProvider`, `django.db.Error`."""
    transport = build_transport(get_settings())
    try:
        return await discover(transport, providers, dry_run=dry_run)
    finally:
        await transport.aclose()


def sweep_health(
    selection: Selection,
    *,
    max_wait: float = 0.0,
    interval: float | None = None,
    stopping: threading.Event | None = None,
    overrides: Mapping[str, Credential] | None = None,
) -> SweepReport | None:
    """Runs `health.sweep.sweep` over connections of its own, for commands, the admin and the
    server's own thread. Blocks: not for the thread of an event loop. Raises what `sweep` raises."""
    settings = get_settings()
    network = Network(
        transport=lambda: build_transport(settings),
        # Only completions are accounted, and only they need the thread that ships the ledger.
        sink=ensure_background().ledger if selection.deep else NoLedger(),
        clock=SystemClock(),
        overrides=overrides or {},
    )
    return sweep(
        selection, network, settings, max_wait=max_wait, interval=interval, stopping=stopping
    )


def _prepare(dynamic: bool) -> None:
    """Starts the background thread and loads the configuration. Blocks."""
    background = ensure_background()
    if not dynamic:
        return
    background.known_keys.load()
    try:
        snapshot_source.refresh(last_resort=lambda: built_in_snapshot({}))
        # Before keys are learned, so that the thread's first look finds no change.
        with suppress(*DATABASE_ERRORS):
            background.read_versions()
    finally:
        # No request will end in this thread and release its connection.
        close_old_connections()


def _build(dynamic: bool, config: RouterConfig) -> BaseLLMRouter:
    settings = _settings_with(config)
    overrides = credentials_of_config(config, settings)
    if not dynamic:
        snapshots = FixedSnapshot(built_in_snapshot(overrides))
        return StaticLLMRouter(_build_parts(config, settings, snapshots, {}))
    parts = _build_parts(config, settings, snapshot_source, overrides)
    if settings.enable_monitoring:
        _start_sweeper(settings, overrides)
    return DynamicLLMRouter(parts, overrides)


def _settings_with(config: RouterConfig) -> Settings:
    """Returns the process's settings with those that `config` overrides."""
    given = {name: getattr(config, name) for name in _SETTINGS_OF_CONFIG}
    overridden = {name: value for name, value in given.items() if value is not None}
    return get_settings().model_copy(update=overridden)


def _build_parts(
    config: RouterConfig,
    settings: Settings,
    snapshots: SnapshotReader,
    overrides: Mapping[str, Credential],
) -> RouterParts:
    clock = SystemClock()
    admission.begin(settings, clock)
    background = ensure_background()
    ledger = background.ledger
    background.metrics.gauges = lambda: read_gauges(ledger, list(_routers.values()))
    caches = build_answer_caches(settings, clock)
    return RouterParts(
        config=config,
        settings=settings,
        snapshots=snapshots,
        credentials=CurrentCredentials(snapshots, overrides),
        transport=build_transport(settings, health_monitor.note_forbidden_address),
        sink=ledger,
        metrics=NoMetrics() if settings.metrics_access == "off" else background.metrics,
        breakers=_process_breakers(settings, clock),
        target_health=health_monitor.target_health,
        credential_breakers=health_monitor.credential_breakers,
        cache=caches.responses,
        idempotency=caches.replays,
        cache_secret=derived_key(_CACHE_KEYS),
        clock=clock,
        rng=Random(),  # noqa: S311  # it spreads load and keeps no secret
        on_close=_forget,
        records=ledger.status,
    )


def _process_breakers(settings: Settings, clock: Clock) -> BreakerRegistry:
    """Returns the breakers that all routers of the process share; builds them first if needed."""
    if health_monitor.breakers is None:
        health_monitor.target_health.failure_memory = settings.breaker_open_time
        health_monitor.breakers = build_breakers(settings, clock)
    return health_monitor.breakers


def _start_sweeper(settings: Settings, overrides: Mapping[str, Credential]) -> None:
    """Starts the process's thread for health checks, unless it runs already."""

    def run(interval: float, stopping: threading.Event) -> SweepReport | None:
        return sweep_health(Selection(), interval=interval, stopping=stopping, overrides=overrides)

    health_monitor.interval = settings.health_check_interval
    ensure_sweeper(run, settings.health_check_interval)


def _forget(router: object) -> None:
    with _lock:
        for key, known in list(_routers.items()):
            if known is router:
                del _routers[key]
        if router in _default_router:
            _default_router.clear()


def _after_fork() -> None:
    """Lets a forked child build routers of its own, because connections cannot be shared.

    The parent's are kept from the garbage collector, which would close them. That would also take
    them out of the parent's event loop, which to the kernel is the same as the child's.
    """
    _inherited.extend((*_routers.values(), *redis_clients.detach()))
    _routers.clear()
    _default_router.clear()


forks.add(Stage.ROUTERS, _after_fork, locks=[_lock])
