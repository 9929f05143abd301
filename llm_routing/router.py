"""The routers: one core under the static and the dynamic one, and what programs call.

From a request to an answer: plan, execute, tell how it came about. Building them is `factory`'s.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from random import Random
from types import TracebackType
from typing import Any, Literal, Self, overload
from uuid import uuid4

from .conf import Settings
from .core.accumulate import Accumulator
from .core.cache import CacheRule, cache_rule
from .core.cached import Answered, CachedExecutor
from .core.config import RouterConfig
from .core.errors import InvalidRequest
from .core.events import AnswerEnded, StreamEvent
from .core.executor import Call, Executor, Timeouts
from .core.planner import (
    CHAT,
    EMBEDDINGS,
    Address,
    RoutePlan,
    needs_of,
    plan,
    with_route_defaults,
)
from .core.ports import (
    BreakerRegistry,
    CacheSize,
    Clock,
    Credential,
    MetricsSink,
    ResponseCache,
    SharedCache,
    Transport,
    UsageSink,
)
from .core.pricing import estimate_tokens
from .core.routing_table import RoutingTable
from .core.types import (
    Caller,
    EmbeddingRequest,
    EmbeddingResponse,
    LLMRequest,
    LLMResponse,
    RoutingFacts,
)
from .discovery.report import DiscoveryReport
from .discovery.run import compare, discover
from .formats.operations import ChatOperation, CountTokensOperation, EmbeddingOperation
from .health.signs import HealthSigns, WatchedBreakers
from .health.status import breaker_counts, health_status
from .loops import run_sync
from .metrics import MeasuredSink, Tally
from .requests import Messages, build_request
from .routed import MeasuredRequest, RoutedStream, TokenCount
from .snapshot import Snapshot, SnapshotSource


def new_request_id() -> str:
    """An id for a request, unique everywhere."""
    return f"req_{uuid4().hex}"


class BaseLLMRouter(ABC):
    """Answers requests by use case and tier. An async context manager; see `get_llm_router`."""

    def __init__(
        self,
        *,
        transport: Transport,
        sink: UsageSink,
        metrics: MetricsSink,
        breakers: BreakerRegistry,
        signs: HealthSigns,
        memory: ResponseCache,
        shared: SharedCache | None,
        cache_secret: bytes,
        clock: Clock,
        settings: Settings,
        config: RouterConfig,
        rng: Random,
        on_close: Callable[["BaseLLMRouter"], None],
    ) -> None:
        self.config = config
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._total_timeout = settings.total_timeout
        self._cache_ttl = settings.cache_ttl
        self._breakers = breakers
        self._signs = signs
        self._memory = memory
        self._shared = shared
        self._default = Address(use_case=config.default_use_case, tier=config.default_tier.value)
        self._on_close = on_close
        self._tally = Tally(metrics)
        executor = Executor(
            transport=transport,
            credentials=self,
            breakers=WatchedBreakers(breakers, signs),
            sink=MeasuredSink(sink, self._tally),
            clock=clock,
            timeouts=Timeouts(
                connect=settings.connect_timeout,
                first_token=settings.first_token_timeout,
                idle=settings.idle_timeout,
                total=settings.total_timeout,
                max_answer_bytes=settings.max_answer_bytes,
            ),
            rng=rng,
        )
        self._executor = CachedExecutor(
            executor,
            memory=memory,
            shared=shared,
            credentials=self,
            clock=clock,
            secret=cache_secret,
        )

    @property
    @abstractmethod
    def snapshot(self) -> Snapshot:
        """The configuration in use: an attribute read, never I/O."""

    @property
    def table(self) -> RoutingTable:
        """The routing table in use."""
        return self.snapshot.table

    @property
    def cache_size(self) -> CacheSize:
        """What its response cache in memory holds now."""
        return self._memory.size

    def get(self, provider: str) -> Credential | None:
        """The provider's credential in the configuration in use (`core.ports.CredentialStore`)."""
        return self.snapshot.credentials.get(provider)

    @overload
    async def complete(
        self,
        messages: Messages,
        use_case: str | None = None,
        tier: str | None = None,
        *,
        stream: Literal[False] = False,
        **params: Any,
    ) -> LLMResponse: ...

    @overload
    async def complete(
        self,
        messages: Messages,
        use_case: str | None = None,
        tier: str | None = None,
        *,
        stream: Literal[True],
        **params: Any,
    ) -> AsyncGenerator[StreamEvent, None]: ...

    async def complete(
        self,
        messages: Messages,
        use_case: str | None = None,
        tier: str | None = None,
        *,
        model_override: str | None = None,
        temperature_override: float | None = None,
        max_tokens_override: int | None = None,
        system_prompt_override: str | None = None,
        stream: bool = False,
        cache: bool | None = None,
        cache_ttl: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # it bounds a chain of attempts
        metadata: Mapping[str, str] | None = None,
        tenant: str = "default",
        **params: Any,
    ) -> LLMResponse | AsyncGenerator[StreamEvent, None]:
        """The answer to `messages`: a text, or messages in OpenAI's shape, which are not mutated.

        `use_case` and `tier` choose the route, `model_override` is an address instead of them. The
        overrides replace what the route says; a `system_prompt_override` beside a system message
        is refused. `cache` says whether the answer may come from the response cache and go into it
        (None: if the request is deterministic), `cache_ttl` how many seconds old it may be.
        `timeout` is in seconds, for everything together. `params` are parameters of OpenAI's chat
        completions (`tools`, `response_format`, `stop`, `seed`, …). With `stream=True` the result
        is what `stream` gives. Raises `LLMError`.
        """
        request = build_request(
            messages,
            model=model_override,
            use_case=use_case,
            tier=tier,
            temperature=temperature_override,
            max_tokens=max_tokens_override,
            system_prompt=system_prompt_override,
            cache=cache,
            cache_ttl=cache_ttl,
            timeout=timeout,
            metadata=metadata or {},
            params=params,
        )
        caller = Caller(tenant=tenant)
        if stream:
            return self._events(replace(request, stream=True, include_usage=True), caller)
        return await self.respond(request, caller, new_request_id())

    def complete_sync(
        self,
        messages: Messages,
        use_case: str | None = None,
        tier: str | None = None,
        **params: Any,
    ) -> LLMResponse:
        """`complete` for synchronous code, whole answers only. Connections are kept from call to
        call. Raises `LLMError`; `RuntimeError` in a thread that runs an event loop."""
        return run_sync(self.complete(messages, use_case, tier, stream=False, **params))

    async def stream(
        self,
        messages: Messages,
        use_case: str | None = None,
        tier: str | None = None,
        **params: Any,
    ) -> AsyncGenerator[StreamEvent, None]:
        """The answer as typed events, the last of which is `AnswerEnded` with the whole response.

        Arguments as for `complete`. Close the iterator (`contextlib.aclosing`) where it is left
        early. Raises `LLMError`, before the first event or in the middle.
        """
        async for event in await self.complete(messages, use_case, tier, stream=True, **params):
            yield event

    async def complete_with_tools(
        self,
        messages: Messages,
        tools: Sequence[Mapping[str, Any]],
        use_case: str | None = None,
        tier: str | None = None,
        **params: Any,
    ) -> LLMResponse:
        """The answer of a model that may call `tools` (OpenAI's shape); its calls are in
        `LLMResponse.tool_calls`. Other arguments as for `complete`. Raises `LLMError`."""
        params["tools"] = list(tools)
        return await self.complete(messages, use_case, tier, stream=False, **params)

    async def embed(
        self,
        inputs: str | Sequence[str],
        *,
        model: str | None = None,
        use_case: str | None = None,
        tier: str | None = None,
        dimensions: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # it bounds a chain of attempts
        tenant: str = "default",
    ) -> EmbeddingResponse:
        """Vectors for one text or several. Raises `LLMError`."""
        texts = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        if not texts:
            raise InvalidRequest("There is nothing to embed.", field="input")
        request = EmbeddingRequest(
            texts,
            model=model,
            use_case=use_case,
            tier=tier,
            dimensions=dimensions,
            timeout=timeout,
        )
        return await self.respond_embeddings(request, Caller(tenant=tenant), new_request_id())

    async def respond(self, request: LLMRequest, caller: Caller, request_id: str) -> LLMResponse:
        """The whole answer to a canonical request. Raises `LLMError`."""
        with self._measured(ChatOperation.name) as measured:
            route_plan, request = self._plan_chat(request)
            call = self._call(route_plan, request.timeout, caller, request_id, measured)
            result = await self._executor.complete(
                ChatOperation(request), route_plan, call, self._cache_rule(request, route_plan)
            )
            facts = self._facts(result, route_plan, request_id, measured)
            measured.succeed()
            return LLMResponse(result.value, facts)

    async def open(self, request: LLMRequest, caller: Caller, request_id: str) -> RoutedStream:
        """A stream whose first content has come. Raises `LLMError`."""
        with self._measured(ChatOperation.name) as measured:
            route_plan, request = self._plan_chat(request)
            call = self._call(route_plan, request.timeout, caller, request_id, measured)
            result = await self._executor.open_stream(
                ChatOperation(request), route_plan, call, self._cache_rule(request, route_plan)
            )
            facts = self._facts(result, route_plan, request_id, measured)
            return RoutedStream(result.value, facts, self._clock, measured)

    async def respond_embeddings(
        self, request: EmbeddingRequest, caller: Caller, request_id: str
    ) -> EmbeddingResponse:
        """Vectors for a canonical request. Raises `LLMError`."""
        with self._measured(EmbeddingOperation.name) as measured:
            address = Address(request.model, request.use_case, request.tier)
            route_plan = self._plan(address, EMBEDDINGS)
            call = self._call(route_plan, request.timeout, caller, request_id, measured)
            result = await self._executor.ask(EmbeddingOperation(request), route_plan, call)
            facts = self._facts(result, route_plan, request_id, measured)
            measured.succeed()
            return EmbeddingResponse(result.value, facts)

    async def count_tokens(
        self, request: LLMRequest, caller: Caller, request_id: str
    ) -> TokenCount:
        """The tokens of a prompt: counted by the first target's vendor if it can, else estimated.
        Raises `LLMError`."""
        with self._measured(CountTokensOperation.name) as measured:
            route_plan, request = self._plan_chat(request)
            operation = CountTokensOperation(request)
            countable = tuple(
                target
                for target in route_plan.targets
                if target.provider.format == CountTokensOperation.format
            )
            first = route_plan.targets[0]
            if first not in countable:
                measured.succeed()
                facts = RoutingFacts(request_id, first.provider.name, first.model.model_id)
                return TokenCount(estimate_tokens(operation.input_length), True, facts)
            route_plan = replace(route_plan, targets=countable)
            call = self._call(route_plan, request.timeout, caller, request_id, measured)
            result = await self._executor.ask(operation, route_plan, call)
            facts = self._facts(result, route_plan, request_id, measured)
            measured.succeed()
            return TokenCount(result.value, False, facts)

    def get_metrics(self) -> dict[str, float]:
        """Counts since the router was built, what its cache in memory holds now, and how the
        circuit breakers of the process stand (docs/metrics.md)."""
        size = self.cache_size
        return {
            **self._tally.numbers(),
            "cache_hits_total": self._executor.hits,
            "cache_misses_total": self._executor.misses,
            "cache_evictions_total": size.evictions,
            "cache_entries": size.entries,
            "cache_bytes": size.bytes,
            **breaker_counts(self._breakers),
        }

    async def get_health_status(self) -> dict[str, Any]:
        """How the router stands: `status` is `healthy`, `degraded` (something cannot be asked or
        has failed, or the database is away) or `unhealthy` (nothing can be asked), with the
        configuration and every provider beside it (docs/health.md). No I/O."""
        return health_status(self.snapshot, self, self._signs, self._breakers)

    @abstractmethod
    async def discover_available_models(
        self, *providers: str, dry_run: bool = False
    ) -> DiscoveryReport:
        """Reads what every provider in use offers, or those named. Raises `UnknownProvider`."""

    async def close(self) -> None:
        """Releases connections; a closed router is not handed out again."""
        self._on_close(self)
        if self._shared is not None:
            await self._shared.aclose()
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _events(
        self, request: LLMRequest, caller: Caller
    ) -> AsyncGenerator[StreamEvent, None]:
        accumulator = Accumulator()
        async with aclosing(await self.open(request, caller, new_request_id())) as stream:
            async for batch in stream:
                for frame in batch:
                    for event in frame.events:
                        if not isinstance(event, AnswerEnded):
                            accumulator.add(event)
                            yield event
            completion = accumulator.completion()
            if completion.usage is None:
                completion = replace(completion, usage=stream.usage)
            yield AnswerEnded(LLMResponse(completion, stream.response_facts()))

    def _plan_chat(self, request: LLMRequest) -> tuple[RoutePlan, LLMRequest]:
        address = Address(request.model, request.use_case, request.tier)
        route_plan = self._plan(address, CHAT, needs_of(request))
        return route_plan, with_route_defaults(request, route_plan.route)

    def _cache_rule(self, request: LLMRequest, route_plan: RoutePlan) -> CacheRule | None:
        return cache_rule(request, route_plan.route, self._cache_ttl)

    def _plan(
        self, address: Address, operation: str, needs: frozenset[str] = frozenset()
    ) -> RoutePlan:
        return plan(
            self.table,
            address,
            operation=operation,
            needs=needs,
            unhealthy=self._signs.unhealthy,
            default=self._default,
            rng=self._rng,
        )

    def _call(
        self,
        route_plan: RoutePlan,
        timeout: float | None,
        caller: Caller,
        request_id: str,
        measured: MeasuredRequest,
    ) -> Call:
        measured.route = route_plan.route
        began = measured.began
        limit = self._total_timeout
        if route_plan.route and route_plan.route.deadline is not None:
            limit = min(limit, route_plan.route.deadline)
        if timeout is None or timeout >= limit:
            return Call(request_id, caller, deadline=began + limit)
        return Call(request_id, caller, deadline=began + timeout, is_hurried=True)

    def _measured(self, operation: str) -> MeasuredRequest:
        return MeasuredRequest(operation, self._tally, self._clock)

    def _facts(
        self,
        result: Answered[Any],
        route_plan: RoutePlan,
        request_id: str,
        measured: MeasuredRequest,
    ) -> RoutingFacts:
        elapsed = self._clock.monotonic() - measured.began
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
            ignored=result.ignored,
        )
        measured.answered(facts)
        return facts


class StaticLLMRouter(BaseLLMRouter):
    """Works from built-in mappings, without a database."""

    def __init__(self, snapshot: Snapshot, **core: Any) -> None:
        super().__init__(**core)
        self._snapshot = snapshot

    @property
    def snapshot(self) -> Snapshot:
        """The built-in mappings."""
        return self._snapshot

    async def discover_available_models(
        self, *providers: str, dry_run: bool = False
    ) -> DiscoveryReport:
        """What the providers offer beside the built-in models; nothing is written."""
        return await compare(self._transport, self.table, self, providers)


class DynamicLLMRouter(BaseLLMRouter):
    """Works from the models that operators edit; a change is in use with the next request."""

    def __init__(
        self, source: SnapshotSource, overrides: Mapping[str, Credential], **core: Any
    ) -> None:
        super().__init__(**core)
        self._source = source
        self._overrides = overrides

    @property
    def snapshot(self) -> Snapshot:
        """The current snapshot of the database."""
        return self._source.current

    def get(self, provider: str) -> Credential | None:
        """The credential of `RouterConfig` for the provider's vendor, else of the configuration."""
        spec = self.table.providers.get(provider)
        override = self._overrides.get(spec.vendor) if spec else None
        return override or super().get(provider)

    async def discover_available_models(
        self, *providers: str, dry_run: bool = False
    ) -> DiscoveryReport:
        """Reads what the providers offer, adds new models as inactive rows and marks those that
        have vanished; `dry_run` writes nothing. Raises `UnknownProvider`, `django.db.Error`."""
        return await discover(
            self._transport, providers, overrides=self._overrides, dry_run=dry_run
        )
