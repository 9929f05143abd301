"""Calls to a circuit breaker, for tests."""

from random import Random

from llm_routing.core.breaker import (
    Breaker,
    BreakerPermit,
    BreakerRules,
    BreakerState,
    Rejected,
)

RULES = BreakerRules(
    window=60,
    window_calls=20,
    minimum_calls=4,
    failure_rate=0.5,
    open_time=10,
    max_open_time=100,
    probes=1,
)


def new(**rules: float) -> Breaker:
    values = {name: getattr(RULES, name) for name in RULES.__dataclass_fields__} | rules
    return Breaker(BreakerRules(**values), Random(1))


def admitted(breaker: Breaker, now: float) -> BreakerPermit:
    permit = breaker.admit(now)
    assert isinstance(permit, BreakerPermit)
    return permit


def refused(breaker: Breaker, now: float) -> Rejected:
    refusal = breaker.admit(now)
    assert isinstance(refusal, Rejected)
    return refusal


def fail(breaker: Breaker, now: float, times: int = 1, retry_after: float | None = None) -> None:
    for _ in range(times):
        admitted(breaker, now).fail(now, "server_failed", retry_after)


def succeed(breaker: Breaker, now: float, times: int = 1, seconds: float = 0.0) -> None:
    for _ in range(times):
        admitted(breaker, now).succeed(now, seconds)


def opened(now: float = 0.0, **rules: float) -> Breaker:
    breaker = new(**rules)
    fail(breaker, now, 4)
    assert breaker.status(now).state is BreakerState.OPEN
    return breaker


def due(breaker: Breaker, now: float) -> float:
    """Returns the time at which it can be probed."""
    return now + breaker.status(now).retry_after
