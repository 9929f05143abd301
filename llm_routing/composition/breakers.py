"""Builds the circuit breakers of the process, which all its routers share."""

from random import Random

from llm_routing.backends.breakers import MemoryBreakers
from llm_routing.backends.redis.breaker_board import BreakerBoard
from llm_routing.backends.redis.breakers import SharedBreakers
from llm_routing.conf import Settings
from llm_routing.core.breaker import BreakerRules
from llm_routing.core.ports import BreakerRegistry, Clock
from llm_routing.crypto.at_rest import Purpose, derived_key, encryption_keys
from llm_routing.crypto.in_transit import Signing

from .redis_clients import redis_clients

_BREAKER_KEYS = b"llm_routing names of circuit breakers in Redis"


def build_breakers(settings: Settings, clock: Clock) -> BreakerRegistry:
    """Returns breakers in memory, shared with other workers if Redis is configured."""
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
    rng = Random()  # noqa: S311  # it spreads probes and keeps no secret
    redis = redis_clients.get(settings, clock)
    if redis is None:
        return MemoryBreakers(rules, clock, rng)
    board = BreakerBoard(
        redis,
        rules,
        # Installations that share a Redis by mistake do not share breakers.
        derived_key(_BREAKER_KEYS).hex()[:16],
        signer=Signing(encryption_keys(Purpose.BREAKERS)),
        clock=clock,
    )
    return SharedBreakers(rules, clock, rng, board=board)
