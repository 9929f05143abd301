"""The circuit breaker: a target that keeps failing is left alone for a while, then probed.

Pure: the time (monotonic seconds) and the randomness come in. Which breaker belongs to which
target, and who shares it, is behind `ports.BreakerStore`.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from .errors import UpstreamError
from .routing_table import Target

MAX_DOUBLINGS = 30
JITTER = 0.2


class BreakerState(StrEnum):
    """CLOSED: every call passes. OPEN: none does. HALF_OPEN: a few probes find out."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens, and for how long. A full window is always enough calls.

    It looks at the last `window_calls` calls that ended within `window` seconds, and opens on a
    failure that makes at least `failure_rate` of at least `minimum_calls` of them failures. It
    stays open for `open_time` seconds, twice as long each time that its probes fail, give or take
    a fifth, never longer than `longest_open_time`. It closes when `probes` probes have succeeded.
    """

    window: float = 60.0
    window_calls: int = 100
    minimum_calls: int = 10
    failure_rate: float = 0.5
    open_time: float = 5.0
    longest_open_time: float = 300.0
    probes: int = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that may not be made now; `retry_after` seconds from now one may be. `cause` is the
    code of the failure that opened the breaker."""

    retry_after: float
    cause: str


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """A breaker as it is shown. `cause` is the code of the failure that opened it, empty while it
    is closed; `opened_for` and `retry_after` are in seconds, `calls` and `failures` those of the
    window, `openings` all since it was made."""

    state: BreakerState
    cause: str
    opened_for: float
    retry_after: float
    calls: int
    failures: int
    openings: int


class BreakerPermit:
    """Leave to make one call. Say how it ended; only the first word counts."""

    __slots__ = ("_breaker", "_generation", "_is_settled")

    def __init__(self, breaker: "Breaker", generation: int) -> None:
        self._breaker = breaker
        self._generation = generation
        self._is_settled = False

    def succeed(self, now: float) -> None:
        """The target answered."""
        if self._settle():
            self._breaker.on_success(now)

    def fail(self, now: float, cause: str, retry_after: float | None = None) -> None:
        """The target failed, with the error code `cause`; it asked for `retry_after` seconds."""
        if self._settle():
            self._breaker.on_failure(now, cause, retry_after)

    def release(self) -> None:
        """The call counts for nothing: it was cancelled, or never made."""
        if self._settle():
            self._breaker.on_release()

    def _settle(self) -> bool:
        """Whether this is the first word, on a call that began in the breaker's present state."""
        is_first, self._is_settled = not self._is_settled, True
        return is_first and self._generation == self._breaker.generation


class Breaker:
    """One circuit breaker. Not for several threads at once.

    A call that began before the last change of state says nothing any more: its end is ignored.
    """

    def __init__(self, rules: BreakerRules, rng: Random) -> None:
        self.generation = 0
        self._rules = rules
        self._rng = rng
        self._state = BreakerState.CLOSED
        self._calls: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._cause = ""
        self._opened_at = self._retry_at = 0.0
        self._not_before = float("-inf")
        self._openings = self._failed_openings = 0
        self._probing = self._proven = 0

    def admit(self, now: float) -> BreakerPermit | Refusal:
        """Leave for one call, or when to ask again."""
        if self._state is BreakerState.OPEN and now >= self._retry_at:
            self._change(BreakerState.HALF_OPEN)
        if self._state is BreakerState.OPEN:
            return Refusal(self._retry_at - now, self._cause)
        if self._state is BreakerState.HALF_OPEN:
            if self._probing + self._proven >= self._rules.probes:
                return Refusal(self._rules.open_time, self._cause)
            self._probing += 1
        return BreakerPermit(self, self.generation)

    def reset(self) -> None:
        """Closes the breaker and forgets why it was open."""
        self._close()

    def status(self, now: float) -> BreakerStatus:
        """How the breaker stands. One whose time is over is half open."""
        self._forget_before(now)
        is_due = self._state is BreakerState.OPEN and now >= self._retry_at
        is_closed = self._state is BreakerState.CLOSED
        return BreakerStatus(
            state=BreakerState.HALF_OPEN if is_due else self._state,
            cause=self._cause,
            opened_for=0.0 if is_closed else now - self._opened_at,
            retry_after=0.0 if is_closed else max(0.0, self._retry_at - now),
            calls=len(self._calls),
            failures=self._failures,
            openings=self._openings,
        )

    def on_success(self, now: float) -> None:
        """A call of this generation succeeded."""
        if self._state is BreakerState.CLOSED:
            self._count(now, failed=False)
            return
        self._probing -= 1
        self._proven += 1
        if self._proven >= self._rules.probes:
            self._close()

    def on_failure(self, now: float, cause: str, retry_after: float | None) -> None:
        """A call of this generation failed."""
        if retry_after is not None:
            self._not_before = max(self._not_before, now + retry_after)
        if self._state is BreakerState.HALF_OPEN:
            self._open(now, cause)
            return
        self._count(now, failed=True)
        calls, rules = len(self._calls), self._rules
        is_enough = calls >= min(rules.minimum_calls, rules.window_calls)
        if is_enough and self._failures >= rules.failure_rate * calls:
            self._open(now, cause)

    def on_release(self) -> None:
        """A call of this generation counts for nothing; another probe may take its place."""
        if self._state is BreakerState.HALF_OPEN:
            self._probing -= 1

    def _open(self, now: float, cause: str) -> None:
        rules = self._rules
        if not self._failed_openings:
            self._opened_at = now
        seconds = rules.open_time * 2.0 ** min(self._failed_openings, MAX_DOUBLINGS)
        seconds *= self._rng.uniform(1 - JITTER, 1 + JITTER)
        seconds = min(max(seconds, self._not_before - now), rules.longest_open_time)
        self._retry_at = now + seconds
        self._cause = cause
        self._openings += 1
        self._failed_openings += 1
        self._change(BreakerState.OPEN)

    def _close(self) -> None:
        self._cause = ""
        self._failed_openings = 0
        self._not_before = float("-inf")
        self._change(BreakerState.CLOSED)

    def _change(self, state: BreakerState) -> None:
        self._state = state
        self.generation += 1
        self._probing = self._proven = 0
        self._calls.clear()
        self._failures = 0

    def _count(self, now: float, *, failed: bool) -> None:
        self._forget_before(now)
        if len(self._calls) >= self._rules.window_calls:
            self._failures -= self._calls.popleft()[1]
        self._calls.append((now, failed))
        self._failures += failed

    def _forget_before(self, now: float) -> None:
        while self._calls and self._calls[0][0] <= now - self._rules.window:
            self._failures -= self._calls.popleft()[1]


class NoBreakers:
    """`ports.BreakerStore` for calls that are to reach their target in any case."""

    async def admit(self, target: Target) -> "NoBreakers":
        """Leave, always."""
        return self

    def succeed(self) -> None:
        """Means nothing here."""

    def fail(self, error: UpstreamError) -> None:
        """Means nothing here."""

    def release(self) -> None:
        """Means nothing here."""
