"""The router: plans a request, executes it and reports how the answer was obtained.

`factory` builds routers.
"""

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from msgspec.structs import replace

from llm_routing.configuration.snapshot import SnapshotOrigin
from llm_routing.core.attempts.calls import Call, Timeouts
from llm_routing.core.attempts.executor import Executor
from llm_routing.core.attempts.limits import LimitStatus, ProviderLimits
from llm_routing.core.attempts.retry_state import RetryState
from llm_routing.core.caching.executor import CachedExecutor, CachedResult
from llm_routing.core.caching.idempotency import IdempotencyRule, idempotency_rule
from llm_routing.core.caching.ports import CacheSize
from llm_routing.core.caching.rules import cache_rule
from llm_routing.core.caching.single_flight import Rule
from llm_routing.core.capabilities import Capability
from llm_routing.core.embeddings import EmbeddingRequest, EmbeddingResponse
from llm_routing.core.errors import RoutingError
from llm_routing.core.planner import (
    Address,
    RoutePlan,
    buffers_stream,
    plan,
    required_capabilities,
    with_route_defaults,
)
from llm_routing.core.pricing import estimate_tokens
from llm_routing.core.routing_table import RoutingTable
from llm_routing.core.threads import ThreadIds
from llm_routing.core.types import Caller, Idempotency, LLMRequest, LLMResponse, RoutingFacts
from llm_routing.discovery.report import DiscoveryReport
from llm_routing.formats.content_urls import check_content_urls
from llm_routing.formats.operations import ChatOperation, CountTokensOperation, EmbeddingOperation
from llm_routing.formats.restrictions import RequestT, without_restricted_fields
from llm_routing.health.status import breaker_counts, health_status
from llm_routing.health.target_health import HealthRecordingBreakers
from llm_routing.metrics import RouterCounters
from llm_routing.process.admission import admission

from .in_flight import MeasuredRequest, RoutedStream, TokenCount
from .in_process import InProcessCalls
from .parts import RouterParts

_NOTHING: frozenset[str] = frozenset()


class BaseLLMRouter(InProcessCalls):
    """Answers requests by use case and tier. An async context manager; see `get_llm_router`."""

    def __init__(self, parts: RouterParts) -> None:
        settings = parts.settings
        self.config = config = parts.config
        self._parts = parts
        self._default = Address(use_case=config.default_use_case, tier=config.default_tier.value)
        self._is_closed = False
        self._counters = RouterCounters(parts.sink, parts.metrics)
        self._limits = ProviderLimits(
            settings.connection_pool_size, settings.max_queued, parts.clock
        )
        executor = Executor(
            transport=parts.transport,
            credentials=parts.credentials,
            breakers=HealthRecordingBreakers(
                parts.breakers, parts.target_health, parts.credential_breakers, parts.credentials
            ),
            limits=self._limits,
            sink=self._counters,
            clock=parts.clock,
            timeouts=Timeouts(
                connect=settings.connect_timeout,
                first_token=settings.first_token_timeout,
                idle=settings.idle_timeout,
                total=settings.total_timeout,
                max_answer_bytes=settings.max_answer_bytes,
            ),
            retry_state=RetryState.of(parts.rng, settings.retry_budget, settings.hedge_budget),
            keeps_messages=settings.ledger_error_messages,
        )
        self._executor = CachedExecutor(
            executor,
            cache=parts.cache,
            idempotency=parts.idempotency,
            credentials=parts.credentials,
            clock=parts.clock,
            secret=parts.cache_secret,
        )

    @property
    def table(self) -> RoutingTable:
        """The routing table in use; reading it does no I/O."""
        return self._parts.snapshots.current.table

    @property
    def configuration_origin(self) -> SnapshotOrigin:
        """The origin of the configuration in use."""
        return self._parts.snapshots.current.origin

    @property
    def cache_size(self) -> CacheSize:
        """The size of the response cache in memory."""
        return self._parts.cache.memory.size

    @property
    def provider_limits(self) -> Mapping[str, LimitStatus]:
        """The connections in use and the waiting calls, by provider."""
        return self._limits.statuses()

    async def respond(self, request: LLMRequest, caller: Caller, request_id: str) -> LLMResponse:
        """Returns the whole answer to a canonical request. Raises `LLMError`."""
        with self._measured(ChatOperation.name) as measured:
            route_plan, request, thread_ids = self._prepare_chat(request, caller, measured)
            call = await self._admit(route_plan, request.timeout, caller, request_id, measured)
            rules = self._rules(request, route_plan, caller)
            operation = ChatOperation(request, request_id, self._now(), thread_ids)
            result = await self._executor.complete(operation, route_plan, call, rules)
            facts = self._facts(result, route_plan, request_id, measured)
            measured.succeed()
            return LLMResponse(result.value, facts)

    async def open(self, request: LLMRequest, caller: Caller, request_id: str) -> RoutedStream:
        """Returns a stream whose first content has arrived. Raises `LLMError`."""
        with self._measured(ChatOperation.name) as measured:
            route_plan, request, thread_ids = self._prepare_chat(request, caller, measured)
            call = await self._admit(route_plan, request.timeout, caller, request_id, measured)
            rules = self._rules(request, route_plan, caller)
            operation = ChatOperation(request, request_id, self._now(), thread_ids)
            result = await self._executor.open_stream(operation, route_plan, call, rules)
            facts = self._facts(result, route_plan, request_id, measured)
            return RoutedStream(result.value, facts, self._parts.clock, measured)

    def buffers_stream(self, request: LLMRequest) -> bool:
        """Returns whether the route of a request holds streams back until they are complete, so
        that `open` may take as long as the whole answer. Raises `UnknownModel`."""
        address = Address(request.model, request.use_case, request.tier)
        return buffers_stream(self.table, address, self._default)

    async def respond_embeddings(
        self, request: EmbeddingRequest, caller: Caller, request_id: str
    ) -> EmbeddingResponse:
        """Returns the vectors for a canonical request. Raises `LLMError`."""
        with self._measured(EmbeddingOperation.name) as measured:
            address = Address(request.model, request.use_case, request.tier)
            route_plan = self._plan(address, Capability.EMBEDDINGS)
            request = self._permitted(request, route_plan, measured)
            call = await self._admit(route_plan, request.timeout, caller, request_id, measured)
            once = self._replay_rule(request.idempotency, caller)
            result = await self._executor.complete(
                EmbeddingOperation(request), route_plan, call, (once,) if once else ()
            )
            facts = self._facts(result, route_plan, request_id, measured)
            measured.succeed()
            return EmbeddingResponse(result.value, facts)

    async def count_tokens(
        self, request: LLMRequest, caller: Caller, request_id: str
    ) -> TokenCount:
        """Returns the tokens of a prompt: counted by the first target's vendor if it can, else
        estimated. Raises `LLMError`."""
        with self._measured(CountTokensOperation.name) as measured:
            route_plan, request = self._plan_chat(request)
            operation = CountTokensOperation(request)
            countable = tuple(
                target
                for target in route_plan.targets
                if target.provider.format == CountTokensOperation.format
            )
            first = route_plan.targets[0]
            if first in countable:
                counting = replace(route_plan, targets=countable)
                call = await self._admit(counting, request.timeout, caller, request_id, measured)
                with suppress(RoutingError):
                    result = await self._executor.complete_uncached(operation, counting, call)
                    facts = self._facts(result, counting, request_id, measured)
                    measured.succeed()
                    return TokenCount(result.value, False, facts)
            # No vendor could count; an estimate is more useful than an error.
            measured.succeed()
            facts = RoutingFacts(request_id, first.provider.name, first.model.model_id)
            return TokenCount(max(1, estimate_tokens(operation.input_length)), True, facts)

    def get_metrics(self) -> dict[str, float]:
        """Returns counts since the router was built, the size of its memory cache, and the state of
        the process's circuit breakers (docs/metrics.md)."""
        size = self.cache_size
        return {
            **self._counters.numbers(),
            "cache_hits_total": self._parts.cache.hits,
            "cache_misses_total": self._parts.cache.misses,
            "cache_evictions_total": size.evictions,
            "cache_entries": size.entries,
            "cache_bytes": size.bytes,
            "idempotent_replays_total": self._parts.idempotency.hits,
            **breaker_counts(self._parts.breakers),
        }

    async def get_health_status(self) -> dict[str, Any]:
        """Returns the health of the router: `status` is `healthy`, `degraded` (a target failed or
        cannot be used, or the database is unavailable) or `unhealthy` (no target can be used),
        with the configuration and every provider (docs/http.md). No I/O."""
        return health_status(
            self._parts.snapshots.current,
            self._parts.credentials,
            self._parts.target_health,
            self._parts.breakers,
            self._parts.credential_breakers,
            self._parts.records(),
        )

    @abstractmethod
    async def discover_available_models(
        self, *providers: str, dry_run: bool = False
    ) -> DiscoveryReport:
        """Returns the models that the named providers offer, or all providers in use. Raises
        `UnknownProvider`."""

    async def close(self) -> None:
        """Releases connections. A closed router is not returned again and rejects requests."""
        self._is_closed = True
        self._parts.on_close(self)
        await self._parts.cache.aclose()
        await self._parts.idempotency.aclose()
        await self._parts.transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _plan_chat(self, request: LLMRequest) -> tuple[RoutePlan, LLMRequest]:
        check_content_urls(request)
        address = Address(request.model, request.use_case, request.tier)
        route_plan = self._plan(address, Capability.CHAT, required_capabilities(request))
        return route_plan, with_route_defaults(request, route_plan.route)

    def _prepare_chat(
        self, request: LLMRequest, caller: Caller, measured: MeasuredRequest
    ) -> tuple[RoutePlan, LLMRequest, ThreadIds | None]:
        """Returns the plan of a chat request, the request as it may be sent and, if it belongs to a
        thread, the ids of its tenant's threads. Raises `LLMError`."""
        route_plan, request = self._plan_chat(request)
        request = self._permitted(request, route_plan, measured)
        if request.thread is None:
            return route_plan, request, None
        thread_ids = ThreadIds(self._parts.cache_secret, caller.tenant)
        return *thread_ids.follow(route_plan, request), thread_ids

    def _permitted(
        self, request: RequestT, route_plan: RoutePlan, measured: MeasuredRequest
    ) -> RequestT:
        """Returns the request without fields that its caller may not use. Raises
        `UnsupportedRequest`."""
        route = route_plan.route
        allowed = route.allowed_fields if route else _NOTHING
        request, measured.left_out = without_restricted_fields(request, allowed)
        return request

    def _rules(
        self, request: LLMRequest, route_plan: RoutePlan, caller: Caller
    ) -> tuple[Rule, ...]:
        """Returns the rules of the caches that may answer the request, in the order of lookups."""
        cached = cache_rule(request, route_plan.route, self._parts.settings.cache_ttl)
        rules = () if cached is None else (cached,)
        if request.idempotency is None:
            return rules
        once = self._replay_rule(request.idempotency, caller)
        return rules if once is None else (once, *rules)

    def _replay_rule(self, given: Idempotency | None, caller: Caller) -> IdempotencyRule | None:
        parts = self._parts
        return idempotency_rule(
            given, caller.tenant, parts.settings.idempotency_ttl, parts.cache_secret
        )

    def _plan(
        self, address: Address, operation: str, needs: frozenset[str] = frozenset()
    ) -> RoutePlan:
        return plan(
            self.table,
            address,
            operation=operation,
            needs=needs,
            unhealthy=self._parts.target_health.unhealthy,
            default=self._default,
            rng=self._parts.rng,
        )

    async def _admit(
        self,
        route_plan: RoutePlan,
        timeout: float | None,  # noqa: ASYNC109  # it bounds a chain of attempts
        caller: Caller,
        request_id: str,
        measured: MeasuredRequest,
    ) -> Call:
        """Returns the request, admitted until it ends. Raises `Overloaded`."""
        measured.route = route = route_plan.route
        began = measured.began
        limit = self._parts.settings.total_timeout
        if route and route.deadline is not None:
            limit = min(limit, route.deadline)
        seconds = limit
        for requested in (timeout, caller.deadline):
            if requested and requested < seconds:
                seconds = requested
        call = Call(request_id, caller, began + seconds, deadline_is_callers=seconds < limit)
        measured.slot = admission.try_acquire() or await admission.acquire(call.deadline)
        return call

    def _now(self) -> int:
        return int(self._parts.clock.time())

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("This router is closed. Get another one with get_llm_router().")

    def _measured(self, operation: str) -> MeasuredRequest:
        self._check_open()
        return MeasuredRequest(operation, self._counters, self._parts.clock)

    def _facts(
        self,
        result: CachedResult[Any],
        route_plan: RoutePlan,
        request_id: str,
        measured: MeasuredRequest,
    ) -> RoutingFacts:
        elapsed = self._parts.clock.monotonic() - measured.began
        route = route_plan.route
        facts = RoutingFacts(
            request_id=request_id,
            provider=result.target.provider.name,
            model=result.target.model.model_id,
            use_case=route.use_case if route else "",
            tier=route.tier if route else "",
            attempts=result.attempts,
            cache=result.cache,
            cost=result.cost,
            latency_ms=elapsed * 1000,
            overhead_ms=max(elapsed - result.upstream_seconds, 0.0) * 1000,
            ignored=(
                tuple(dict.fromkeys((*measured.left_out, *result.ignored)))
                if measured.left_out
                else result.ignored
            ),
            replayed=result.replayed,
            created=result.created,
            upstream_headers=result.upstream_headers,
        )
        measured.answered(facts)
        return facts
