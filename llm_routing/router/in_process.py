"""The in-process API: texts and messages in, answers and typed events out.

Each call becomes a canonical request; answering that is `router`'s.
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
    """An id for a request, unique everywhere."""
    return f"req_{uuid4().hex}"


class InProcessCalls(ABC):
    """The methods for Django code, on top of the three that answer canonical requests."""

    @abstractmethod
    async def respond(self, request: LLMRequest, caller: Caller, request_id: str) -> LLMResponse:
        """The whole answer to a canonical request. Raises `LLMError`."""

    @abstractmethod
    async def open(self, request: LLMRequest, caller: Caller, request_id: str) -> RoutedStream:
        """A stream whose first content has come. Raises `LLMError`."""

    @abstractmethod
    async def respond_embeddings(
        self, request: EmbeddingRequest, caller: Caller, request_id: str
    ) -> EmbeddingResponse:
        """Vectors for a canonical request. Raises `LLMError`."""

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
        """The answer to `messages`: a text, or messages in OpenAI's shape, which are not mutated.

        `use_case` and `tier` choose the route, `model_override` is an address instead of them. The
        overrides replace what the route says; a `system_prompt_override` beside a system message
        is refused. `cache` says whether the answer may come from the response cache and go into it
        (None: if the request is deterministic), `cache_ttl` how many seconds old it may be.
        `timeout` is in seconds, for everything together. The same call again with the same
        `idempotency_key` gets the same answer, another one is refused. `params` are parameters of
        OpenAI's chat completions (`tools`, `response_format`, `stop`, `seed`, …). With
        `stream=True` the result is what `stream` gives. Raises `LLMError`.
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
            said = (model_override, use_case, tier, system_prompt_override, stream)
            chosen = (request.temperature, request.max_tokens, params)
            once = idempotency_of(idempotency_key, "complete", [messages, *said, *chosen])
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
        idempotency_key: str | None = None,
        tenant: str = "default",
    ) -> EmbeddingResponse:
        """Vectors for one text or several; `idempotency_key` as for `complete`. Raises
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


def idempotency_of(key: str, scope: str, asked: list[Any]) -> Idempotency:
    """The idempotency of a call with the arguments `asked`. Raises `InvalidRequest`."""
    try:
        return idempotency(key, scope, [encode(asked)])
    except ValueError as error:
        raise InvalidRequest("The request cannot be written as JSON.") from error
