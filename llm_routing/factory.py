"""The composition root: the only file that knows Django, the network and the core together."""

import threading
from asyncio import get_running_loop
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from .access.refused_keys import refused_keys
from .backends.breakers import MemoryBreakers
from .backends.clock import SystemClock
from .backends.files import FileCache
from .backends.http.proxies import Proxies
from .backends.http.transport import AiohttpTransport
from .backends.memory import MemoryCache
from .backends.redis.answers import RedisCache
from .backends.redis.breaker_board import BreakerBoard
from .backends.redis.breakers import SharedBreakers
from .backends.redis.guard import GuardedRedis, RedisCalls
from .conf import Settings, get_settings
from .configuration.built_in import built_in_snapshot
from .configuration.credentials import build_credential, setting_values
from .configuration.source import snapshot_source
from .core.attempts.limits import LimitStatus
from .core.breaker import BreakerRules
from .core.caching.single_flight import SingleFlightCache
from .core.config import RouterConfig
from .core.ports import BreakerRegistry, Clock, Credential
from .crypto import at_rest as secrets
from .crypto.at_rest import Purpose
from .crypto.in_transit import Sealing, Signing
from .discovery import DiscoveryReport, discover
from .health.monitor import health_monitor
from .health.sweep import Network, NoLedger, Selection, SweepReport, sweep
from .health.sweeper import ensure_sweeper
from .ledger.shipping import Ledger
from .metrics import NoMetrics, ProcessGauges
from .models.databases import DATABASE_ERRORS
from .process.admission import admission
from .process.background import ensure_background
from .process.state import process_state, stop_threads
from .router.pending import PendingRouter
from .router.routers import BaseLLMRouter, DynamicLLMRouter, StaticLLMRouter
from .system.forks import Stage, forks
from .system.loops import require_no_event_loop
from .vendors import VENDORS

_DEFAULT = RouterConfig()
if TYPE_CHECKING:
    from .metrics.exposition import Exposition

_OF_CONFIG = (
    "connection_pool_size",
    "cache_ttl",
    "cache_max_size",
    "cache_memory_limit_mb",
    "enable_monitoring",
    "health_check_interval",
)
_REPLAYS_IN_MEMORY = 1000
_REPLAY_BYTES_IN_MEMORY = 16 * 1024 * 1024
_CACHE_KEYS = b"llm_routing keys of the response cache"
_BREAKER_KEYS = b"llm_routing names of circuit breakers in Redis"

_lock = threading.Lock()
_redis: dict[str, GuardedRedis] = {}
_routers: dict[tuple[bool, RouterConfig], BaseLLMRouter] = {}
_inherited: list[object] = []
_usual: list[BaseLLMRouter] = []
"""The one for who says nothing of it: to look it up takes the hash of a whole `RouterConfig`."""


def get_llm_router(dynamic: bool = True, config: RouterConfig | None = None) -> PendingRouter:
    """The process's router for this configuration, when awaited; built on the first call.

    Dynamic, it works from the models that operators edit; static, from built-in mappings. It
    serves every event loop. Raises `ImproperlyConfigured` for settings that make no sense.
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
        router = _built(key)
    return router


def default_router_if_built() -> BaseLLMRouter | None:
    """What `await get_llm_router()` gives, where it has been built."""
    return _usual[0] if _usual else None


async def _get(key: tuple[bool, RouterConfig]) -> BaseLLMRouter:
    router = _routers.get(key)
    if router is None:
        await sync_to_async(_prepare)(key[0])
        router = _built(key)
    return router


def _built(key: tuple[bool, RouterConfig]) -> BaseLLMRouter:
    with _lock:
        router = _routers.get(key)
        if router is None:
            router = _routers[key] = _build(*key)
            if key == (True, _DEFAULT):
                _usual[:] = (router,)
        return router


async def close_routers() -> None:
    """Closes every router of the process, ships the ledger and ends our threads."""
    for router in list(_routers.values()):
        await router.close()
    if health_monitor.breakers is not None:
        await health_monitor.breakers.aclose()
    for redis in list(_redis.values()):
        # Whoever spoke last may have opened a connection anew.
        await redis.aclose()
    _redis.clear()
    await get_running_loop().run_in_executor(None, stop_threads)
    process_state.close()


async def get_exposition() -> "Exposition":
    """The metrics of this process and of those that share its state directory."""
    await get_llm_router()
    from .metrics.exposition import Exposition

    return Exposition(ensure_background().metrics)


async def discover_models(
    providers: Collection[str] = (), *, dry_run: bool = False
) -> DiscoveryReport:
    """A discovery (`discovery.discover`) for commands and the admin, with connections of its own.
    Raises `UnknownProvider`, `django.db.Error`."""
    transport = _transport(get_settings())
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
    """A sweep (`health.sweep.sweep`) for commands, the admin and the server's own thread, with
    connections of its own. Blocks; not for an event loop's thread. Raises as that does."""
    settings = get_settings()
    network = Network(
        transport=lambda: _transport(settings),
        # Only completions are accounted, and only they need the thread that ships the ledger.
        sink=ensure_background().ledger if selection.deep else NoLedger(),
        clock=SystemClock(),
        overrides=overrides or {},
    )
    return sweep(
        selection, network, settings, max_wait=max_wait, interval=interval, stopping=stopping
    )


def _transport(settings: Settings) -> AiohttpTransport:
    return AiohttpTransport(
        pool_size=settings.connection_pool_size,
        allowed_networks=settings.allowed_upstream_networks,
        proxies=Proxies(
            http=settings.http_proxy.get_secret_value() if settings.http_proxy else "",
            https=settings.https_proxy.get_secret_value() if settings.https_proxy else "",
            bypass=settings.no_proxy,
        ),
    )


def _prepare(dynamic: bool) -> None:
    background = ensure_background()
    if not dynamic:
        return
    background.known_keys.load()
    try:
        snapshot_source.refresh(last_resort=lambda: built_in_snapshot({}))
        # Before keys are learned, so that the first look of the thread finds nothing new.
        with suppress(*DATABASE_ERRORS):
            background.look_at_keys()
    finally:
        # This thread belongs to no request that would give its connection back.
        close_old_connections()


def _build(dynamic: bool, config: RouterConfig) -> BaseLLMRouter:
    settings = get_settings()
    own = {name: value for name in _OF_CONFIG if (value := getattr(config, name)) is not None}
    settings = settings.model_copy(update=own)
    clock = SystemClock()
    admission.begin(settings, clock)
    background = ensure_background()
    background.metrics.gauges = partial(_gauges, background.ledger)
    cache, idempotency = _shelves(settings, clock)
    core: dict[str, Any] = {
        "transport": _transport(settings),
        "sink": background.ledger,
        "metrics": NoMetrics() if settings.metrics_access == "off" else background.metrics,
        "breakers": _breakers(settings, clock),
        "target_health": health_monitor.target_health,
        "credential_breakers": health_monitor.credential_breakers,
        "cache": cache,
        "idempotency": idempotency,
        "cache_secret": secrets.derived_key(_CACHE_KEYS),
        "clock": clock,
        "settings": settings,
        "config": config,
        "rng": Random(),  # noqa: S311  # it spreads load and keeps no secret
        "on_close": _forget,
        "records": background.ledger.status,
    }
    if dynamic:
        overrides = _overrides(config)
        _monitor(settings, overrides)
        return DynamicLLMRouter(snapshot_source, overrides, **core)
    return StaticLLMRouter(built_in_snapshot(_overrides(config)), **core)


def _gauges(ledger: Ledger) -> ProcessGauges:
    """What there is to be read off in this process, for its metrics."""
    redis = [guarded.calls for guarded in list(_redis.values())]
    routers = list(_routers.values())
    caches = {id(router): router.cache_size for router in routers}
    return ProcessGauges(
        cache_entries=sum(size.entries for size in caches.values()),
        cache_bytes=sum(size.bytes for size in caches.values()),
        evictions={key: size.evictions for key, size in caches.items()},
        limits={("process", "", 0): admission.status, **_provider_limits(routers)},
        breakers=health_monitor.breakers.statuses() if health_monitor.breakers is not None else {},
        credentials_out=frozenset(health_monitor.credential_breakers.statuses()),
        refused_keys=refused_keys.counts,
        ledger_backlog_bytes=ledger.backlog_bytes,
        ledger_unwritten=ledger.unwritten,
        ledger_lost=ledger.lost,
        ledger_set_aside=ledger.set_aside,
        ledger_is_failing=bool(ledger.trouble),
        redis_missed=_missed(redis),
        redis_is_paused=any(calls.is_paused for calls in redis),
        redis_forged=sum(calls.forged for calls in redis),
    )


def _missed(redis: Sequence[RedisCalls]) -> Mapping[str, int]:
    """Calls of Redis that came to nothing, by reason."""
    missed = Counter({"skipped": sum(calls.skipped for calls in redis)})
    for calls in redis:
        missed.update({reason.value: count for reason, count in calls.reasons.items()})
    return missed


def _provider_limits(
    routers: Sequence[BaseLLMRouter],
) -> Mapping[tuple[str, str, int], LimitStatus]:
    return {
        ("provider", provider, id(router)): status
        for router in routers
        for provider, status in router.provider_limits.items()
    }


def _monitor(settings: Settings, overrides: Mapping[str, Credential]) -> None:
    """Has the process sweep, unless it does already or is not meant to."""
    if not settings.enable_monitoring:
        return

    def run(interval: float, stopping: threading.Event) -> SweepReport | None:
        return sweep_health(Selection(), interval=interval, stopping=stopping, overrides=overrides)

    health_monitor.interval = settings.health_check_interval
    ensure_sweeper(run, settings.health_check_interval)


def _breakers(settings: Settings, clock: Clock) -> BreakerRegistry:
    """The breakers of the process, which all its routers share."""
    if health_monitor.breakers is None:
        rules = BreakerRules(
            window=settings.breaker_window,
            window_calls=settings.breaker_window_calls,
            minimum_calls=settings.breaker_minimum_calls,
            failure_rate=settings.breaker_failure_rate,
            slow_call_time=settings.breaker_slow_call_time,
            slow_call_rate=settings.breaker_slow_call_rate,
            open_time=settings.breaker_open_time,
            max_open_time=settings.breaker_longest_open_time,
            probes=settings.breaker_probes,
            # Each probe costs one call, so a target that recovers is found soon.
            failed_probes_double=False,
        )
        health_monitor.target_health.failure_memory = settings.breaker_open_time
        rng = Random()  # noqa: S311  # it spreads probes and keeps no secret
        redis = guarded_redis(settings, clock)
        if redis is None:
            health_monitor.breakers = MemoryBreakers(rules, clock, rng)
        else:
            # Installations that share a Redis by mistake share no breakers.
            board = BreakerBoard(
                redis,
                rules,
                secrets.derived_key(_BREAKER_KEYS).hex()[:16],
                signer=Signing(secrets.encryption_keys(Purpose.BREAKERS)),
                clock=clock,
            )
            health_monitor.breakers = SharedBreakers(rules, clock, rng, board=board)
    return health_monitor.breakers


def guarded_redis(settings: Settings, clock: Clock) -> GuardedRedis | None:
    """The process's way to Redis, which all share that keep something there; None without one."""
    if settings.redis_url is None:
        return None
    url = settings.redis_url.get_secret_value()
    redis = _redis.get(url)
    if redis is None:
        rng = Random()  # noqa: S311  # it spreads calls and keeps no secret
        redis = _redis[url] = GuardedRedis(url, clock=clock, rng=rng)
    return redis


def _shelves(settings: Settings, clock: Clock) -> tuple[SingleFlightCache, SingleFlightCache]:
    """Returns the cache of answers and that of answers under idempotency keys. Both are in memory,
    and in Redis if it is configured. Without Redis, idempotency keys have files that the workers of
    this machine share, and each worker has its own cache of answers."""
    # Here, so that unusable encryption keys stop the start and not a request.
    of_answers = Sealing(secrets.encryption_keys(Purpose.CACHED_ANSWERS))
    of_replays = Sealing(secrets.encryption_keys(Purpose.IDEMPOTENT_ANSWERS))
    answers: RedisCache | None
    replays: RedisCache | FileCache
    redis = guarded_redis(settings, clock)
    if redis is not None:
        answers = RedisCache(redis, cipher=of_answers, clock=clock)
        replays = RedisCache(redis, cipher=of_replays, clock=clock, kind="replay")
    else:
        answers = None
        replays = FileCache(settings.state_dir / "idempotency", cipher=of_replays, clock=clock)
    cached = MemoryCache(
        max_entries=settings.cache_max_size,
        max_bytes=settings.cache_memory_limit_mb * 1024 * 1024,
        clock=clock,
    )
    replayed = MemoryCache(
        max_entries=_REPLAYS_IN_MEMORY, max_bytes=_REPLAY_BYTES_IN_MEMORY, clock=clock
    )
    return SingleFlightCache(cached, answers, clock), SingleFlightCache(replayed, replays, clock)


def _overrides(config: RouterConfig) -> Mapping[str, Credential]:
    """Credentials of a `RouterConfig`, by vendor."""
    settings = get_settings()
    values = dict(setting_values(settings))
    for name in ("portkey_config", "or_site_url", "or_app_name"):
        if (value := getattr(config, name)) is not None:
            values[name] = value
    keys = {"portkey": config.portkey_api_key, "openrouter": config.openrouter_api_key}
    found = {}
    for vendor, key in keys.items():
        if key is not None:
            credential = build_credential(VENDORS[vendor], key.get_secret_value(), values)
            if credential is not None:
                found[vendor] = credential
    return found


def _forget(router: BaseLLMRouter) -> None:
    with _lock:
        for key, known in list(_routers.items()):
            if known is router:
                del _routers[key]
        if router in _usual:
            _usual.clear()


def _after_fork() -> None:
    """Connections are not shared with a forked child: it builds routers of its own. Those of its
    parent are kept from the garbage collector, which would close them, and the event loop they are
    in is one for the kernel: the parent's would no longer hear of them."""
    _inherited.extend((*_routers.values(), *_redis.values()))
    _routers.clear()
    _usual.clear()
    _redis.clear()


forks.add(Stage.ROUTERS, _after_fork, locks=[_lock])
