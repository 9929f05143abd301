"""The process's metrics: hooks that cost a few microseconds, called with every attempt and request.

Labels are names that operators configured, at most so many of each kind; past that `other`.
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llm_routing.core.attempts.limits import LimitStatus
from llm_routing.core.breaker import BreakerState, BreakerStatus
from llm_routing.core.errors import ERRORS_BY_CODE, INTERNAL_ERROR
from llm_routing.core.ports import AttemptOpened, AttemptSettled
from llm_routing.core.types import AttemptOutcome, CacheState, RequestEnded, TargetKey

from . import families
from .cells import Cells
from .families import OTHER, Family
from .shared import Numbers, SharedNumbers

MAX_TARGETS = 200
MAX_ROUTES = 200
MAX_PROVIDERS = 100

_DURATION = families.REQUEST_DURATION.buckets
_FIRST_TOKEN = families.TIME_TO_FIRST_TOKEN.buckets
_OVERHEAD = families.OVERHEAD.buckets
_OTHER_TARGET = (OTHER, OTHER)
CODES = frozenset({*ERRORS_BY_CODE, INTERNAL_ERROR})
_OTHER_ROUTE = (OTHER, OTHER, OTHER)
OUTCOMES = (AttemptOutcome.SUCCESS, AttemptOutcome.FAILURE, AttemptOutcome.CANCELLED)


@dataclass(frozen=True, slots=True)
class ProcessGauges:
    """What others keep count of in this process, at one moment. `evictions` are by cache; `limits`
    by where (`process`, `provider`), the provider's name, and whose limit it is."""

    cache_entries: int = 0
    cache_bytes: int = 0
    evictions: Mapping[int, int] = field(default_factory=dict)
    limits: Mapping[tuple[str, str, int], LimitStatus] = field(default_factory=dict)
    breakers: Mapping[TargetKey, BreakerStatus] = field(default_factory=dict)
    credentials_out: Collection[str] = ()
    refused_keys: Mapping[str, int] = field(default_factory=dict)
    ledger_backlog_bytes: int = 0
    ledger_unwritten: int = 0
    ledger_lost: int = 0
    ledger_set_aside: int = 0
    ledger_is_failing: bool = False
    redis_missed: Mapping[str, int] = field(default_factory=dict)
    redis_is_paused: bool = False
    redis_forged: int = 0


class _Outcomes:
    """Where each outcome is counted."""

    __slots__ = ("_cancelled", "_failure", "_success")

    def __init__(self, cells: Cells, family: Family, *labels: str) -> None:
        self._success, self._failure, self._cancelled = (
            cells.claim(family, *labels, outcome.value) for outcome in OUTCOMES
        )

    def of(self, outcome: AttemptOutcome) -> int:
        """The cell of an outcome. The hash of an enum's member takes longer than this."""
        if outcome is AttemptOutcome.SUCCESS:
            return self._success
        return self._failure if outcome is AttemptOutcome.FAILURE else self._cancelled


class _Target:
    """Where the numbers of a target are."""

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
        self.outcomes = _Outcomes(cells, families.ATTEMPTS, *key)
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


class _Route:
    """Where the numbers of a route are; `operation` is one of few."""

    __slots__ = ("duration", "outcomes", "overhead")

    def __init__(self, cells: Cells, key: tuple[str, str, str]) -> None:
        self.outcomes = _Outcomes(cells, families.REQUESTS, *key)
        self.duration = cells.claim(families.REQUEST_DURATION, *key)
        self.overhead = cells.claim(families.OVERHEAD, key[0])


class Metrics:
    """`core.ports.MetricsSink` over this process's cells, for any of its threads."""

    def __init__(self, directory: Path | None) -> None:
        self.gauges: Callable[[], ProcessGauges] = ProcessGauges
        self._seen: Mapping[object, int] = {}
        self._shared = None if directory is None else SharedNumbers(directory)
        self._begin(Cells(None) if self._shared is None else self._shared.start())

    def request_started(self) -> None:
        """A request came."""
        with self._lock:
            self._values[self._in_progress] += 1

    def request_ended(self, request: RequestEnded) -> None:
        """The request has its answer, or none."""
        key = (request.operation, request.use_case, request.tier)
        with self._lock:
            values = self._values
            values[self._in_progress] -= 1
            route = self._routes.get(key) or self._route(key)
            values[route.outcomes.of(request.outcome)] += 1
            self._observe(_DURATION, route.duration, request.seconds)
            if request.overhead_seconds is not None:
                self._observe(_OVERHEAD, route.overhead, request.overhead_seconds)
            if request.cache is not None:
                values[self._cache[request.cache]] += 1
            if request.error_code:
                values[self._error(request.error_code)] += 1
            for target in request.failed_over:
                values[self._target(target).fallbacks] += 1

    def opened(self, attempt: AttemptOpened) -> None:
        """See `core.ports.UsageSink`."""
        with self._lock:
            key = (attempt.provider, attempt.model)
            target = self._targets.get(key) or self._target(key)
            self._values[target.in_progress] += 1

    def settled(self, attempt: AttemptSettled) -> None:
        """See `core.ports.UsageSink`."""
        opened, usage, cost = attempt.opened, attempt.usage, attempt.cost
        key = (opened.provider, opened.model)
        with self._lock:
            values = self._values
            target = self._targets.get(key) or self._target(key)
            values[target.in_progress] -= 1
            values[target.outcomes.of(attempt.outcome)] += 1
            self._observe(_DURATION, target.duration, attempt.latency_ms / 1000)
            if attempt.time_to_first_token_ms is not None:
                self._observe(
                    _FIRST_TOKEN,
                    target.first_token,
                    attempt.time_to_first_token_ms / 1000,
                )
            if usage is not None:
                tokens = target.tokens
                # Only upwards, whatever a vendor says.
                if usage.input_tokens > 0:
                    values[tokens[0]] += usage.input_tokens
                if usage.output_tokens > 0:
                    values[tokens[1]] += usage.output_tokens
                if usage.cached_input_tokens > 0:
                    values[tokens[2]] += usage.cached_input_tokens
                if usage.reasoning_tokens > 0:
                    values[tokens[3]] += usage.reasoning_tokens
                if usage.cache_write_tokens > 0:
                    values[tokens[4]] += usage.cache_write_tokens
                    values[tokens[5]] += usage.cache_write_1h_tokens
            if cost is not None and cost > 0:
                values[target.cost] += float(cost)
            if attempt.error_code:
                values[self._attempt_error(opened.provider, attempt.error_code)] += 1

    def sample(self) -> None:
        """Takes over what others keep count of in this process."""
        gauges = self.gauges()
        with self._lock:
            values, claim = self._values, self._cells.claim
            values[claim(families.CACHE_ENTRIES)] = gauges.cache_entries
            values[claim(families.CACHE_BYTES)] = gauges.cache_bytes
            values[claim(families.LEDGER_BACKLOG)] = gauges.ledger_backlog_bytes
            values[claim(families.LEDGER_UNWRITTEN)] = gauges.ledger_unwritten
            values[claim(families.LEDGER_FAILING)] = gauges.ledger_is_failing
            values[claim(families.REDIS_PAUSED)] = gauges.redis_is_paused
            counts: dict[object, tuple[int, int]] = {
                "lost": (claim(families.LEDGER_LOST), gauges.ledger_lost),
                "aside": (claim(families.LEDGER_SET_ASIDE), gauges.ledger_set_aside),
                "forged": (claim(families.REDIS_REFUSED), gauges.redis_forged),
            }
            for reason, count in gauges.refused_keys.items():
                counts["refused", reason] = (claim(families.REFUSED_KEYS, reason), count)
            for reason, count in gauges.redis_missed.items():
                counts["redis", reason] = (claim(families.REDIS_MISSED, reason), count)
            evictions = claim(families.CACHE_EVICTIONS)
            for cache, count in gauges.evictions.items():
                counts[cache] = (evictions, count)
            for cell in self._queues:
                values[cell] = 0
            for (where, provider, owner), limit in gauges.limits.items():
                labels = (where, self._provider(provider))
                queue = claim(families.QUEUED, *labels)
                self._queues.add(queue)
                values[queue] += limit.queued
                counts[where, provider, owner] = (claim(families.SHED, *labels), limit.shed)
            for target in {*self._targets.values()}:
                for cell in target.breaker.values():
                    values[cell] = 0
            for key, status in gauges.breakers.items():
                target = self._target(key)
                values[target.breaker[status.state]] += 1
                counts[key] = (target.openings, status.openings)
            for cell in self._credential_cells:
                values[cell] = 0
            for provider in gauges.credentials_out:
                cell = claim(families.CREDENTIAL_OUT, self._provider(provider))
                values[cell] = 1
                self._credential_cells.add(cell)
            for name, (cell, count) in counts.items():
                seen = self._seen.get(name, 0)
                # One that has shrunk was begun anew.
                values[cell] += count - seen if count >= seen else count
            self._seen = {name: count for name, (_, count) in counts.items()}

    def total(self) -> Numbers:
        """The numbers of all processes that share the directory, as of now."""
        self.sample()
        return self._cells.numbers() if self._shared is None else self._shared.total(self._cells)

    def restore(self) -> None:
        """Repairs the file that another program has truncated. Raises `OSError`."""
        with self._lock:
            self._cells.restore()

    def tidy(self) -> None:
        """Folds what dead processes have left. Raises `OSError`."""
        if self._shared is not None:
            self._shared.fold(self._cells)

    def close(self) -> None:
        """The process ends; what it counted stays for the others."""
        self._cells.close()

    def forget(self) -> None:
        """In a forked child: the parent's numbers stay the parent's."""
        self._cells.close()
        self._begin(Cells(None))

    def _begin(self, cells: Cells) -> None:
        self._lock = threading.Lock()
        self._cells = cells
        self._values = cells.values
        self._routes: dict[tuple[str, str, str], _Route] = {}
        self._targets: dict[TargetKey, _Target] = {}
        self._providers: set[str] = set()
        self._queues: set[int] = set()
        self._credential_cells: set[int] = set()
        self._error_cells: dict[tuple[str, ...], int] = {}
        self._seen = {}
        self._in_progress = cells.claim(families.REQUESTS_IN_PROGRESS)
        self._cache = {
            state: cells.claim(families.CACHE_REQUESTS, state.value) for state in CacheState
        }
        cells.values[cells.claim(families.PROCESSES)] = 1

    def _observe(self, buckets: tuple[float, ...], first: int, seconds: float) -> None:
        values = self._values
        values[first + bisect_left(buckets, seconds)] += 1
        values[first + len(buckets) + 1] += seconds

    def _target(self, key: TargetKey) -> _Target:
        """As `_route`."""
        if key not in self._targets and len(self._targets) >= MAX_TARGETS:
            key = _OTHER_TARGET
        target = self._targets.get(key)
        if target is None:
            target = self._targets[key] = _Target(self._cells, key)
        return target

    def _route(self, key: tuple[str, str, str]) -> _Route:
        """Of a key that is new, or past the limit."""
        if len(self._routes) >= MAX_ROUTES:
            key = _OTHER_ROUTE
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = _Route(self._cells, key)
        return route

    def _error(self, code: str) -> int:
        labels = (code if code in CODES else OTHER,)
        return self._error_cell(families.ERRORS, labels)

    def _attempt_error(self, provider: str, code: str) -> int:
        labels = (self._provider(provider), code if code in CODES else OTHER)
        return self._error_cell(families.ATTEMPT_ERRORS, labels)

    def _provider(self, name: str) -> str:
        """The provider's label; empty for what is no provider's."""
        if name and name not in self._providers:
            if len(self._providers) >= MAX_PROVIDERS:
                name = OTHER
            self._providers.add(name)
        return name

    def _error_cell(self, family: Family, labels: tuple[str, ...]) -> int:
        cell = self._error_cells.get(labels)
        if cell is None:
            cell = self._error_cells[labels] = self._cells.claim(family, *labels)
        return cell
