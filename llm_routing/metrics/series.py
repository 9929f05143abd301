"""Assigns cells to the numbers of targets and routes."""

from llm_routing.core.breaker import BreakerState
from llm_routing.core.types import AttemptOutcome, TargetKey

from . import families
from .cells import Cells
from .families import Family

OUTCOMES = (AttemptOutcome.SUCCESS, AttemptOutcome.FAILURE, AttemptOutcome.CANCELLED)


class OutcomeCells:
    """The cells of a family with one series for each outcome."""

    __slots__ = ("_cancelled", "_failure", "_success")

    def __init__(self, cells: Cells, family: Family, *labels: str) -> None:
        self._success, self._failure, self._cancelled = (
            cells.claim(family, *labels, outcome.value) for outcome in OUTCOMES
        )

    def of(self, outcome: AttemptOutcome) -> int:
        """Returns the cell of an outcome. Faster than a dictionary with enum members as keys."""
        if outcome is AttemptOutcome.SUCCESS:
            return self._success
        return self._failure if outcome is AttemptOutcome.FAILURE else self._cancelled


class TargetCells:
    """The cells of a target."""

    __slots__ = (
        "breaker",
        "cost",
        "duration",
        "fallbacks",
        "first_token",
        "in_progress",
        "openings",
        "outcomes",
        "tokens",
    )

    def __init__(self, cells: Cells, key: TargetKey) -> None:
        claim = cells.claim
        self.in_progress = claim(families.ATTEMPTS_IN_PROGRESS, *key)
        self.outcomes = OutcomeCells(cells, families.ATTEMPTS, *key)
        self.duration = claim(families.ATTEMPT_DURATION, *key)
        self.first_token = claim(families.TIME_TO_FIRST_TOKEN, *key)
        kinds = ("input", "output", "cached_input", "reasoning", "cache_write", "cache_write_1h")
        self.tokens = tuple(claim(families.TOKENS, *key, kind) for kind in kinds)
        self.cost = claim(families.COST, *key)
        self.fallbacks = claim(families.FALLBACKS, *key)
        self.breaker = {
            state: claim(families.BREAKER_STATE, *key, state.value) for state in BreakerState
        }
        self.openings = claim(families.BREAKER_OPENINGS, *key)


class RouteCells:
    """The cells of a route: operation, use case and tier."""

    __slots__ = ("duration", "outcomes", "overhead")

    def __init__(self, cells: Cells, key: tuple[str, str, str]) -> None:
        self.outcomes = OutcomeCells(cells, families.REQUESTS, *key)
        self.duration = cells.claim(families.REQUEST_DURATION, *key)
        self.overhead = cells.claim(families.OVERHEAD, key[0])
