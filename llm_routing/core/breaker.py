"""The circuit breaker: stops calls to a failing target for a while, then probes it.

Pure: the time (monotonic seconds) and the randomness are arguments. `ports.BreakerStore` hides
which breaker belongs to which target and who shares it. Processes share an `Opening`.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, log2
from random import Random

from msgspec import Struct

from .errors import UpstreamError
from .routing_table import Target

MAX_DOUBLINGS = 30
JITTER = 0.2
MAX_JITTER_SECONDS = 2.0
"""Bounds the delay until a recovered target is probed, even after a long open time."""

SLOW_CALLS = "slow_calls"
"""The cause of an opening by slow calls, which have no error code."""


class BreakerState(StrEnum):
    """CLOSED: every call is allowed. OPEN: none is. HALF_OPEN: a few probes are."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens, and for how long. A full window always counts as enough calls.

    It looks at the last `window_calls` calls that ended within `window` seconds. It opens if at
    least `minimum_calls` calls were made and the latest failure raises the failures to
    `failure_rate` of them, or the latest slow call raises the slow calls to `slow_call_rate`. A
    slow call is a success that took more than `slow_call_time` seconds (0: never slow). It stays
    open for `open_time` seconds, plus or minus a fifth (at most 2 s), and reopens when a probe
    fails or is slow, with `failed_probes_double` for twice as long each time. It closes when
    `probes` probes have succeeded.

    A flapping target stays open longer: the time doubles with each earlier opening except the
    first, and each `window` seconds that the breaker stays closed cancel one of those. No opening
    is longer than `max_open_time`.
    """

    window: float = 60.0
    window_calls: int = 100
    minimum_calls: int = 10
    failure_rate: float = 0.5
    slow_call_time: float = 0.0
    slow_call_rate: float = 0.8
    open_time: float = 5.0
    max_open_time: float = 300.0
    probes: int = 1
    failed_probes_double: bool = True

    @property
    def max_doublings(self) -> int:
        """The number of consecutive openings after which an opening has its maximum length."""
        return max(0, ceil(log2(self.max_open_time / self.open_time)))


@dataclass(frozen=True, slots=True)
class Rejected:
    """A call that is not allowed; try again in `retry_after` seconds. `cause` is the code of the
    failure that opened the breaker, or `SLOW_CALLS`."""

    retry_after: float
    cause: str


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """A snapshot of a breaker. `cause` is as in `Rejected`, empty while closed; `opened_for` and
    `retry_after` are in seconds; `calls`, `failures` and `slow_calls` are those of the window;
    `openings` counts all openings so far."""

    state: BreakerState
    cause: str
    opened_for: float
    retry_after: float
    calls: int
    failures: int
    openings: int
    slow_calls: int = 0


@dataclass(frozen=True, slots=True)
class Opening:
    """A breaker that is not closed, in the form that processes share. Durations are in seconds.
    Each `level` above 1 doubles the open time. `proven` is the number of successful probes so
    far."""

    cause: str
    opened_for: float
    retry_after: float
    level: int
    proven: int = 0


class BreakerPermit(Struct, eq=False):
    """Permission to make one call. Report the outcome once; later reports are ignored."""

    _breaker: "Breaker"
    _generation: int
    _is_settled: bool = False

    def succeed(self, now: float, seconds: float = 0.0) -> None:
        """Reports that the target answered after `seconds`."""
        if self._settle():
            self._breaker.on_success(now, seconds)

    def fail(self, now: float, cause: str, retry_after: float | None = None) -> None:
        """Reports a failure with the error code `cause`; the target requested a wait of
        `retry_after` seconds."""
        if self._settle():
            self._breaker.on_failure(now, cause, retry_after)

    def release(self) -> None:
        """Reports a call that does not count: it was cancelled or never made."""
        if self._settle():
            self._breaker.on_release()

    def _settle(self) -> bool:
        """Returns whether this is the first report, for a call that began in the breaker's current
        state."""
        is_first, self._is_settled = not self._is_settled, True
        return is_first and self._generation == self._breaker.generation


class Breaker:
    """One circuit breaker. Not thread-safe.

    The outcome of a call that began before the last change of state is ignored. `decisions` counts
    the openings and closings that this breaker decided itself.
    """

    def __init__(self, rules: BreakerRules, rng: Random) -> None:
        self.generation = self.decisions = 0
        self._rules = rules
        self._rng = rng
        self._state = BreakerState.CLOSED
        self._calls: deque[tuple[float, bool, bool]] = deque()
        self._failures = self._slow_calls = 0
        self._cause = ""
        self._opened_at = self._retry_at = 0.0
        self._not_before = float("-inf")
        self._closed_at = float("-inf")
        self._openings = self._doublings = self._earlier_openings = 0
        self._probing = self._proven = 0

    @property
    def is_closed(self) -> bool:
        """Whether every call is allowed."""
        return self._state is BreakerState.CLOSED

    def admit(self, now: float, *, force: bool = False) -> BreakerPermit | Rejected:
        """Returns permission for one call, or when to try again.

        `force` always permits: the success of a call that would have been rejected counts as a
        probe; a failure leaves the breaker open for the rest of its time, or for the time that the
        vendor requests.
        """
        if self._state is BreakerState.OPEN and now >= self._retry_at:
            self._change(BreakerState.HALF_OPEN)
        if self._state is BreakerState.OPEN and not force:
            return Rejected(self._retry_at - now, self._cause)
        if self._state is BreakerState.HALF_OPEN and not force and self._is_full:
            return Rejected(self._rules.open_time, self._cause)
        if self._state is not BreakerState.CLOSED:
            self._probing += 1
        return BreakerPermit(self, self.generation)

    def reset(self) -> None:
        """Closes the breaker and forgets its history."""
        self._earlier_openings = 0
        self._close(float("-inf"))

    def adopt(self, now: float, opening: Opening | None) -> None:
        """Takes over the state of another process: its opening, or closed if None."""
        if opening is None:
            self._turn_closed(now)
            return
        self._note_opening(now)
        self._opened_at = now - opening.opened_for
        self._retry_at = now + opening.retry_after
        self._doublings = max(0, opening.level - 1)
        self._openings += self._state is not BreakerState.OPEN
        self._turn_open(opening.cause)
        if opening.proven:
            self._change(BreakerState.HALF_OPEN)
            self._proven = opening.proven

    def is_due(self, now: float) -> bool:
        """Returns whether probes are due."""
        is_over = self._state is BreakerState.OPEN and now >= self._retry_at
        return is_over or self._state is BreakerState.HALF_OPEN

    def opening(self, now: float) -> Opening | None:
        """Returns the opening for other processes; None while the breaker is closed."""
        if self._state is BreakerState.CLOSED:
            return None
        return Opening(
            self._cause,
            now - self._opened_at,
            max(0.0, self._retry_at - now),
            self._doublings + 1,
            self._proven if self._state is BreakerState.HALF_OPEN else 0,
        )

    def status(self, now: float) -> BreakerStatus:
        """Returns the status of the breaker. It is half open once its open time is over."""
        self._forget_before(now)
        is_closed = self._state is BreakerState.CLOSED
        return BreakerStatus(
            state=BreakerState.HALF_OPEN if self.is_due(now) else self._state,
            cause=self._cause,
            opened_for=0.0 if is_closed else now - self._opened_at,
            retry_after=0.0 if is_closed else max(0.0, self._retry_at - now),
            calls=len(self._calls),
            failures=self._failures,
            openings=self._openings,
            slow_calls=self._slow_calls,
        )

    def on_success(self, now: float, seconds: float) -> None:
        """Counts a call of this generation that succeeded after `seconds`."""
        is_slow = 0 < self._rules.slow_call_time < seconds
        if self._state is BreakerState.CLOSED:
            self._count(now, is_slow=is_slow)
        elif is_slow:
            self._fail_probe(now, SLOW_CALLS)
        else:
            self._probing -= 1
            self._proven += 1
            if self._proven >= self._rules.probes:
                self._close(now)

    def on_failure(self, now: float, cause: str, retry_after: float | None) -> None:
        """Counts a call of this generation that failed."""
        if retry_after is not None:
            self._not_before = max(self._not_before, now + retry_after)
        if self._state is BreakerState.CLOSED:
            self._count(now, cause=cause)
        else:
            self._fail_probe(now, cause)

    def on_release(self) -> None:
        """Ends a call of this generation that does not count; another probe may take its place."""
        if self._state is not BreakerState.CLOSED:
            self._probing -= 1

    @property
    def _is_full(self) -> bool:
        return self._probing + self._proven >= self._rules.probes

    def _fail_probe(self, now: float, cause: str) -> None:
        if self._state is BreakerState.HALF_OPEN:
            self._open(now, cause)
        elif self._not_before > self._retry_at:
            # A forced call before the probe is due is not a failed probe, so the time does not
            # double.
            self._retry_at = min(self._not_before, now + self._rules.max_open_time)
            self.decisions += 1

    def _open(self, now: float, cause: str) -> None:
        rules = self._rules
        self._note_opening(now)
        seconds = rules.open_time * 2.0 ** min(self._doublings, MAX_DOUBLINGS)
        spread = min(JITTER * seconds, MAX_JITTER_SECONDS)
        seconds += self._rng.uniform(-spread, spread)
        seconds = min(max(seconds, self._not_before - now), rules.max_open_time)
        self._retry_at = now + seconds
        self._openings += 1
        self.decisions += 1
        self._turn_open(cause)

    def _note_opening(self, now: float) -> None:
        """Computes the length of the opening that begins or continues now."""
        rules = self._rules
        if self._state is BreakerState.CLOSED:
            self._opened_at = now
            made_up = min((now - self._closed_at) / rules.window, self._earlier_openings)
            earlier = self._earlier_openings - int(made_up)
            self._doublings = max(0, earlier - 1)
            # Capped, so that a target that flapped for hours is forgiven as soon as one that just
            # reached the maximum.
            self._earlier_openings = min(earlier, rules.max_doublings) + 1
        elif rules.failed_probes_double:
            self._doublings += 1

    def _turn_open(self, cause: str) -> None:
        self._cause = cause
        self._change(BreakerState.OPEN)

    def _close(self, now: float) -> None:
        self.decisions += 1
        self._turn_closed(now)

    def _turn_closed(self, now: float) -> None:
        if self._state is not BreakerState.CLOSED:
            self._closed_at = now
        self._cause = ""
        self._not_before = float("-inf")
        self._change(BreakerState.CLOSED)

    def _change(self, state: BreakerState) -> None:
        self._state = state
        self.generation += 1
        self._probing = self._proven = 0
        self._calls.clear()
        self._failures = self._slow_calls = 0

    def _count(self, now: float, *, cause: str = "", is_slow: bool = False) -> None:
        failed = bool(cause)
        self._forget_before(now)
        if len(self._calls) >= self._rules.window_calls:
            self._forget_oldest()
        self._calls.append((now, failed, is_slow))
        self._failures += failed
        self._slow_calls += is_slow
        rules, calls = self._rules, len(self._calls)
        if calls < min(rules.minimum_calls, rules.window_calls):
            return
        if failed and self._failures >= rules.failure_rate * calls:
            self._open(now, cause)
        elif is_slow and self._slow_calls >= rules.slow_call_rate * calls:
            self._open(now, SLOW_CALLS)

    def _forget_before(self, now: float) -> None:
        while self._calls and self._calls[0][0] <= now - self._rules.window:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, failed, was_slow = self._calls.popleft()
        self._failures -= failed
        self._slow_calls -= was_slow


class NoBreakers:
    """A `ports.BreakerStore` that permits every call."""

    async def admit(self, target: Target, *, force: bool = False) -> "NoBreakers":
        """Permits the call."""
        return self

    def succeed(self, seconds: float = 0.0) -> None:
        """No-op."""

    def fail(self, error: UpstreamError) -> None:
        """No-op."""

    def release(self) -> None:
        """No-op."""
