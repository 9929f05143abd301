"""One sweep: checks every active provider and model, and records the results.

The composition root supplies the network. The calls run in their own thread and event loop; the
calling thread uses the database and holds the lease.
"""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any
from uuid import uuid4

from llm_routing.conf import Settings
from llm_routing.configuration.source import compile_snapshot
from llm_routing.core.attempts.calls import Timeouts
from llm_routing.core.attempts.executor import Executor
from llm_routing.core.attempts.limits import ProviderLimits
from llm_routing.core.attempts.retry_state import RetryState
from llm_routing.core.breaker import NoBreakers
from llm_routing.core.ports import (
    AttemptOpened,
    AttemptSettled,
    Clock,
    Credential,
    CredentialStore,
    Transport,
    UsageSink,
)
from llm_routing.core.routing_table import ModelSpec, RoutingTable
from llm_routing.models import (
    BreakerReset,
    ConfigurationVersion,
    HealthCheck,
    SweepLease,
)
from llm_routing.models.databases import DatabaseNow, atomic

from .checks import Checker, CheckResult, Limits, ProviderToCheck

LEASE = "sweep"
LEASE_SECONDS = 15.0
RENEW_SECONDS = 5.0
STEP_SECONDS = 0.2
MAX_SWEEP_SECONDS = 600.0
BATCH = 500


class NothingToCheck(ValueError):
    """No active provider or model has this name, or none exists; the message says which."""


class LeaseLost(Exception):
    """Another sweeper has taken the lease, because this one was too slow. Nothing was recorded."""


class SweepStopped(Exception):
    """The sweep was stopped. Nothing was recorded."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The scope of a sweep: providers by name, models by `provider/model_id`, alias or identifier.
    Empty means all. `deep` requests real completions."""

    providers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    deep: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether the sweep checks everything."""
        return not self.providers and not self.models


@dataclass(frozen=True, slots=True)
class SweepReport:
    """The result of a sweep. `unchecked` names targets that were not checked in time. A check that
    this process's own settings refused is reported and not recorded."""

    results: tuple[CheckResult, ...]
    unchecked: tuple[str, ...]
    seconds: float

    @property
    def is_healthy(self) -> bool:
        """Whether everything was checked and is healthy."""
        return not self.unchecked and all(result.is_healthy for result in self.results)

    @property
    def refused(self) -> int:
        """The number of checks that this process's own settings refused."""
        return sum(not result.is_about_target for result in self.results)

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "status": "healthy" if self.is_healthy else "unhealthy",
            "seconds": round(self.seconds, 3),
            "checks": [
                {
                    "provider": result.provider,
                    "model": result.model or None,
                    "kind": result.kind.value,
                    "is_healthy": result.is_healthy,
                    "error_code": result.error_code or None,
                    "message": result.message or None,
                    "is_recorded": result.is_about_target,
                    "latency_ms": (
                        None if result.latency_ms is None else round(result.latency_ms, 1)
                    ),
                }
                for result in self.results
            ],
            "unchecked": list(self.unchecked),
        }


@dataclass(frozen=True, slots=True)
class Network:
    """The tools of a sweep. `transport` creates a transport; `sink` records completions;
    `overrides` are credentials by vendor, used before those of the configuration."""

    transport: Callable[[], Transport]
    sink: UsageSink
    clock: Clock
    overrides: Mapping[str, Credential]


def sweep(
    selection: Selection,
    network: Network,
    settings: Settings,
    *,
    max_wait: float = 0.0,
    interval: float | None = None,
    stopping: threading.Event | None = None,
) -> SweepReport | None:
    """Checks the selection. Returns None if another sweeper runs for longer than `max_wait` seconds
    or, with `interval`, if the last complete sweep began less than that many seconds ago.

    Raises `NothingToCheck`, `LeaseLost`, `SweepStopped`, `django.db.Error`.
    """
    stopping = stopping or threading.Event()
    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex}"
    leases = SweepLease.objects
    until = time.monotonic() + max_wait
    while not leases.claim(LEASE, holder, LEASE_SECONDS, interval=interval):
        if time.monotonic() >= until:
            return None
        if stopping.wait(STEP_SECONDS):
            raise SweepStopped
    is_swept = False
    try:
        report = _check(selection, network, settings, holder, stopping)
        about_targets = [result for result in report.results if result.is_about_target]
        _record(about_targets, holder, settings.health_history_days)
        # A sweep without any call must not keep other processes, which may have keys, from
        # sweeping.
        is_swept = selection.is_whole and (interval is not None or bool(about_targets))
    finally:
        leases.release(LEASE, holder, swept=is_swept)
    return report


def _check(
    selection: Selection,
    network: Network,
    settings: Settings,
    holder: str,
    stopping: threading.Event,
) -> SweepReport:
    snapshot = compile_snapshot(*ConfigurationVersion.objects.version_and_stamp("routing"))
    providers = select(snapshot.table, selection)
    credentials = _Credentials(snapshot.table, snapshot.credentials, network.overrides)
    began = time.monotonic()
    asking = _CheckRun(providers, selection.deep, network, settings, credentials)
    with ThreadPoolExecutor(1, thread_name_prefix="llm_routing_health") as pool:
        answer: Future[list[CheckResult]] = pool.submit(asking.run)
        renew_at = began + RENEW_SECONDS
        try:
            while not wait({answer}, STEP_SECONDS).done:
                if stopping.is_set():
                    raise SweepStopped
                if time.monotonic() >= renew_at:
                    renew_at = time.monotonic() + RENEW_SECONDS
                    if not SweepLease.objects.renew(LEASE, holder, LEASE_SECONDS):
                        raise LeaseLost
        except BaseException:
            asking.cancel()
            raise
    results = sorted(answer.result(), key=lambda result: (result.provider, result.model))
    return SweepReport(tuple(results), _unchecked(providers, results), time.monotonic() - began)


def select(table: RoutingTable, selection: Selection) -> Sequence[ProviderToCheck]:
    """Returns the providers and models to check. Raises `NothingToCheck`."""
    _must_be_known("provider", selection.providers, table.providers)
    models: dict[str, list[ModelSpec]] = {name: [] for name in table.providers}
    named = set()
    for model in table.models.values():
        names = {model.key, model.model_id, model.alias} & set(selection.models)
        named |= names
        if names or not selection.models:
            models[model.provider].append(model)
    unknown = sorted(set(selection.models) - named)
    if unknown:
        raise NothingToCheck(f"There is no active model {', '.join(unknown)}.")
    providers = [
        ProviderToCheck(spec, tuple(models[name]))
        for name, spec in table.providers.items()
        if (not selection.providers or name in selection.providers)
        and (not selection.models or models[name])
    ]
    if not providers:
        raise NothingToCheck("No active provider matches." if table.providers else _NONE)
    return providers


_NONE = "No provider is active."


def _must_be_known(what: str, names: Collection[str], known: Collection[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise NothingToCheck(
            f"There is no active {what} {', '.join(unknown)}. "
            f"Active: {', '.join(sorted(known)) or 'none'}."
        )


def _unchecked(
    providers: Sequence[ProviderToCheck], results: Sequence[CheckResult]
) -> tuple[str, ...]:
    found = {(result.provider, result.model) for result in results}
    wanted = [
        (provider.spec.name, name)
        for provider in providers
        for name in ("", *(model.model_id for model in provider.models))
    ]
    return tuple(
        f"{provider}/{model}" if model else provider
        for provider, model in wanted
        if (provider, model) not in found
    )


def _record(results: Sequence[CheckResult], holder: str, history_days: float) -> None:
    """Records the results and deletes old ones, if the lease is still held."""
    with atomic(SweepLease):
        # Locks the lease's row, so no other process can take it before the commit.
        if not SweepLease.objects.renew(LEASE, holder, LEASE_SECONDS):
            raise LeaseLost
        HealthCheck.objects.bulk_create(
            [
                HealthCheck(
                    provider=result.provider,
                    model=result.model,
                    kind=result.kind.value,
                    is_healthy=result.is_healthy,
                    error_code=result.error_code,
                    latency_ms=result.latency_ms,
                    checked_at=DatabaseNow(),
                )
                for result in results
            ],
            batch_size=BATCH,
        )
        ConfigurationVersion.objects.bump(ConfigurationVersion.Area.HEALTH)
        oldest = DatabaseNow() - timedelta(days=history_days)
        HealthCheck.objects.filter(checked_at__lt=oldest).delete()
        BreakerReset.objects.filter(ordered_at__lt=DatabaseNow() - timedelta(days=1)).delete()


class NoLedger:
    """A `core.ports.UsageSink` for a sweep without completions."""

    def opened(self, attempt: AttemptOpened) -> None:
        """No-op."""

    def settled(self, attempt: AttemptSettled) -> None:
        """No-op."""


class _Credentials:
    """The overrides by vendor, then the credentials of the configuration."""

    def __init__(
        self,
        table: RoutingTable,
        credentials: CredentialStore,
        overrides: Mapping[str, Credential],
    ) -> None:
        self._table = table
        self._credentials = credentials
        self._overrides = overrides

    def get(self, provider: str) -> Credential | None:
        """See `core.ports.CredentialStore`."""
        vendor = self._table.providers[provider].vendor
        return self._overrides.get(vendor) or self._credentials.get(provider)


class _CheckRun:
    """The calls of one sweep, in their own event loop, which another thread may cancel."""

    def __init__(
        self,
        providers: Sequence[ProviderToCheck],
        deep: bool,
        network: Network,
        settings: Settings,
        credentials: CredentialStore,
    ) -> None:
        self._subjects = providers
        self._deep = deep
        self._network = network
        self._settings = settings
        self._credentials = credentials
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False

    def run(self) -> list[CheckResult]:
        """Returns the results of all checks that finished in time."""
        return asyncio.run(self._ask())

    def cancel(self) -> None:
        """Cancels the calls. Called from another thread."""
        with self._lock:
            self._is_cancelled = True
            if self._loop is not None and self._task is not None:
                self._loop.call_soon_threadsafe(self._task.cancel)

    async def _ask(self) -> list[CheckResult]:
        network, settings = self._network, self._settings
        transport = network.transport()
        timeout = settings.health_check_timeout
        executor = Executor(
            transport=transport,
            credentials=self._credentials,
            breakers=NoBreakers(),
            limits=ProviderLimits(
                settings.connection_pool_size, len(self._subjects), network.clock
            ),
            sink=network.sink,
            clock=network.clock,
            timeouts=Timeouts(
                connect=settings.connect_timeout,
                first_token=timeout,
                idle=timeout,
                total=timeout,
                max_answer_bytes=settings.max_answer_bytes,
            ),
            # A check is always one attempt.
            retry_state=RetryState.of(Random(), retries=0, hedges=0),  # noqa: S311  # it keeps no secret
            keeps_messages=settings.ledger_error_messages,
        )
        checker = Checker(
            transport=transport,
            executor=executor,
            credentials=self._credentials,
            clock=network.clock,
            limits=Limits(settings.connect_timeout, timeout, settings.health_check_concurrency),
        )
        with self._lock:
            if self._is_cancelled:
                return []
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(MAX_SWEEP_SECONDS):
                    await checker.check(self._subjects, deep=self._deep)
        finally:
            with self._lock:
                self._loop = self._task = None
            await transport.aclose()
        return checker.results
