"""Reads the current state of the process for its metrics."""

from collections import Counter
from collections.abc import Mapping, Sequence

from llm_routing.access.refused_keys import refused_keys
from llm_routing.backends.redis.guard import RedisCalls
from llm_routing.core.attempts.limits import LimitStatus
from llm_routing.health.monitor import health_monitor
from llm_routing.ledger.shipping import Ledger
from llm_routing.metrics import ProcessGauges
from llm_routing.process.admission import admission
from llm_routing.router import BaseLLMRouter

from .redis_clients import redis_clients


def read_gauges(ledger: Ledger, routers: Sequence[BaseLLMRouter]) -> ProcessGauges:
    """Returns the gauges of this process. No I/O."""
    redis = redis_clients.calls
    caches = {id(router): router.cache_size for router in routers}
    breakers = health_monitor.breakers
    return ProcessGauges(
        cache_entries=sum(size.entries for size in caches.values()),
        cache_bytes=sum(size.bytes for size in caches.values()),
        evictions={key: size.evictions for key, size in caches.items()},
        limits={("process", "", 0): admission.status, **_provider_limits(routers)},
        breakers={} if breakers is None else breakers.statuses(),
        credentials_out=frozenset(health_monitor.credential_breakers.statuses()),
        refused_keys=refused_keys.counts,
        ledger_backlog_bytes=ledger.backlog_bytes,
        ledger_unwritten=ledger.unwritten,
        ledger_lost=ledger.lost,
        ledger_set_aside=ledger.set_aside,
        ledger_is_failing=bool(ledger.trouble),
        redis_missed=_missed_calls(redis),
        redis_is_paused=any(calls.is_paused for calls in redis),
        redis_forged=sum(calls.forged for calls in redis),
    )


def _missed_calls(redis: Sequence[RedisCalls]) -> Mapping[str, int]:
    """Returns the Redis calls without a result, by reason."""
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
