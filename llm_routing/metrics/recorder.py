"""The process's metrics: hooks that cost a few microseconds, called for every attempt and request.

Labels are names that operators configured. Their number is limited; names beyond it count as
`other`.
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping
from pathlib import Path

from llm_routing.core.errors import ERRORS_BY_CODE, INTERNAL_ERROR
from llm_routing.core.ports import AttemptOpened, AttemptSettled
from llm_routing.core.types import CacheState, RequestEnded, TargetKey

from . import families
from .cells import Cells
from .families import OTHER, Family
from .gauges import ProcessGauges
from .series import RouteCells, TargetCells
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


class Metrics:
    """`core.ports.MetricsSink` over this process's cells. For any thread.

    `gauges` returns the numbers that are sampled; without a `directory` other processes cannot see
    these metrics.
    """

    def __init__(self, directory: Path | None) -> None:
        self.gauges: Callable[[], ProcessGauges] = ProcessGauges
        self._seen: Mapping[object, int] = {}
        self._shared = None if directory is None else SharedNumbers(directory)
        self._begin(Cells(None) if self._shared is None else self._shared.start())

    def request_started(self) -> None:
        """See `core.ports.MetricsSink`."""
        with self._lock:
            self._values[self._in_progress] += 1

    def request_ended(self, request: RequestEnded) -> None:
        """See `core.ports.MetricsSink`."""
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
                # A vendor may report a negative number; counters only go up.
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
        """Copies the numbers that other objects of this process keep."""
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
                # A count that went down was reset.
                values[cell] += count - seen if count >= seen else count
            self._seen = {name: count for name, (_, count) in counts.items()}

    def total(self) -> Numbers:
        """Returns the current numbers of all processes that share the directory."""
        self.sample()
        return self._cells.numbers() if self._shared is None else self._shared.total(self._cells)

    def restore(self) -> None:
        """Restores the file if another program has truncated it. Raises `OSError`."""
        with self._lock:
            self._cells.restore()

    def merge_ended(self) -> None:
        """Merges the numbers of ended processes. Raises `OSError`."""
        if self._shared is not None:
            self._shared.merge_ended(self._cells)

    def close(self) -> None:
        """Releases this process's cells; other processes then treat it as ended and keep its
        counts."""
        self._cells.close()

    def forget(self) -> None:
        """Starts from zero in a forked child; the numbers belong to the parent."""
        self._cells.close()
        self._begin(Cells(None))

    def _begin(self, cells: Cells) -> None:
        self._lock = threading.Lock()
        self._cells = cells
        self._values = cells.values
        self._routes: dict[tuple[str, str, str], RouteCells] = {}
        self._targets: dict[TargetKey, TargetCells] = {}
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

    def _target(self, key: TargetKey) -> TargetCells:
        """Returns the cells of a target. Creates them if the target is new."""
        if key not in self._targets and len(self._targets) >= MAX_TARGETS:
            key = _OTHER_TARGET
        target = self._targets.get(key)
        if target is None:
            target = self._targets[key] = TargetCells(self._cells, key)
        return target

    def _route(self, key: tuple[str, str, str]) -> RouteCells:
        """Returns the cells of a route. Creates them if the route is new."""
        if len(self._routes) >= MAX_ROUTES:
            key = _OTHER_ROUTE
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = RouteCells(self._cells, key)
        return route

    def _error(self, code: str) -> int:
        labels = (code if code in CODES else OTHER,)
        return self._error_cell(families.ERRORS, labels)

    def _attempt_error(self, provider: str, code: str) -> int:
        labels = (self._provider(provider), code if code in CODES else OTHER)
        return self._error_cell(families.ATTEMPT_ERRORS, labels)

    def _provider(self, name: str) -> str:
        """Returns the label of a provider; an empty name stays empty."""
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
