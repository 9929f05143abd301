"""The attempt loop: one request, one deadline, target after target until one answers.

It knows no wire format and no network: those come in as `Operation` and `Transport`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any, Generic, TypeVar
from uuid import uuid4

from .attempt import Attempt
from .breaker import Refusal
from .errors import (
    AllTargetsFailed,
    BreakerOpen,
    CredentialRejected,
    DeadlineExceeded,
    FirstTokenTimeout,
    LLMError,
    NoTargetAvailable,
    UpstreamError,
    UpstreamTimeout,
)
from .planner import RoutePlan
from .ports import (
    Answer,
    AttemptOpened,
    BreakerStore,
    Clock,
    CredentialStore,
    Operation,
    Permit,
    Transport,
    UsageSink,
)
from .retry import MAX_ATTEMPTS, Step, Verdict, after_failure, parse_retry_after
from .routing_table import ProviderSpec, Target
from .stream import AnswerStream
from .types import AttemptOutcome, AttemptSummary, Caller

ResultT = TypeVar("ResultT")
T = TypeVar("T")
Failures = list[tuple[AttemptSummary, UpstreamError]]

MAX_ERROR_BODY_BYTES = 64 * 1024
MAX_ERROR_BODY_SECONDS = 5.0
TIMER_SLACK = 0.02


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The limits of an attempt where its provider sets none of its own; seconds and bytes."""

    connect: float
    first_token: float
    idle: float
    total: float
    max_answer_bytes: int


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way: who asks, and until when (monotonic seconds).

    `is_hurried`: the deadline is the caller's own, so a target that misses it need not be slow.
    """

    request_id: str
    caller: Caller
    deadline: float
    is_hurried: bool = False
    max_attempts: int = MAX_ATTEMPTS


@dataclass(frozen=True, slots=True)
class Result(Generic[T]):
    """What a chain of attempts came to. `upstream_seconds` went by waiting for providers;
    `ignored` names what the answering target had no word for."""

    value: T
    attempt: Attempt
    attempts: tuple[AttemptSummary, ...]
    upstream_seconds: float
    ignored: tuple[str, ...]


class Executor:
    """Runs plans. One for a router; holds no state of a request."""

    def __init__(
        self,
        *,
        transport: Transport,
        credentials: CredentialStore,
        breakers: BreakerStore,
        sink: UsageSink,
        clock: Clock,
        timeouts: Timeouts,
        rng: Random,
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self._breakers = breakers
        self._sink = sink
        self._clock = clock
        self._timeouts = timeouts
        self._rng = rng

    async def complete(
        self, operation: Operation[ResultT], plan: RoutePlan, call: Call
    ) -> Result[ResultT]:
        """The first good whole answer.

        Raises `AllTargetsFailed`, `NoTargetAvailable` (no provider could be asked) or
        `DeadlineExceeded`; the failure itself where it concerns the request and no target
        (`RequestRejected`, `ContentFiltered`, …).
        """

        async def ask(attempt: Attempt) -> tuple[ResultT, tuple[str, ...]]:
            limit = self._total(attempt.target.provider, call)
            try:
                async with asyncio.timeout(limit):
                    answer, ignored = await self._send(operation, attempt)
                    try:
                        body = await attempt.waiting(answer.read(self._timeouts.max_answer_bytes))
                    finally:
                        await answer.aclose()
            except TimeoutError:
                raise UpstreamTimeout(f"No answer within {limit:.3g} s.") from None
            result = operation.parse(attempt.target, body)
            attempt.succeed(operation.usage(result), operation.output_length(result))
            return result, ignored

        return await self._run(operation, plan, call, ask)

    async def open_stream(
        self, operation: Operation[Any], plan: RoutePlan, call: Call
    ) -> Result[AnswerStream]:
        """A stream whose first content has come: until then any failure moves on to the next
        target. Raises as `complete` does. The caller closes the stream."""

        async def ask(attempt: Attempt) -> tuple[AnswerStream, tuple[str, ...]]:
            provider = attempt.target.provider
            limit = min(
                _either(provider.first_token_timeout, self._timeouts.first_token),
                self._total(provider, call),
            )
            answer: Answer | None = None
            try:
                async with asyncio.timeout(limit):
                    answer, ignored = await self._send(operation, attempt)
                    stream = AnswerStream(
                        answer,
                        operation.stream_parser(attempt.target),
                        attempt,
                        self._clock,
                        idle=_either(provider.idle_timeout, self._timeouts.idle),
                        deadline=call.deadline,
                        max_bytes=self._timeouts.max_answer_bytes,
                    )
                    await stream.start()
                    return stream, ignored
            except BaseException as error:
                if answer is not None:
                    await answer.aclose()
                if isinstance(error, TimeoutError):
                    raise FirstTokenTimeout(f"No first token within {limit:.3g} s.") from None
                raise

        return await self._run(operation, plan, call, ask)

    async def _run(
        self,
        operation: Operation[Any],
        plan: RoutePlan,
        call: Call,
        ask: Callable[[Attempt], Awaitable[tuple[T, tuple[str, ...]]]],
    ) -> Result[T]:
        failures: Failures = []
        upstream_seconds = 0.0
        retries_here = asked = 0
        ahead = deque(plan.targets)
        admitted = await self._next(ahead, failures)
        while admitted is not None:
            target, permit = admitted
            attempt = self._attempt(operation, plan, target, permit, call, asked + 1)
            try:
                value, ignored = await ask(attempt)
            except UpstreamError as error:
                attempt.fail(error, is_fair=self._is_fair(error, call, is_first=not asked))
                failures.append((attempt.summary(error), error))
                upstream_seconds += attempt.upstream_seconds
                asked += attempt.is_opened
                admitted = None
                verdict = self._after(error, call, asked, retries_here, more_targets=bool(ahead))
                if verdict.step is Step.NEXT_TARGET:
                    admitted = await self._next(ahead, failures)
                    if admitted is None:
                        # Those ahead may not be asked, so this one was the last.
                        verdict = self._after(error, call, asked, retries_here, more_targets=False)
                if verdict.step is Step.RETRY_HERE:
                    retries_here += 1
                    await asyncio.sleep(verdict.wait)
                    upstream_seconds += verdict.wait
                    admitted = await self._next(deque((target,)), failures)
            except BaseException:
                attempt.cancel()
                raise
            else:
                return Result(
                    value,
                    attempt,
                    (*(summary for summary, _ in failures), attempt.summary()),
                    upstream_seconds + attempt.upstream_seconds,
                    ignored,
                )
        raise self._verdict(failures, asked, call)

    async def _next(self, ahead: deque[Target], failures: Failures) -> tuple[Target, Permit] | None:
        """The next target that may be asked, taken off `ahead`; those before it that may not are
        among the `failures`."""
        while ahead:
            target = ahead.popleft()
            admitted = await self._breakers.admit(target)
            if not isinstance(admitted, Refusal):
                return target, admitted
            error = BreakerOpen(
                f"{target.model.key} is left alone after failures ({admitted.cause}).",
                retry_after=admitted.retry_after,
            )
            summary = AttemptSummary(
                target.provider.name, target.model.model_id, AttemptOutcome.FAILURE, error.code
            )
            failures.append((summary, error))
        return None

    def _after(
        self,
        error: UpstreamError,
        call: Call,
        asked: int,
        retries_here: int,
        *,
        more_targets: bool,
    ) -> Verdict:
        return after_failure(
            error,
            attempts_made=asked,
            max_attempts=call.max_attempts,
            retries_here=retries_here,
            more_targets=more_targets,
            remaining=call.deadline - self._clock.monotonic(),
            rng=self._rng,
        )

    def _is_fair(self, error: UpstreamError, call: Call, *, is_first: bool) -> bool:
        """Whether a failure says something about its target: a timeout does not where the caller's
        hurry, or the time that other targets took, was to blame."""
        if not isinstance(error, UpstreamTimeout):
            return True
        is_deadline = self._clock.monotonic() >= call.deadline - TIMER_SLACK
        return not is_deadline or (is_first and not call.is_hurried)

    def _attempt(
        self,
        operation: Operation[Any],
        plan: RoutePlan,
        target: Target,
        permit: Permit,
        call: Call,
        number: int,
    ) -> Attempt:
        route = plan.route
        record = AttemptOpened(
            id=uuid4().hex,
            request_id=call.request_id,
            caller=call.caller,
            operation=operation.name,
            use_case=route.use_case if route else "",
            tier=route.tier if route else "",
            provider=target.provider.name,
            model=target.model.model_id,
            number=number,
            started_at=self._clock.now(),
        )
        return Attempt(
            record,
            target,
            permit,
            sink=self._sink,
            clock=self._clock,
            input_length=lambda: operation.input_length,
        )

    async def _send(
        self, operation: Operation[Any], attempt: Attempt
    ) -> tuple[Answer, tuple[str, ...]]:
        """A 2xx answer, its body still to be read. Raises `UpstreamError`."""
        target = attempt.target
        provider = target.provider
        wire = operation.build(target)
        credential = self._credentials.get(provider.name)
        if credential is None:
            raise CredentialRejected(f"There is no key for the provider {provider.name}.")
        attempt.open()
        answer = await attempt.waiting(
            self._transport.send(
                provider.name,
                wire.method,
                provider.base_url + wire.path,
                {**wire.headers, **credential.headers},
                wire.body,
                connect_timeout=_either(provider.connect_timeout, self._timeouts.connect),
                max_connections=provider.max_connections,
            )
        )
        attempt.status = answer.status
        if 200 <= answer.status < 300:
            return answer, wire.ignored
        try:
            raise await self._failure(operation, attempt, answer)
        finally:
            await answer.aclose()

    async def _failure(
        self, operation: Operation[Any], attempt: Attempt, answer: Answer
    ) -> UpstreamError:
        headers: Mapping[str, str] = answer.headers
        body = b""
        # The status alone says enough where the body is endless, broken or late.
        with suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(MAX_ERROR_BODY_SECONDS):
                body = await attempt.waiting(answer.read(MAX_ERROR_BODY_BYTES))
        error = operation.map_error(attempt.target, answer.status, headers, body)
        if error.retry_after is None:
            error.retry_after = parse_retry_after(headers.get("retry-after"), now=self._clock.now())
        return error

    def _total(self, provider: ProviderSpec, call: Call) -> float:
        """Seconds left for one attempt at `provider`."""
        remaining = call.deadline - self._clock.monotonic()
        return max(0.0, min(_either(provider.total_timeout, self._timeouts.total), remaining))

    def _verdict(self, failures: Failures, asked: int, call: Call) -> LLMError:
        """What the caller is told once there is nothing left to try."""
        summaries = tuple(summary for summary, _ in failures)
        errors = [error for _, error in failures]
        last = next(
            (error for error in reversed(errors) if not isinstance(error, BreakerOpen)), errors[-1]
        )
        if all(error.http_status == 400 for error in errors) or not last.retryable_elsewhere:
            last.attempts = summaries
            return last
        if self._clock.monotonic() >= call.deadline:
            return DeadlineExceeded("Time ran out before an answer came.", attempts=summaries)
        tried = "; ".join(
            f"{summary.provider}/{summary.model}: {summary.error_code}" for summary in summaries
        )
        waits = [error.retry_after for error in errors if error.retry_after is not None]
        retry_after = min(waits, default=None)
        if not asked:
            return NoTargetAvailable(
                f"No target can be asked ({tried}).", attempts=summaries, retry_after=retry_after
            )
        return AllTargetsFailed(
            f"Every target failed ({tried}).",
            attempts=summaries,
            last=last,
            retry_after=retry_after,
        )


def _either(value: float | None, default: float) -> float:
    return default if value is None else value
