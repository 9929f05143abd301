"""Settings and state for decisions about retries and hedges."""

from dataclasses import dataclass
from random import Random

from .latency import Latencies
from .retry_budget import RetryBudgets

MIN_RETRIES = 3
MIN_HEDGES = 1


@dataclass(frozen=True, slots=True)
class RetryState:
    """Shared by all requests of a router."""

    rng: Random
    retries: RetryBudgets
    hedges: RetryBudgets
    latencies: Latencies

    @classmethod
    def of(cls, rng: Random, retries: float, hedges: float) -> "RetryState":
        """Creates the state; `retries` and `hedges` are maximum shares of the requests."""
        return cls(
            rng,
            RetryBudgets(retries, MIN_RETRIES),
            RetryBudgets(hedges, MIN_HEDGES),
            Latencies(),
        )
