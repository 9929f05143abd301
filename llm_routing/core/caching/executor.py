"""An executor with a cache in front: identical requests share one upstream call.

`rules` and `idempotency` define which requests are identical and which answers are stored;
`single_flight` makes concurrent requests wait for the first.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from llm_routing.core.attempts.calls import Call
from llm_routing.core.attempts.chain import Result
from llm_routing.core.attempts.executor import Executor
from llm_routing.core.cached_answer import CachedAnswer
from llm_routing.core.errors import IdempotencyKeyReused, UpstreamError
from llm_routing.core.planner import RoutePlan
from llm_routing.core.ports import Clock, Credential, CredentialStore, FrameStream, Operation
from llm_routing.core.routing_table import ModelSpec, ProviderSpec, Target
from llm_routing.core.types import AttemptSummary, CacheState, Usage

from .flight import InFlight
from .keys import begun_digest, framed, owned_key
from .rules import CacheRule
from .single_flight import Rule, SingleFlightCache
from .streams import RecordedStream, ReplayedStream

KEY_VERSION = "4"
MAX_TURN_BYTES = 256 * 1024
"""A larger request is written for one target in one turn of the event loop."""
MAX_FIXED_SHAPES = 1_000
"""Maximum number of targets whose fixed part of the cache key is remembered."""


class HasRawBody(Protocol):
    """An answer that keeps the vendor's original body."""

    @property
    def raw(self) -> bytes:
        """The response body as received."""


_NO_HEADERS: Mapping[str, str] = {}

T = TypeVar("T")
OperationT = TypeVar("OperationT")
RawT = TypeVar("RawT", bound=HasRawBody)


class CachedResult(Struct, Generic[T], frozen=True):
    """An answer and its origin. `cost` is in USD, None if unknown (so far); `upstream_seconds` were
    spent waiting for providers or for another request's answer. `replayed` and `created` are as in
    `RoutingFacts`."""

    value: T
    target: Target
    cache: CacheState
    attempts: tuple[AttemptSummary, ...] = ()
    cost: Decimal | None = None
    upstream_seconds: float = 0.0
    ignored: tuple[str, ...] = ()
    replayed: bool = False
    created: int = 0
    upstream_headers: Mapping[str, str] = field(default_factory=dict)


class _Fixed(Struct, frozen=True):
    """An operation on a target, with the part of the cache key that is the same for all its
    requests, and the digest of a key that begins with it."""

    target: Target
    credential: Credential | None
    method: str
    path: str
    headers: Mapping[str, str]
    shape: bytes
    begun_key: blake2b


class CachedExecutor:
    """Runs plans as `Executor` does, or returns a cached answer. One per router.

    The rules of a request are tried in order, then the upstream; its answer is stored under all of
    them.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        cache: SingleFlightCache,
        idempotency: SingleFlightCache,
        credentials: CredentialStore,
        clock: Clock,
        secret: bytes,
    ) -> None:
        self._executor = executor
        self._cache = cache
        self._idempotency = idempotency
        self._credentials = credentials
        self._clock = clock
        self._secret = secret
        self._fixed: dict[int, _Fixed] = {}

    async def complete_uncached(
        self, operation: Operation[Any], plan: RoutePlan, call: Call
    ) -> CachedResult[Any]:
        """Returns an answer without using the caches. Raises the same errors as
        `Executor.complete`."""
        result = await self._executor.complete(operation, plan, call)
        return self._answered(result, result.value, CacheState.BYPASS)

    async def complete(
        self,
        operation: Operation[RawT],
        plan: RoutePlan,
        call: Call,
        rules: Sequence[Rule],
        state: CacheState = CacheState.BYPASS,
    ) -> CachedResult[RawT]:
        """Returns a whole answer. `state` is the result of the rules tried before. Raises
        `IdempotencyKeyReused` and the same errors as `Executor.complete`."""
        if not rules:
            result = await self._executor.complete(operation, plan, call)
            return self._answered(result, result.value, state)
        rule = rules[0]
        found = await self._find(operation, plan, call, rule, _parsed)
        if isinstance(found, CachedResult):
            return found
        try:
            answered = await self.complete(operation, plan, call, rules[1:], _missed(rule))
            value = answered.value
            if rule.is_cacheable(value):
                found.finish(_kept(answered, rule, value.raw, operation.usage(value)))
            else:
                found.finish_uncacheable()
        finally:
            await found.close()
        return answered

    async def open_stream(
        self,
        operation: Operation[Any],
        plan: RoutePlan,
        call: Call,
        rules: Sequence[Rule],
        state: CacheState = CacheState.BYPASS,
    ) -> CachedResult[FrameStream]:
        """Returns a stream whose first content has arrived; `state` as in `complete`. Raises
        `IdempotencyKeyReused` and the same errors as `Executor.open_stream`."""
        if not rules:
            result = await self._executor.open_stream(operation, plan, call)
            return self._answered(result, result.value, state)
        rule = rules[0]
        found = await self._find(operation, plan, call, rule, _replayed)
        if isinstance(found, CachedResult):
            return found
        try:
            answered = await self.open_stream(operation, plan, call, rules[1:], _missed(rule))
        except BaseException:
            await found.close()
            raise

        def keep_as(body: bytes, usage: Usage | None) -> CachedAnswer:
            return _kept(answered, rule, body, usage)

        recorded = RecordedStream(answered.value, found, rule, keep_as)
        return replace(answered, value=recorded)

    async def _find(
        self,
        operation: Operation[OperationT],
        plan: RoutePlan,
        call: Call,
        rule: Rule,
        read: Callable[[Operation[OperationT], Target, CachedAnswer], T],
    ) -> CachedResult[T] | InFlight:
        """Returns the cached answer or that of an identical request; otherwise a new flight."""
        began = self._clock.monotonic()

        # The annotations are quoted because this function is created anew for every request.
        def hit(cached: "CachedAnswer") -> "CachedResult[T] | None":
            if cached.fingerprint != rule.fingerprint:
                raise IdempotencyKeyReused(
                    "This idempotency key was used for another request; use a new one."
                )
            target = _target_of(plan, cached)
            try:
                value = read(operation, target, cached)
            except UpstreamError:
                # Written by an older release in a form that this one cannot parse.
                return None
            is_replayed = not isinstance(rule, CacheRule)
            return CachedResult(
                value,
                target,
                CacheState.BYPASS if is_replayed else CacheState.HIT,
                cost=Decimal(0),
                upstream_seconds=self._clock.monotonic() - began,
                ignored=cached.ignored,
                replayed=is_replayed,
                created=cached.created,
            )

        if isinstance(rule, CacheRule):
            key = await self._key(operation, plan, call)
            return await self._cache.find(key, rule, call.deadline, hit)
        return await self._idempotency.find(rule.key, rule, call.deadline, hit)

    def _answered(self, result: Result[Any], value: T, state: CacheState) -> CachedResult[T]:
        settled = result.attempt.settled
        return CachedResult(
            value,
            result.attempt.target,
            state,
            result.attempts,
            settled.cost if settled else None,
            result.upstream_seconds,
            result.ignored,
            False,
            int(self._clock.time()),
            result.attempt.upstream_headers,
        )

    async def _key(self, operation: Operation[Any], plan: RoutePlan, call: Call) -> str:
        """Returns a digest of everything that determines the answer: the tenant, and the request as
        it would be sent to each target of the plan.

        So it includes route defaults, vendor quirks and model changes, and excludes fields that are
        not sent (request id, labels, time limits). The order of the targets, which may be random,
        does not matter. Other tasks run between the targets of a large request.
        """
        tenant = call.caller.tenant
        key: blake2b | None = None
        parts: list[str | bytes] = []
        targets: Sequence[Target] = plan.targets
        if len(targets) > 1:
            targets = sorted(targets, key=lambda target: target.model.key)
        for target in targets:
            body: str | bytes
            try:
                wire = operation.build(target)
            except UpstreamError as error:
                fixed, body = self._fixed_part(target, "", "", _NO_HEADERS), error.code
            else:
                fixed = self._fixed_part(target, wire.method, wire.path, wire.headers)
                body = wire.body
                if len(body) > MAX_TURN_BYTES:
                    await asyncio.sleep(0)
            if key is None:
                key = fixed.begun_key.copy()
            else:
                parts.append(fixed.shape)
            parts.append(body)
        assert key is not None, "a plan has at least one target"
        parts += (operation.name, tenant)
        key.update(framed(parts))
        return owned_key(self._secret, tenant, key.hexdigest())

    def _fixed_part(
        self, target: Target, method: str, path: str, headers: Mapping[str, str]
    ) -> _Fixed:
        """Returns the part of the cache key for a target, a credential and an operation."""
        provider = target.provider
        credential = self._credentials.get(provider.name)
        known = self._fixed.get(id(target))
        # Target and credential are compared by identity. `_Fixed` keeps them alive, so that no new
        # object can get the same address.
        if (
            known is not None
            and known.target is target
            and known.credential is credential
            and known.path == path
            and known.method == method
            and known.headers == headers
        ):
            return known
        shape = framed(
            (
                provider.name,
                provider.format,
                provider.base_url,
                target.model.key,
                method,
                path,
                str(len(headers)),
                *_flat(headers),
                *_flat(credential.headers if credential else _NO_HEADERS),
            )
        )
        if len(self._fixed) >= MAX_FIXED_SHAPES:
            self._fixed.clear()
        begun_key = begun_digest(self._secret, (KEY_VERSION, shape))
        fixed = _Fixed(target, credential, method, path, headers, shape, begun_key)
        self._fixed[id(target)] = fixed
        return fixed


def _parsed(operation: Operation[RawT], target: Target, cached: CachedAnswer) -> RawT:
    value, usage = operation.parse(target, cached.body), cached.usage
    if usage is not None and usage.estimated:
        return operation.with_usage(value, usage)
    return value


def _replayed(operation: Operation[Any], target: Target, cached: CachedAnswer) -> FrameStream:
    return ReplayedStream(cached, operation.stream_parser(target))


def _flat(headers: Mapping[str, str]) -> list[str]:
    return [text for name in sorted(headers) for text in (name, headers[name])]


def _target_of(plan: RoutePlan, cached: CachedAnswer) -> Target:
    """Returns the target that gave the answer, even if the route no longer contains it."""
    origin = ((cached.provider, cached.model), cached.format)
    for target in plan.targets:
        if (target.key, target.provider.format) == origin:
            return target
    provider = ProviderSpec(cached.provider, vendor="", format=cached.format, base_url="")
    return Target(provider, ModelSpec(cached.provider, cached.model))


def _kept(
    answered: CachedResult[Any], rule: Rule, body: bytes, usage: Usage | None
) -> CachedAnswer:
    target = answered.target
    return CachedAnswer(
        *target.key,
        body,
        usage,
        answered.ignored,
        format=target.provider.format,
        created=answered.created,
        fingerprint=rule.fingerprint,
    )


def _missed(rule: Rule) -> CacheState:
    """Returns the state of an answer that came from no cache. The response cache's rule, if any, is
    the last one."""
    return CacheState.MISS if isinstance(rule, CacheRule) else CacheState.BYPASS
