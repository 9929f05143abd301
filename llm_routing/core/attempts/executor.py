"""Runs plans: sends the request to a target and reads its answer, whole or streamed.

It knows no wire format and no network: those come in as `Operation` and `Transport`. `chain`
decides which target comes next.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from llm_routing.core import timers
from llm_routing.core.capabilities import Capability
from llm_routing.core.errors import (
    CredentialRejected,
    DeadlineCut,
    DeadlineExceeded,
    FirstTokenTimeout,
    UpstreamError,
    UpstreamTimeout,
)
from llm_routing.core.ids import new_id
from llm_routing.core.planner import RoutePlan
from llm_routing.core.ports import (
    AttemptOpened,
    BreakerStore,
    Clock,
    CredentialStore,
    FrameStream,
    Operation,
    Transport,
    UpstreamResponse,
    UsageSink,
)
from llm_routing.core.pricing import estimate_tokens
from llm_routing.core.redaction import masked_body
from llm_routing.core.routing_table import ProviderSpec, StreamRecovery, Target

from .attempt import Attempt
from .calls import Call, Result, Timeouts
from .chain import Ask, Chain, RetryState
from .continuation import ContinuedStream
from .failure_attribution import FailureAttribution
from .gate import Admitted, Gate
from .limits import ProviderLimits
from .retry import parse_retry_after
from .stream import AnswerStream

ResultT = TypeVar("ResultT")
T = TypeVar("T")

MAX_ERROR_BODY_BYTES = 64 * 1024
MAX_ERROR_BODY_SECONDS = 5.0


class Executor:
    """Runs plans. One per router; holds no state of a request."""

    def __init__(
        self,
        *,
        transport: Transport,
        credentials: CredentialStore,
        breakers: BreakerStore,
        limits: ProviderLimits,
        sink: UsageSink,
        clock: Clock,
        timeouts: Timeouts,
        retry_state: RetryState,
        keeps_messages: bool = True,
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self._gate = Gate(breakers, limits, clock)
        self._sink = sink
        self._clock = clock
        self._timeouts = timeouts
        self._retry_state = retry_state
        self._keeps_messages = keeps_messages
        self._attribution = FailureAttribution()

    def complete(
        self, operation: Operation[ResultT], plan: RoutePlan, call: Call
    ) -> Coroutine[Any, Any, Result[ResultT]]:
        """Returns the first complete answer.

        Raises `AllTargetsFailed`, `NoTargetAvailable` (no provider could be called),
        `DeadlineExceeded`, or the failure itself if it concerns the request and not a target
        (`RequestRejected`, `ContentFiltered`, …).
        """

        # The annotations are quoted because this function is created anew for every request.
        async def ask(attempt: "Attempt") -> "tuple[ResultT, tuple[str, ...]]":
            timeouts = self._timeouts.overridden_by(plan.route, attempt.target.provider)
            left = min(attempt.share, self._left(call))
            limit = min(timeouts.total, left)
            try:
                with timers.timeout(limit):
                    answer, ignored = await self._send(operation, attempt, timeouts)
                    try:
                        with attempt.waiting:
                            body = await answer.read(timeouts.max_answer_bytes)
                    finally:
                        await answer.aclose()
                        attempt.slot.release()
            except TimeoutError:
                error = DeadlineCut if left < timeouts.total else UpstreamTimeout
                raise error(f"No answer within {limit:.3g} s.") from None
            result = operation.parse(attempt.target, body)
            usage = operation.usage(result)
            attempt.succeed(usage, operation.output_length(result))
            settled = attempt.settled
            if settled is not None and settled.usage is not usage and settled.usage is not None:
                result = operation.with_usage(result, settled.usage)
            return result, ignored

        return self._chain(operation, plan, call, ask, "whole", _leave).run()

    async def open_stream(
        self, operation: Operation[Any], plan: RoutePlan, call: Call
    ) -> Result[FrameStream]:
        """Returns a stream whose first content has arrived.

        Before the first content, any failure moves on to the next target; after it, the route's
        `StreamRecovery` decides. Raises the same errors as `complete`. The caller closes the
        stream.
        """
        recovery = plan.route.stream_recovery if plan.route else StreamRecovery.ERROR
        is_buffered = recovery is StreamRecovery.BUFFER
        kind = "whole" if is_buffered else "stream"
        ask = self._streaming(operation, plan, call, is_buffered=is_buffered)
        chain = self._chain(operation, plan, call, ask, kind, AnswerStream.aclose)
        result = await chain.run()
        stream: FrameStream = result.value
        if recovery is StreamRecovery.CONTINUE:

            async def take_over(text: str) -> Result[AnswerStream] | None:
                continued = operation.continued(text)
                if continued is None:
                    return None
                again = self._streaming(continued, plan, call)
                return await chain.follow(again, _can_continue)

            stream = ContinuedStream(result.value, take_over)
        return Result(
            stream, result.attempt, result.attempts, result.upstream_seconds, result.ignored
        )

    def _streaming(
        self, operation: Operation[Any], plan: RoutePlan, call: Call, *, is_buffered: bool = False
    ) -> Ask[AnswerStream]:
        async def ask(attempt: "Attempt") -> "tuple[AnswerStream, tuple[str, ...]]":
            timeouts = self._timeouts.overridden_by(plan.route, attempt.target.provider)
            left = min(attempt.share, self._left(call))
            deadline = self._clock.monotonic() + left if is_buffered else call.deadline
            longest = min(timeouts.first_token, timeouts.total)
            limit = min(longest, left)
            answer: UpstreamResponse | None = None
            try:
                with timers.timeout(limit):
                    answer, ignored = await self._send(operation, attempt, timeouts)
                    stream = AnswerStream(
                        answer,
                        operation.stream_parser(attempt.target),
                        attempt,
                        self._clock,
                        idle=timeouts.idle,
                        deadline=deadline,
                        max_bytes=timeouts.max_answer_bytes,
                    )
                    await stream.start()
                if is_buffered:
                    await self._buffered(stream)
            except BaseException as error:
                if answer is not None:
                    await answer.aclose()
                if isinstance(error, TimeoutError):
                    late = DeadlineCut if left < longest else FirstTokenTimeout
                    raise late(f"No first token within {limit:.3g} s.") from None
                if isinstance(error, DeadlineExceeded):
                    raise DeadlineCut("The answer was not complete in time.") from None
                raise
            return stream, ignored

        return ask

    async def _buffered(self, stream: AnswerStream) -> None:
        """Reads the whole stream. If the caller disconnects meanwhile, the part received is
        accounted for."""
        try:
            await stream.buffer()
        except asyncio.CancelledError:
            await stream.aclose()
            raise

    def _chain(
        self,
        operation: Operation[Any],
        plan: RoutePlan,
        call: Call,
        ask: Ask[T],
        kind: str,
        drop: Callable[[T], Awaitable[None]],
    ) -> Chain[T]:
        def attempt(admitted: "Admitted", number: int, share: float) -> "Attempt":
            return self._attempt(operation, plan, admitted, call, number, share)

        def first_token(provider: "ProviderSpec") -> float:
            return self._timeouts.overridden_by(plan.route, provider).first_token

        return Chain(
            plan,
            call,
            ask,
            # Latencies are compared only between calls of the same kind.
            kind=f"{operation.name} {kind}",
            attempt=attempt,
            drop=drop,
            first_token=first_token,
            gate=self._gate,
            clock=self._clock,
            retry_state=self._retry_state,
        )

    def _attempt(
        self,
        operation: Operation[Any],
        plan: RoutePlan,
        admitted: Admitted,
        call: Call,
        number: int,
        share: float,
    ) -> Attempt:
        route = plan.route
        target = admitted.target
        price = target.model.price
        record = AttemptOpened(
            id=new_id(),
            request_id=call.request_id,
            caller=call.caller,
            operation=operation.name,
            use_case=route.use_case if route else "",
            tier=route.tier if route else "",
            provider=target.provider.name,
            model=target.model.model_id,
            number=number,
            started_at=self._clock.now(),
            input_tokens=estimate_tokens(operation.input_length) if operation.is_billed else 0,
            input_price=None if price is None else price.input,
        )
        return Attempt(
            record,
            target,
            admitted.permit,
            admitted.slot,
            sink=self._sink,
            clock=self._clock,
            review=lambda error: operation.review(target, error),
            proves_health=operation.proves_health,
            attribution=self._attribution,
            waited=admitted.waited,
            keeps_message=self._keeps_messages,
            share=share,
        )

    async def _send(
        self, operation: Operation[Any], attempt: Attempt, timeouts: Timeouts
    ) -> tuple[UpstreamResponse, tuple[str, ...]]:
        """Sends the request and returns a 2xx response whose body has not been read. Raises
        `UpstreamError`."""
        target = attempt.target
        provider = target.provider
        wire = operation.build(target)
        credential = self._credentials.get(provider.name)
        if credential is None:
            raise CredentialRejected(f"No key is configured for the provider {provider.name}.")
        attempt.credential = credential
        attempt.open()
        with attempt.waiting:
            answer = await self._transport.send(
                provider.name,
                wire.method,
                provider.base_url + wire.path,
                {**wire.headers, **credential.headers},
                wire.body,
                connect_timeout=timeouts.connect,
                max_connections=provider.max_connections,
                on_connected=attempt.connected,
            )
        attempt.answered(answer.status, answer.headers)
        if 200 <= answer.status < 300:
            return answer, wire.ignored
        try:
            raise await self._failure(operation, attempt, answer)
        finally:
            await answer.aclose()

    async def _failure(
        self, operation: Operation[Any], attempt: Attempt, answer: UpstreamResponse
    ) -> UpstreamError:
        headers: Mapping[str, str] = answer.headers
        body = b""
        # If the body is endless, broken or late, the status alone is used.
        limit = timers.timeout(MAX_ERROR_BODY_SECONDS)
        with suppress(UpstreamError, TimeoutError), limit, attempt.waiting:
            body = await answer.read(MAX_ERROR_BODY_BYTES)
        assert attempt.credential is not None, "a response means a credential was sent"
        body = masked_body(body, attempt.credential.headers)
        error = operation.map_error(attempt.target, answer.status, headers, body)
        error.upstream_headers = attempt.upstream_headers
        if error.retry_after is None:
            error.retry_after = parse_retry_after(headers.get("retry-after"), now=self._clock.now())
        return error

    def _left(self, call: Call) -> float:
        """Seconds until the deadline of the request."""
        return max(0.0, call.deadline - self._clock.monotonic())


async def _leave(result: object) -> None:
    """Does nothing: a complete answer that lost the race needs no clean-up."""


def _can_continue(target: Target) -> bool:
    # Few models have this capability, so models that list none are assumed to lack it.
    return Capability.PREFILL in target.model.capabilities
