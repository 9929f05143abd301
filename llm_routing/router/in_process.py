"""The in-process API: accepts texts and messages, returns answers and typed events.

Each call becomes a canonical request that the router answers.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, overload
from uuid import uuid4

from msgspec.structs import replace

from llm_routing.core.accumulator import Accumulator
from llm_routing.core.caching.idempotency import idempotency
from llm_routing.core.codec import encode
from llm_routing.core.embeddings import EmbeddingRequest, EmbeddingResponse
from llm_routing.core.errors import InvalidRequest
from llm_routing.core.events import AnswerEnded, StreamEvent
from llm_routing.core.types import Caller, Idempotency, LLMRequest, LLMResponse
from llm_routing.system.loops import run_sync

from .arguments import Messages, build_request
from .in_flight import RoutedStream


def new_request_id() -> str:
    """Returns a globally unique request id."""
    return f"req_{uuid4().hex}"


class InProcessCalls(ABC):
    """The methods for Django code, based on the three that answer canonical requests."""

    @abstractmethod
    async def respond(self, request: LLMRequest, caller: Caller, request_id: str) -> LLMResponse:
        """Returns the whole answer to a canonical request. Raises `LLMError`."""

    @abstractmethod
    async def open(self, request: LLMRequest, caller: Caller, request_id: str) -> RoutedStream:
        """Returns a stream whose first content has arrived. Raises `LLMError`."""

    @abstractmethod
    async def respond_embeddings(
        self, request: EmbeddingRequest, caller: Caller, request_id: str
    ) -> EmbeddingResponse:
        """Returns the vectors for a canonical request. Raises `LLMError`."""

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
        idempotency_key: str | None = None,
        tenant: str = "default",
        **params: Any,
    ) -> LLMResponse | AsyncGenerator[StreamEvent, None]:
        """Returns the answer to `messages`: a text, or messages in OpenAI's shape, which are not
        mutated.

        `use_case` and `tier` choose the route; `model_override` is an address that replaces them.
        The other overrides replace the route's defaults; a `system_prompt_override` together with a
        system message raises `InvalidRequest`. `cache` says whether the response cache may be used
        (None: if the request is deterministic), `cache_ttl` is the maximum age of an answer in
        seconds. `timeout` limits the whole call, in seconds. A repeated call with the same
        `idempotency_key` gets the same answer; a different call with that key raises
        `IdempotencyKeyReused`. `params` are parameters of OpenAI's chat completions (`tools`,
        `response_format`, `stop`, `seed`, …). With `stream=True` the result is that of `stream`.
        Raises `LLMError`.
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
        if idempotency_key is not None:
            route = (model_override, use_case, tier, system_prompt_override, stream)
            settings = (request.temperature, request.max_tokens, params)
            once = idempotency_of(idempotency_key, "complete", [messages, *route, *settings])
            request = replace(request, idempotency=once)
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
        """Does the same as `complete` for synchronous code, without streaming. Connections are
        reused between calls. Raises `LLMError`, or `RuntimeError` in a thread that runs an event
        loop."""
        return run_sync(self.complete(messages, use_case, tier, stream=False, **params))

    async def stream(
        self,
        messages: Messages,
        use_case: str | None = None,
        tier: str | None = None,
        **params: Any,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Yields the answer as typed events; the last is `AnswerEnded` with the whole response.

        Arguments as for `complete`. If you stop early, close the iterator (`contextlib.aclosing`).
        Raises `LLMError`, before the first event or later.
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
        """Returns the answer of a model that may call `tools` (OpenAI's shape); its calls are in
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
        idempotency_key: str | None = None,
        tenant: str = "default",
    ) -> EmbeddingResponse:
        """Returns the vectors for one text or several; `idempotency_key` as for `complete`. Raises
        `LLMError`."""
        texts = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        if not texts:
            raise InvalidRequest("No input to embed.", field="input")
        once = None
        if idempotency_key is not None:
            once = idempotency_of(
                idempotency_key, "embed", [texts, model, use_case, tier, dimensions]
            )
        request = EmbeddingRequest(
            texts,
            model=model,
            use_case=use_case,
            tier=tier,
            dimensions=dimensions,
            idempotency=once,
            timeout=timeout,
        )
        return await self.respond_embeddings(request, Caller(tenant=tenant), new_request_id())

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


def idempotency_of(key: str, scope: str, arguments: list[Any]) -> Idempotency:
    """Returns the idempotency of a call with these arguments. Raises `InvalidRequest`."""
    try:
        return idempotency(key, scope, [encode(arguments)])
    except ValueError as error:
        raise InvalidRequest("The request cannot be encoded as JSON.") from error
