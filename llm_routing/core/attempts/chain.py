"""One request's way along its targets, until one of them answers.

What an attempt does is in `executor`; when to try again is decided in `retry`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

from msgspec import Struct

from llm_routing.core.errors import (
    AllTargetsFailed,
    AllTargetsRateLimited,
    BreakerOpen,
    ContentFiltered,
    ContextTooLong,
    DeadlineCut,
    DeadlineExceeded,
    LLMError,
    NoTargetAvailable,
    ProviderBusy,
    RateLimited,
    RequestRejected,
    UnsupportedRequest,
    UpstreamError,
)
from llm_routing.core.planner import RoutePlan
from llm_routing.core.ports import Clock
from llm_routing.core.routing_table import ProviderSpec, Target, route_key
from llm_routing.core.types import AttemptOutcome, AttemptSummary

from .attempt import Attempt
from .calls import Call, Result
from .gate import Admitted, Gate
from .latency import Latencies
from .retry import MIN_ATTEMPT_SECONDS, NextStep, Step, after_failure
from .retry_budget import RetryBudgets

T = TypeVar("T")
Ask = Callable[[Attempt], Awaitable[tuple[T, tuple[str, ...]]]]
"""Makes one attempt: the value, and what the target had no word for. Raises `UpstreamError`."""

_NOT_ASKED = (BreakerOpen, ProviderBusy)
_OF_THE_REQUEST = (ContentFiltered, ContextTooLong, RequestRejected, UnsupportedRequest)
MIN_RETRIES = 3
MIN_HEDGES = 1
HEDGE_QUANTILE = 0.95
"""A first target slower than this share of its own calls is hedged."""


@dataclass(frozen=True, slots=True)
class RetryState:
    """Settings and state that the decisions of all requests share."""

    rng: Random
    retries: RetryBudgets
    hedges: RetryBudgets
    latencies: Latencies

    @classmethod
    def of(cls, rng: Random, retries: float, hedges: float) -> "RetryState":
        """For retries and hedges that are at most these shares of the requests."""
        return cls(
            rng,
            RetryBudgets(retries, MIN_RETRIES),
            RetryBudgets(hedges, MIN_HEDGES),
            Latencies(),
        )


class _Success(Struct, Generic[T], frozen=True):
    value: T
    attempt: Attempt
    ignored: tuple[str, ...]


class Chain(Generic[T]):
    """Asks target after target under one deadline and one budget of attempts.

    `kind` keeps whole answers and streams apart where their latencies are compared. `drop` gets
    rid of a value that came second. `first_token` says how many seconds a provider's first token
    may take.
    """

    def __init__(
        self,
        plan: RoutePlan,
        call: Call,
        ask: Ask[T],
        *,
        kind: str,
        attempt: Callable[[Admitted, int, float], Attempt],
        drop: Callable[[T], Awaitable[None]],
        first_token: Callable[[ProviderSpec], float],
        gate: Gate,
        clock: Clock,
        retry_state: RetryState,
    ) -> None:
        self._plan = plan
        self._call = call
        self._ask = ask
        self._kind = kind
        self._attempt = attempt
        self._drop = drop
        self._first_token = first_token
        self._gate = gate
        self._clock = clock
        self._retry_state = retry_state
        self._ahead = deque(plan.targets)
        self._summaries: list[AttemptSummary] = []
        self._errors: list[UpstreamError] = []
        self._open: list[tuple[float, int, Target]] = []
        self._asked = self._under_way = 0
        self._upstream_seconds = 0.0
        self._is_decided = False

    async def run(self) -> Result[T]:
        """The first good answer.

        Raises `AllTargetsFailed`, `NoTargetAvailable` (no provider could be asked) or
        `DeadlineExceeded`; the failure itself where it concerns the request and no target.
        """
        route = self._plan.route
        admitted = await self._next()
        if route is not None and route.is_hedged and self._ahead and admitted is not None:
            answer = await self._hedge(admitted, route_key(route.use_case, route.tier))
        else:
            answer = await self._try_in_order(admitted)
        if answer is None:
            raise self._final_error()
        attempt = answer.attempt
        return Result(
            answer.value,
            attempt,
            (*self._summaries, attempt.summary()),
            self._upstream_seconds + attempt.upstream_seconds,
            answer.ignored,
        )

    async def follow(self, ask: Ask[T], is_able: Callable[[Target], bool]) -> Result[T] | None:
        """An answer of one of the targets that are left and able, asked in another way, where an
        earlier answer broke off; None where none of them gives one."""
        self._ahead = deque(target for target in self._ahead if is_able(target))
        self._ask = ask
        self._summaries.clear()
        answer = await self._try_in_order(await self._next())
        if answer is None:
            return None
        attempts = (*self._summaries, answer.attempt.summary())
        return Result(answer.value, answer.attempt, attempts, 0.0, answer.ignored)

    async def _try_in_order(self, admitted: Admitted | None) -> _Success[T] | None:
        """Attempt after attempt, one at a time; None where there is nothing left to try."""
        retries_here = 0
        while admitted is not None:
            if self._left() < MIN_ATTEMPT_SECONDS or self._made >= self._call.max_attempts:
                # The wait for leave took all of the time, or whoever ran beside this one was
                # quicker.
                admitted.release()
                return None
            target = admitted.target
            made = self._made
            is_first = not made
            attempt = self._attempt(admitted, made + 1, self._share())
            self._under_way += 1
            began = self._clock.monotonic()
            if not retries_here:
                self._retry_state.retries.note_request(target.provider.name, began)
            try:
                value, ignored = await self._ask(attempt)
            except UpstreamError as error:
                self._note_failure(attempt, error, is_first=is_first)
                verdict = self._after(error, target, retries_here)
                admitted = None
                if verdict.step is Step.NEXT_TARGET:
                    retries_here = 0
                    admitted = await self._next()
                    if admitted is None:
                        # Those ahead may not be asked, so this one was the last.
                        verdict = self._after(error, target, retries_here)
                if verdict.step is Step.RETRY_HERE:
                    retries_here += 1
                    self._upstream_seconds += verdict.wait
                    await asyncio.sleep(verdict.wait)
                    admitted = await self._next(deque((target,)))
                    if admitted is None:
                        retries_here = 0
                        admitted = await self._next()
            except BaseException:
                self._end(attempt)
                attempt.slot.release()
                attempt.cancel()
                if self._is_decided and attempt.is_opened:
                    # It took this long at the least, and would have taken longer.
                    self._note_latency(target, began)
                    self._summaries.append(attempt.summary())
                raise
            else:
                self._end(attempt)
                self._note_latency(target, began)
                return _Success(value, attempt, ignored)
        return None

    async def _from_next(self) -> _Success[T] | None:
        """As `_try_in_order`, once the next target may be asked."""
        return await self._try_in_order(await self._next())

    async def _hedge(self, admitted: Admitted, route: str) -> _Success[T] | None:
        """Like `_try_in_order`, but starts the next target too when the first is slower than usual.

        The first good answer wins; the other attempt is settled and accounted.
        """
        retry_state, began = self._retry_state, self._clock.monotonic()
        retry_state.hedges.note_request(route, began)
        usual = retry_state.latencies.quantile(self._key(admitted.target), HEDGE_QUANTILE, began)
        lanes = [asyncio.create_task(self._try_in_order(admitted))]
        winner: asyncio.Task[_Success[T] | None] | None = None
        try:
            if usual is not None:
                done, _ = await asyncio.wait(lanes, timeout=usual)
                now = self._clock.monotonic()
                may_ask = self._ahead and self._made < self._call.max_attempts
                if not done and may_ask and retry_state.hedges.try_spend(route, now):
                    lanes.append(asyncio.create_task(self._from_next()))
            racing = set(lanes)
            while racing and winner is None:
                done, racing = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
                winner = next((lane for lane in lanes if lane in done and _has_won(lane)), None)
            if winner is None:
                return None
            answer = winner.result()
            assert answer is not None, "it has won"
            elapsed = self._clock.monotonic() - began
            self._upstream_seconds = max(0.0, elapsed - answer.attempt.upstream_seconds)
            return answer
        finally:
            self._is_decided = winner is not None
            for lane in lanes:
                lane.cancel()
            ends = await asyncio.gather(*lanes, return_exceptions=True)
            for lane, end in zip(lanes, ends, strict=True):
                if lane is not winner and isinstance(end, _Success):
                    await self._drop(end.value)
                    self._summaries.append(end.attempt.summary())

    async def _next(self, targets: deque[Target] | None = None) -> Admitted | None:
        """The next target that may be asked, taken off those ahead; those before it that may not
        are among the failures."""
        ahead = self._ahead if targets is None else targets
        while ahead:
            target = ahead.popleft()
            try:
                admitted = await self._gate.admit(target, self._until(target))
            except BaseException:
                # Whoever ran beside this one was quicker: it is left for who goes on.
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
        return await self._least_bad()

    async def _least_bad(self) -> Admitted | None:
        """The open target that would be probed first, where nobody has been asked and the route
        would rather ask than refuse."""
        route = self._plan.route
        if self._made or not self._open or route is None or not route.probes_when_all_open:
            return None
        candidates, self._open = sorted(self._open), []
        for *_, target in candidates:
            # One whose credential is out of use is refused all the same.
            found = await self._gate.admit(target, self._call.deadline, force=True)
            if isinstance(found, Admitted):
                return found
        return None

    def _until(self, target: Target) -> float:
        """Until when to wait for a connection: where another target may answer, no longer than for
        a first token, since to the caller both are the same silence."""
        if not self._ahead:
            return self._call.deadline
        longest = min(self._first_token(target.provider), self._share())
        return min(self._call.deadline, self._clock.monotonic() + longest)

    def _share(self) -> float:
        """Seconds that the next attempt may take to answer: an equal share of what is left for it
        and each attempt that may follow at another target, so that the last one has time too."""
        may_follow = min(len(self._ahead), self._call.max_attempts - self._made - 1)
        return max(MIN_ATTEMPT_SECONDS, self._left() / (1 + max(0, may_follow)))

    def _left(self) -> float:
        """Seconds until the deadline."""
        return self._call.deadline - self._clock.monotonic()

    def _after(self, error: UpstreamError, target: Target, retries_here: int) -> NextStep:
        if error.needs_larger_window:
            self._keep_larger_windows(target.model.context_window)
        now = self._clock.monotonic()

        def verdict(may_retry: bool) -> NextStep:
            return after_failure(
                error,
                attempts_made=self._made,
                max_attempts=self._call.max_attempts,
                retries_here=retries_here,
                more_targets=bool(self._ahead),
                remaining=self._left(),
                rng=self._retry_state.rng,
                may_retry=may_retry,
                patience=self._patience(target, now),
            )

        found = verdict(may_retry=True)
        if found.step is Step.RETRY_HERE:
            name = target.provider.name
            if not self._retry_state.retries.try_spend(name, now):
                return verdict(may_retry=False)
        return found

    def _patience(self, target: Target, now: float) -> float:
        """By how many seconds `target` usually answers sooner than the next one."""
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
    def _made(self) -> int:
        """Attempts made, those under way among them."""
        return self._asked + self._under_way

    def _end(self, attempt: Attempt) -> None:
        self._under_way -= 1
        self._asked += attempt.is_opened

    def _counts_against_target(self, error: UpstreamError, *, is_first: bool) -> bool:
        """Whether a failure says something about its target: the deadline does not where the
        caller's hurry, or the time that other targets took, was to blame."""
        return not isinstance(error, DeadlineCut) or (
            is_first and not self._call.deadline_is_callers
        )

    def _note_latency(self, target: Target, began: float) -> None:
        now = self._clock.monotonic()
        self._retry_state.latencies.note(self._key(target), now, now - began)

    def _key(self, target: Target) -> str:
        return f"{self._kind} {target.model.key}"

    def _final_error(self) -> LLMError:
        """Returns the error for the caller when no target is left to try."""
        summaries, errors = tuple(self._summaries), self._errors
        asked = [error for error in errors if not isinstance(error, _NOT_ASKED)]
        last = asked[-1] if asked else errors[-1] if errors else None
        final = _final(errors, asked)
        if final is not None:
            final.attempts = summaries
            return final
        if last is None or self._left() < MIN_ATTEMPT_SECONDS:
            return DeadlineExceeded("Time ran out before an answer came.", attempts=summaries)
        tried = "; ".join(
            f"{summary.provider}/{summary.model}: {summary.error_code}" for summary in summaries
        )
        waits = [error.retry_after for error in errors if error.retry_after is not None]
        retry_after = min(waits, default=None)
        if not self._asked and not all(map(_limits_our_rate, errors)):
            return NoTargetAvailable(
                f"No target can be asked ({tried}).", attempts=summaries, retry_after=retry_after
            )
        if all(map(_limits_our_rate, errors)):
            return AllTargetsRateLimited(
                f"Every target limits our rate ({tried}).",
                attempts=summaries,
                last=last,
                retry_after=retry_after,
            )
        return AllTargetsFailed(
            f"Every target failed ({tried}).",
            attempts=summaries,
            last=last,
            retry_after=retry_after,
        )


def _final(errors: Sequence[UpstreamError], asked: Sequence[UpstreamError]) -> UpstreamError | None:
    """The failure that is about the request itself, if that is what ended the chain."""
    if not errors:
        return None
    if asked and not asked[-1].retryable_elsewhere:
        return asked[-1]
    # The first vendor's word counts: the others were asked in its place.
    refused = next((error for error in asked if isinstance(error, RequestRejected)), None)
    if refused is not None and all(isinstance(error, _OF_THE_REQUEST) for error in asked):
        return refused
    if all(isinstance(error, _OF_THE_REQUEST) for error in errors):
        return errors[-1]
    return None


def _limits_our_rate(error: UpstreamError) -> bool:
    """Whether a target has asked for patience, now or before: then its breaker may be open."""
    return isinstance(error, RateLimited) or (
        isinstance(error, BreakerOpen) and error.cause == RateLimited.code
    )


def _has_won(lane: "asyncio.Task[_Success[T] | None]") -> bool:
    """Whether a lane that ended decides the race: by an answer, or by a fault of our own."""
    return lane.exception() is not None or lane.result() is not None
