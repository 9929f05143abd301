"""Calls the targets of one request in order until one of them answers.

`executor` makes a single attempt, `retry` decides on the next step, `final_error` on the error at
the end.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from msgspec import Struct

from llm_routing.core.errors import BreakerOpen, DeadlineCut, UpstreamError
from llm_routing.core.planner import RoutePlan
from llm_routing.core.ports import Clock, Operation
from llm_routing.core.routing_table import Target, route_key
from llm_routing.core.types import AttemptOutcome, AttemptSummary

from .attempt import Accounting, Attempt
from .calls import Call, Timeouts
from .final_error import final_error
from .gate import Admitted, Gate
from .retry import MIN_ATTEMPT_SECONDS, NextStep, Step, after_failure
from .retry_state import RetryState

T = TypeVar("T")
Ask = Callable[[Attempt], Awaitable[tuple[T, tuple[str, ...]]]]
"""Makes one attempt. Returns the value and the fields that the target does not support. Raises
`UpstreamError`."""

HEDGE_QUANTILE = 0.95
"""The first target is hedged once it takes longer than this share of its own recent calls."""


class Result(Struct, Generic[T], frozen=True):
    """The result of a chain of attempts. `upstream_seconds` were spent waiting for providers;
    `ignored` names the fields that the answering target does not support."""

    value: T
    attempt: Attempt
    attempts: tuple[AttemptSummary, ...]
    upstream_seconds: float
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChainParts:
    """The objects that all chains of an executor work with."""

    gate: Gate
    clock: Clock
    timeouts: Timeouts
    retry_state: RetryState
    accounting: Accounting


class _Success(Struct, Generic[T], frozen=True):
    value: T
    attempt: Attempt
    ignored: tuple[str, ...]


class Chain(Generic[T]):
    """Calls one target after another under one deadline and one budget of attempts.

    `kind` separates the latencies of whole answers from those of streams, which are never compared.
    `drop` disposes of the value of a hedge that lost.
    """

    # All arguments are positional, as in `Attempt`.
    def __init__(
        self,
        parts: ChainParts,
        operation: Operation[Any],
        plan: RoutePlan,
        call: Call,
        ask: Ask[T],
        kind: str,
        drop: Callable[[T], Awaitable[None]],
    ) -> None:
        self._parts = parts
        self._operation = operation
        self._plan = plan
        self._call = call
        self._ask = ask
        self._kind = kind
        self._drop = drop
        self._clock = parts.clock
        self._retry_state = parts.retry_state
        self._ahead = deque(plan.targets)
        self._summaries: list[AttemptSummary] = []
        self._errors: list[UpstreamError] = []
        self._open: list[tuple[float, int, Target]] = []
        self._sent = self._under_way = 0
        self._upstream_seconds = 0.0
        self._is_decided = False

    async def run(self) -> Result[T]:
        """Returns the first good answer.

        Raises `AllTargetsFailed`, `NoTargetAvailable` (no provider could be called),
        `DeadlineExceeded`, or the failure itself if it concerns the request and not a target.
        """
        route = self._plan.route
        admitted = await self._next()
        if route is not None and route.is_hedged and self._ahead and admitted is not None:
            answer = await self._hedge(admitted, route_key(route.use_case, route.tier))
        else:
            answer = await self._try_in_order(admitted)
        if answer is None:
            raise final_error(
                self._summaries,
                self._errors,
                self._plan.targets,
                was_sent=self._sent > 0,
                is_out_of_time=self._left() < MIN_ATTEMPT_SECONDS,
            )
        attempt = answer.attempt
        return Result(
            answer.value,
            attempt,
            (*self._summaries, attempt.summary()),
            self._upstream_seconds + attempt.upstream_seconds,
            answer.ignored,
        )

    async def follow(self, ask: Ask[T], is_able: Callable[[Target], bool]) -> Result[T] | None:
        """Returns an answer from one of the remaining targets that are able to continue an answer
        that broke off; None if no target gives one. `ask` makes the attempts."""
        self._ahead = deque(target for target in self._ahead if is_able(target))
        self._ask = ask
        self._summaries.clear()
        answer = await self._try_in_order(await self._next())
        if answer is None:
            return None
        attempts = (*self._summaries, answer.attempt.summary())
        return Result(answer.value, answer.attempt, attempts, 0.0, answer.ignored)

    async def _try_in_order(self, admitted: Admitted | None) -> _Success[T] | None:
        """Makes one attempt after another; returns None if no target is left."""
        retries_here = 0
        while admitted is not None:
            now = self._clock.monotonic()
            left = self._call.deadline - now
            attempts_made = self._attempts_made
            if left < MIN_ATTEMPT_SECONDS or attempts_made >= self._call.max_attempts:
                # The wait for admission used up the time, or a hedge running beside this task was
                # quicker.
                admitted.release()
                return None
            target = admitted.target
            attempt = Attempt(
                self._parts.accounting,
                self._operation,
                self._plan.route,
                self._call,
                admitted,
                attempts_made + 1,
                now,
                self._share(left),
            )
            self._under_way += 1
            if not retries_here:
                self._retry_state.retries.note_request(target.provider.name, now)
            try:
                value, ignored = await self._ask(attempt)
            except UpstreamError as error:
                self._note_failure(attempt, error, is_first=not attempts_made)
                next_step = self._after(error, target, retries_here)
                admitted = None
                if next_step.step is Step.NEXT_TARGET:
                    retries_here = 0
                    admitted = await self._next()
                    if admitted is None:
                        # None of the remaining targets admits the call, so this target was the
                        # last.
                        next_step = self._after(error, target, retries_here)
                if next_step.step is Step.RETRY_HERE:
                    retries_here += 1
                    self._upstream_seconds += next_step.wait
                    await asyncio.sleep(next_step.wait)
                    admitted = await self._next(deque((target,)))
                    if admitted is None:
                        retries_here = 0
                        admitted = await self._next()
            except BaseException:
                self._end(attempt)
                attempt.slot.release()
                attempt.cancel()
                if self._is_decided and attempt.is_opened:
                    # The lower bound counts as its latency: it would have taken longer.
                    self._note_latency(attempt)
                    self._summaries.append(attempt.summary())
                raise
            else:
                self._end(attempt)
                self._note_latency(attempt)
                return _Success(value, attempt, ignored)
        return None

    async def _from_next(self) -> _Success[T] | None:
        """Does the same as `_try_in_order`, after admission to the next target."""
        return await self._try_in_order(await self._next())

    async def _hedge(self, admitted: Admitted, route: str) -> _Success[T] | None:
        """Does the same as `_try_in_order`, but starts the next target too if the first is slower
        than usual.

        The first good answer wins; the other attempt is settled and accounted.
        """
        retry_state, began = self._retry_state, self._clock.monotonic()
        retry_state.hedges.note_request(route, began)
        usual = retry_state.latencies.quantile(self._key(admitted.target), HEDGE_QUANTILE, began)
        tasks = [asyncio.create_task(self._try_in_order(admitted))]
        winner: asyncio.Task[_Success[T] | None] | None = None
        try:
            if usual is not None:
                done, _ = await asyncio.wait(tasks, timeout=usual)
                now = self._clock.monotonic()
                may_ask = self._ahead and self._attempts_made < self._call.max_attempts
                if not done and may_ask and retry_state.hedges.try_spend(route, now):
                    tasks.append(asyncio.create_task(self._from_next()))
            racing = set(tasks)
            while racing and winner is None:
                done, racing = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
                winner = next((task for task in tasks if task in done and _has_won(task)), None)
            if winner is None:
                return None
            answer = winner.result()
            assert answer is not None, "the winner has an answer"
            elapsed = self._clock.monotonic() - began
            self._upstream_seconds = max(0.0, elapsed - answer.attempt.upstream_seconds)
            return answer
        finally:
            self._is_decided = winner is not None
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            for task, end in zip(tasks, ends, strict=True):
                if task is not winner and isinstance(end, _Success):
                    await self._drop(end.value)
                    self._summaries.append(end.attempt.summary())

    async def _next(self, targets: deque[Target] | None = None) -> Admitted | None:
        """Removes and returns the next target that admits the call. Rejections by the targets
        before it are recorded as failures."""
        ahead = self._ahead if targets is None else targets
        while ahead:
            target = ahead.popleft()
            try:
                admitted = await self._parts.gate.admit(target, self._until(target))
            except BaseException:
                # A hedge running beside this task was quicker, so the target is put back.
                ahead.appendleft(target)
                raise
            if isinstance(admitted, Admitted):
                return admitted
            if isinstance(admitted, BreakerOpen):
                self._open.append((admitted.retry_after or 0.0, len(self._open), target))
            self._summaries.append(
                AttemptSummary(
                    *target.key,
                    AttemptOutcome.FAILURE,
                    admitted.code,
                )
            )
            self._errors.append(admitted)
        return await self._force_open_target()

    async def _force_open_target(self) -> Admitted | None:
        """Returns the target whose open breaker is due for a probe first, if no provider was called
        and the route prefers a forced call to a rejection."""
        route = self._plan.route
        if self._attempts_made or not self._open or route is None or not route.probes_when_all_open:
            return None
        candidates, self._open = sorted(self._open), []
        for *_, target in candidates:
            # A target whose credential is disabled rejects even a forced call.
            found = await self._parts.gate.admit(target, self._call.deadline, force=True)
            if isinstance(found, Admitted):
                return found
        return None

    def _until(self, target: Target) -> float:
        """Returns the time until which to wait for a connection slot. If another target is left,
        that is at most the time allowed for a first token: both delays look the same to the
        caller."""
        if not self._ahead:
            return self._call.deadline
        now = self._clock.monotonic()
        timeouts = self._parts.timeouts.overridden_by(self._plan.route, target.provider)
        longest = min(timeouts.first_token, self._share(self._call.deadline - now))
        return min(self._call.deadline, now + longest)

    def _share(self, left: float) -> float:
        """Returns the seconds that the next attempt may take: the seconds that are `left`, divided
        equally by it and the attempts that may follow at other targets."""
        may_follow = min(len(self._ahead), self._call.max_attempts - self._attempts_made - 1)
        return max(MIN_ATTEMPT_SECONDS, left / (1 + max(0, may_follow)))

    def _left(self) -> float:
        """Returns the seconds until the deadline."""
        return self._call.deadline - self._clock.monotonic()

    def _after(self, error: UpstreamError, target: Target, retries_here: int) -> NextStep:
        if error.needs_larger_window:
            self._keep_larger_windows(target.model.context_window)
        now = self._clock.monotonic()

        def next_step(may_retry: bool) -> NextStep:
            return after_failure(
                error,
                attempts_made=self._attempts_made,
                max_attempts=self._call.max_attempts,
                retries_here=retries_here,
                more_targets=bool(self._ahead),
                remaining=self._left(),
                rng=self._retry_state.rng,
                may_retry=may_retry,
                patience=self._patience(target, now),
            )

        found = next_step(may_retry=True)
        if found.step is Step.RETRY_HERE:
            name = target.provider.name
            if not self._retry_state.retries.try_spend(name, now):
                return next_step(may_retry=False)
        return found

    def _patience(self, target: Target, now: float) -> float:
        """Returns by how many seconds `target` usually answers sooner than the next one."""
        if not self._ahead:
            return 0.0
        latencies = self._retry_state.latencies
        here = latencies.quantile(self._key(target), 0.5, now)
        there = latencies.quantile(self._key(self._ahead[0]), 0.5, now)
        return 0.0 if here is None or there is None else max(0.0, there - here)

    def _keep_larger_windows(self, window: int | None) -> None:
        self._ahead = deque(
            target
            for target in self._ahead
            if window is None
            or target.model.context_window is None
            or target.model.context_window > window
        )

    def _note_failure(self, attempt: Attempt, error: UpstreamError, *, is_first: bool) -> None:
        self._end(attempt)
        attempt.slot.release()
        attempt.fail(
            error, counts_against_target=self._counts_against_target(error, is_first=is_first)
        )
        self._summaries.append(attempt.summary(error))
        self._errors.append(error)
        self._upstream_seconds += attempt.upstream_seconds

    @property
    def _attempts_made(self) -> int:
        """The number of attempts, including those in progress."""
        return self._sent + self._under_way

    def _end(self, attempt: Attempt) -> None:
        self._under_way -= 1
        self._sent += attempt.is_opened

    def _counts_against_target(self, error: UpstreamError, *, is_first: bool) -> bool:
        """Returns whether a failure says something about its target. A missed deadline does not if
        the caller chose it or if other targets used up the time."""
        return not isinstance(error, DeadlineCut) or (
            is_first and not self._call.deadline_is_callers
        )

    def _note_latency(self, attempt: Attempt) -> None:
        now = self._clock.monotonic()
        self._retry_state.latencies.note(self._key(attempt.target), now, now - attempt.started)

    def _key(self, target: Target) -> str:
        return f"{self._operation.name} {self._kind} {target.model.key}"


def _has_won(task: "asyncio.Task[_Success[T] | None]") -> bool:
    """Returns whether a task that ended decides the race: with an answer or with an internal
    error."""
    return task.exception() is not None or task.result() is not None
