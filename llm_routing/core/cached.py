"""The executor behind the response cache: of many equal requests one asks upstream.

What is kept is decided in `cache`; where, behind the ports.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from .cache import CachedAnswer, CacheRule, digest, is_worth_keeping
from .errors import UpstreamError
from .executor import Call, Executor, Result
from .flight import Flight, Flights, Landing
from .planner import RoutePlan
from .ports import (
    Clock,
    CredentialStore,
    Found,
    FrameStream,
    Lease,
    NoLease,
    Operation,
    ResponseCache,
    SharedCache,
)
from .replay import RecordedStream, ReplayedStream
from .routing_table import Target
from .types import AttemptSummary, CacheState, Completion, Usage

T = TypeVar("T")

KEY_VERSION = "1"
MOST_WAITS = 3
FIRST_POLL = 0.01
LAST_POLL = 0.1


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """An answer and where it is from. `cost` is in USD, None where it is not known (yet);
    `upstream_seconds` went by waiting for providers, or for another request's answer."""

    value: T
    target: Target
    cache: CacheState
    attempts: tuple[AttemptSummary, ...] = ()
    cost: Decimal | None = None
    upstream_seconds: float = 0.0
    ignored: tuple[str, ...] = ()


class CachedExecutor:
    """Runs plans as `Executor` does, or has the answer already. One for a router."""

    def __init__(
        self,
        executor: Executor,
        *,
        memory: ResponseCache,
        shared: SharedCache | None,
        credentials: CredentialStore,
        clock: Clock,
        secret: bytes,
    ) -> None:
        self.hits = self.misses = 0
        self._executor = executor
        self._memory = memory
        self._shared = shared
        self._credentials = credentials
        self._clock = clock
        self._secret = secret
        self._flights: WeakKeyDictionary[asyncio.AbstractEventLoop, Flights] = WeakKeyDictionary()

    async def ask(self, operation: Operation[T], plan: RoutePlan, call: Call) -> Answered[T]:
        """The answer to what is never cached. Raises as `Executor.complete` does."""
        result = await self._executor.complete(operation, plan, call)
        return _answered(result, result.value, CacheState.BYPASS)

    async def complete(
        self,
        operation: Operation[Completion],
        plan: RoutePlan,
        call: Call,
        rule: CacheRule | None,
    ) -> Answered[Completion]:
        """A whole answer. Raises as `Executor.complete` does."""
        if rule is None:
            return await self.ask(operation, plan, call)

        def parse(target: Target, cached: CachedAnswer) -> Completion:
            return operation.parse(target, cached.body)

        found = await self._find(operation, plan, call, rule, parse)
        if isinstance(found, Answered):
            return found
        try:
            result = await self._executor.complete(operation, plan, call)
            if is_worth_keeping(result.value, rule):
                found.keep(_kept(result, result.value.raw, result.value.usage))
            else:
                found.refuse()
        finally:
            await found.close()
        return _answered(result, result.value, CacheState.MISS)

    async def open_stream(
        self,
        operation: Operation[Any],
        plan: RoutePlan,
        call: Call,
        rule: CacheRule | None,
    ) -> Answered[FrameStream]:
        """A stream whose first content has come. Raises as `Executor.open_stream` does."""
        if rule is None:
            result = await self._executor.open_stream(operation, plan, call)
            return _answered(result, result.value, CacheState.BYPASS)

        def replay(target: Target, cached: CachedAnswer) -> FrameStream:
            return ReplayedStream(cached, operation.stream_parser(target))

        found = await self._find(operation, plan, call, rule, replay)
        if isinstance(found, Answered):
            return found
        try:
            result = await self._executor.open_stream(operation, plan, call)
        except BaseException:
            await found.close()
            raise
        recorded = RecordedStream(
            result.value, found, rule, lambda body, usage: _kept(result, body, usage)
        )
        return _answered(result, recorded, CacheState.MISS)

    async def _find(
        self,
        operation: Operation[Any],
        plan: RoutePlan,
        call: Call,
        rule: CacheRule,
        read: Callable[[Target, CachedAnswer], T],
    ) -> Answered[T] | Flight:
        """What the cache has, or what an equal request brings while we wait; else a flight."""
        key = digest(self._secret, _shape(operation, plan, call, self._credentials))
        began = self._clock.monotonic()

        def hit(cached: CachedAnswer) -> Answered[T] | None:
            target = _target_of(plan, cached)
            try:
                value = read(target, cached)
            except UpstreamError:
                # What an older release wrote and this one does not read.
                return None
            self.hits += 1
            waited = self._clock.monotonic() - began
            return Answered(
                value,
                target,
                CacheState.HIT,
                cost=Decimal(0),
                upstream_seconds=waited,
                ignored=cached.ignored,
            )

        if rule.reads:
            found = await self._look(key, rule, call, hit)
            if found is not None:
                return found
        self.misses += 1
        return Flight(key, rule.ttl, self._memory, self._shared)

    async def _look(
        self,
        key: str,
        rule: CacheRule,
        call: Call,
        hit: Callable[[CachedAnswer], Answered[T] | None],
    ) -> Answered[T] | Flight | None:
        """An answer, the flight that others wait for, or None to go alone."""
        flights = self._flights.setdefault(asyncio.get_running_loop(), {})
        for _ in range(MOST_WAITS):
            cached = self._memory.get(key, rule.ttl)
            if cached is None:
                if key not in flights:
                    return await self._lead(key, rule, call, flights, hit)
                waiting = flights[key]
                # Time is left to go alone where the one who leads does not come back.
                await asyncio.wait({waiting}, timeout=self._patience(call))
                outcome = waiting.result() if waiting.done() else Landing.NOT_KEPT
                if outcome is Landing.FAILED:
                    continue
                if outcome is Landing.NOT_KEPT:
                    return None
                cached = outcome
            return hit(cached)
        return None

    async def _lead(
        self,
        key: str,
        rule: CacheRule,
        call: Call,
        flights: Flights,
        hit: Callable[[CachedAnswer], Answered[T] | None],
    ) -> Answered[T] | Flight:
        flight = Flight(key, rule.ttl, self._memory, self._shared, flights)
        if self._shared is not None:
            try:
                claimed = await self._claim(self._shared, key, rule, call)
            except BaseException:
                await flight.close()
                raise
            if isinstance(claimed, Found):
                found = hit(claimed.answer)
                if found is not None:
                    self._memory.put(key, claimed.answer, claimed.ttl, age=claimed.age)
                    flight.hand_on(claimed.answer)
                    return found
            elif not isinstance(claimed, NoLease):
                flight.take(claimed)
        self.misses += 1
        return flight

    async def _claim(
        self, shared: SharedCache, key: str, rule: CacheRule, call: Call
    ) -> Found | Lease | NoLease:
        """What `SharedCache.claim` says once nobody else has the lease, or patience is over."""
        until = self._clock.monotonic() + self._patience(call)
        poll = FIRST_POLL
        while (claimed := await shared.claim(key, rule.ttl)) is NoLease.BUSY:
            if self._clock.monotonic() + poll > until:
                break
            await asyncio.sleep(poll)
            poll = min(poll * 1.5, LAST_POLL)
        return claimed

    def _patience(self, call: Call) -> float:
        """Seconds to wait for another's answer: half of what is left."""
        return max(0.0, call.deadline - self._clock.monotonic()) / 2


def _shape(
    operation: Operation[Any], plan: RoutePlan, call: Call, credentials: CredentialStore
) -> Iterator[str | bytes]:
    """All that shapes the answer: for whom, and what every target of the plan would be sent.

    So route defaults, a vendor's quirks and a changed model are in it, and what is not sent (the
    request id, labels, limits of time) is not. The order of the targets, which may be drawn by
    lot, makes no difference.
    """
    yield from (KEY_VERSION, call.caller.tenant, operation.name)
    for target in sorted(plan.targets, key=lambda target: target.model.key):
        provider = target.provider
        yield from (provider.name, provider.format, provider.base_url, target.model.key)
        try:
            wire = operation.build(target)
        except UpstreamError as error:
            yield error.code
            continue
        yield from (wire.method, wire.path, wire.body)
        credential = credentials.get(provider.name)
        for headers in (wire.headers, credential.headers if credential else {}):
            yield str(len(headers))
            for name in sorted(headers):
                yield from (name, headers[name])


def _target_of(plan: RoutePlan, cached: CachedAnswer) -> Target:
    """The target that gave the answer: it is in the plan, since the key names every target."""
    origin = (cached.provider, cached.model)
    return next(
        target for target in plan.targets if (target.provider.name, target.model.model_id) == origin
    )


def _kept(result: Result[Any], body: bytes, usage: Usage | None) -> CachedAnswer:
    target = result.attempt.target
    return CachedAnswer(target.provider.name, target.model.model_id, body, usage, result.ignored)


def _answered(result: Result[Any], value: T, cache: CacheState) -> Answered[T]:
    settled = result.attempt.settled
    return Answered(
        value,
        result.attempt.target,
        cache,
        attempts=result.attempts,
        cost=settled.cost if settled else None,
        upstream_seconds=result.upstream_seconds,
        ignored=result.ignored,
    )
