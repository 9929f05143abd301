"""A state machine compares the breaker with a simple model, for any order of events."""

from dataclasses import dataclass
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llm_routing.core.breaker import (
    JITTER,
    Breaker,
    BreakerPermit,
    BreakerRules,
    BreakerState,
    Rejected,
)


@dataclass
class Under:
    """A call in progress, and the era of the model in which it started."""

    permit: BreakerPermit
    era: int


class BreakerMachine(RuleBasedStateMachine):
    @initialize(
        window=st.floats(1, 100),
        window_calls=st.integers(1, 8),
        minimum_calls=st.integers(1, 10),
        failure_rate=st.floats(0.1, 1),
        slow_call_time=st.sampled_from([0.0, 2.0]),
        slow_call_rate=st.floats(0.1, 1),
        open_time=st.floats(0.5, 20),
        probes=st.integers(1, 3),
        failed_probes_double=st.booleans(),
        seed=st.integers(0, 100),
    )
    def start(self, seed: int, **rules: float) -> None:
        self.limits = BreakerRules(max_open_time=60, **rules)  # type: ignore[arg-type]
        self.breaker = Breaker(self.limits, Random(seed))
        self.now = 1000.0
        self.under: list[Under] = []
        self.state = BreakerState.CLOSED
        self.era = 0
        self.calls: list[tuple[float, bool, bool]] = []
        self.retry_at = 0.0
        self.not_before = 0.0
        self.doublings = self.earlier = 0
        self.closed_at = 0.0
        self.probing = self.proven = 0

    def turn(self, state: BreakerState) -> None:
        self.state = state
        self.era += 1
        self.calls = []
        self.probing = self.proven = 0

    def open(self) -> None:
        if self.state is BreakerState.CLOSED:
            made_up = int((self.now - self.closed_at) / self.limits.window)
            self.earlier = max(0, self.earlier - made_up)
            self.doublings = max(0, self.earlier - 1)
            self.earlier = min(self.earlier, self.limits.max_doublings) + 1
        else:
            self.doublings += self.limits.failed_probes_double
        base = self.limits.open_time * 2**self.doublings
        retry_after = self.breaker.status(self.now).retry_after
        least = min(max(base * (1 - JITTER), self.not_before - self.now), 60)
        most = min(max(base * (1 + JITTER), self.not_before - self.now), 60)
        assert least - 1e-6 <= retry_after <= most + 1e-6
        self.retry_at = self.now + retry_after
        self.turn(BreakerState.OPEN)

    def stay_open(self) -> None:
        """Applies the failure of a forced call."""
        if self.not_before > self.retry_at:
            self.retry_at = min(self.not_before, self.now + 60)

    @property
    def is_enough(self) -> bool:
        enough = min(self.limits.minimum_calls, self.limits.window_calls)
        return len(self.window()) >= enough

    @property
    def slow_share(self) -> float:
        return self.limits.slow_call_rate * len(self.window())

    def close(self) -> None:
        if self.state is not BreakerState.CLOSED:
            self.closed_at = self.now
        self.not_before = 0.0
        self.turn(BreakerState.CLOSED)

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.state is BreakerState.OPEN)
    @rule()
    def wait_until_due(self) -> None:
        self.now = max(self.now, self.retry_at + 1e-6)

    @rule(times=st.integers(1, 6))
    def ask(self, times: int) -> None:
        for _ in range(times):
            if self.state is BreakerState.OPEN and self.now >= self.retry_at:
                self.turn(BreakerState.HALF_OPEN)
            answer = self.breaker.admit(self.now)
            is_full = self.probing + self.proven >= self.limits.probes
            if self.state is BreakerState.OPEN or (
                self.state is BreakerState.HALF_OPEN and is_full
            ):
                assert isinstance(answer, Rejected)
                assert answer.retry_after > 0
                assert answer.cause
            else:
                assert isinstance(answer, BreakerPermit)
                self.under.append(Under(answer, self.era))
                self.probing += self.state is BreakerState.HALF_OPEN

    @rule()
    def ask_regardless(self) -> None:
        if self.state is BreakerState.OPEN and self.now >= self.retry_at:
            self.turn(BreakerState.HALF_OPEN)
        answer = self.breaker.admit(self.now, force=True)
        assert isinstance(answer, BreakerPermit)
        self.under.append(Under(answer, self.era))
        self.probing += self.state is not BreakerState.CLOSED

    @precondition(lambda self: self.under)
    @rule(data=st.data(), keep=st.booleans(), seconds=st.sampled_from([0.0, 1.0, 2.0, 3.0]))
    def succeed(self, data: st.DataObject, keep: bool, seconds: float) -> None:
        call = self.take(data, keep)
        is_news = call.era == self.era
        call.permit.succeed(self.now, seconds)
        call.era = -1
        if not is_news:
            return
        is_slow = seconds > self.limits.slow_call_time > 0
        if self.state is BreakerState.CLOSED:
            self.calls.append((self.now, False, is_slow))
            slow = sum(was_slow for _, _, was_slow in self.window())
            if is_slow and self.is_enough and slow >= self.slow_share:
                self.open()
            return
        if is_slow:
            if self.state is BreakerState.HALF_OPEN:
                self.open()
            else:
                self.stay_open()
            return
        self.probing -= 1
        self.proven += 1
        if self.proven == self.limits.probes:
            self.close()

    @precondition(lambda self: self.under)
    @rule(data=st.data(), keep=st.booleans(), retry_after=st.none() | st.floats(0, 100))
    def fail(self, data: st.DataObject, keep: bool, retry_after: float | None) -> None:
        call = self.take(data, keep)
        is_news = call.era == self.era
        call.permit.fail(self.now, "server_failed", retry_after)
        call.era = -1
        if not is_news:
            return
        if retry_after is not None:
            self.not_before = max(self.not_before, self.now + retry_after)
        if self.state is BreakerState.HALF_OPEN:
            self.open()
            return
        if self.state is BreakerState.OPEN:
            self.stay_open()
            return
        self.calls.append((self.now, True, False))
        window = self.window()
        failures = sum(failed for _, failed, _ in window)
        if self.is_enough and failures >= self.limits.failure_rate * len(window):
            self.open()

    @precondition(lambda self: self.under)
    @rule(data=st.data(), keep=st.booleans())
    def cancel(self, data: st.DataObject, keep: bool) -> None:
        call = self.take(data, keep)
        if call.era == self.era and self.state is not BreakerState.CLOSED:
            self.probing -= 1
        call.permit.release()
        call.era = -1

    @rule()
    def reset(self) -> None:
        self.breaker.reset()
        self.close()
        self.earlier = 0

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "breaker"):
            return
        status = self.breaker.status(self.now)
        is_due = self.state is BreakerState.OPEN and self.now >= self.retry_at
        assert status.state is (BreakerState.HALF_OPEN if is_due else self.state)
        assert bool(status.cause) is (self.state is not BreakerState.CLOSED)
        assert status.calls == len(self.window())
        assert status.failures == sum(failed for _, failed, _ in self.window())
        assert status.slow_calls == sum(was_slow for _, _, was_slow in self.window())
        if self.state is BreakerState.OPEN:
            assert abs(status.retry_after - max(0.0, self.retry_at - self.now)) < 1e-6
        assert self.probing >= 0
        assert 0 <= self.proven <= self.limits.probes

    def take(self, data: st.DataObject, keep: bool) -> Under:
        """Returns one of the calls in progress; with `kept` it can be settled a second time."""
        index = data.draw(st.integers(0, len(self.under) - 1))
        return self.under[index] if keep else self.under.pop(index)

    def window(self) -> list[tuple[float, bool, bool]]:
        recent = self.calls[-self.limits.window_calls :]
        return [call for call in recent if call[0] > self.now - self.limits.window]


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=150, stateful_step_count=40)
