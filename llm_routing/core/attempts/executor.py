"""Runs plans: sends the request to a target and reads its answer, whole or streamed.

It knows no wire format and no network: those come in as `Operation` and `Transport`. `chain`
decides which target comes next.
"""

import asyncio
from collections.abc import Coroutine, Mapping
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
from llm_routing.core.planner import RoutePlan
from llm_routing.core.ports import (
    BreakerStore,
    Clock,
    CredentialStore,
    FrameStream,
    Operation,
    Transport,
    UpstreamResponse,
    UsageSink,
)
from llm_routing.core.redaction import masked_body
from llm_routing.core.routing_table import StreamRecovery, Target

from .attempt import Accounting, Attempt
from .calls import Call, Timeouts
from .chain import Ask, Chain, ChainParts, Result
from .continuation import ContinuedStream
from .failure_attribution import FailureAttribution
from .gate import Gate
from .limits import ProviderLimits
from .retry import parse_retry_after
from .retry_state import RetryState
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
        self._clock = clock
        self._timeouts = timeouts
        accounting = Accounting(sink, clock, FailureAttribution(), keeps_messages)
        gate = Gate(breakers, limits, clock)
        self._parts = ChainParts(gate, clock, timeouts, retry_state, accounting)

    def complete(
        self, operation: Operation[ResultT], plan: RoutePlan, call: Call
    ) -> Coroutine[Any, Any, Result[ResultT]]:
        """Returns the first complete answer.

        Raises `AllTargetsFailed`, `NoTargetAvailable` (no provider could be called),
        `DeadlineExceeded`, or the failure itself if it concerns the request and not a target
        (`RequestRejected`, `ContentFiltered`, …).
        """
        return Chain(self._parts, operation, plan, call, self._ask_whole, "whole", _leave).run()

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
        chain = Chain(self._parts, operation, plan, call, ask, kind, AnswerStream.aclose)
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

    async def _ask_whole(self, attempt: Attempt) -> tuple[Any, tuple[str, ...]]:
        """Makes one attempt to get a whole answer; see `chain.Ask`."""
        operation, target = attempt.operation, attempt.target
        timeouts = self._timeouts.overridden_by(attempt.route, target.provider)
        limit = min(timeouts.total, attempt.share)
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
            error = DeadlineCut if attempt.share < timeouts.total else UpstreamTimeout
            raise error(f"No answer within {limit:.3g} s.") from None
        result = operation.parse(target, body)
        usage = operation.usage(result)
        attempt.succeed(usage, operation.output_length(result))
        settled = attempt.settled
        if settled is not None and settled.usage is not usage and settled.usage is not None:
            result = operation.with_usage(result, settled.usage)
        return result, ignored

    def _streaming(
        self, operation: Operation[Any], plan: RoutePlan, call: Call, *, is_buffered: bool = False
    ) -> Ask[AnswerStream]:
        # The annotations are quoted because this function is created anew for every request.
        async def ask(attempt: "Attempt") -> "tuple[AnswerStream, tuple[str, ...]]":
            timeouts = self._timeouts.overridden_by(plan.route, attempt.target.provider)
            left = attempt.share
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


async def _leave(result: object) -> None:
    """Does nothing: a complete answer that lost the race needs no clean-up."""


def _can_continue(target: Target) -> bool:
    # Few models have this capability, so models that list none are assumed to lack it.
    return Capability.PREFILL in target.model.capabilities
