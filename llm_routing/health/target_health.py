"""What this process knows about its targets: the last sweep's word and its own calls.

All in memory and for any thread; where checks come from is in `watch`.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from llm_routing.core.breaker import Refusal
from llm_routing.core.errors import ModelNotFound, UpstreamError
from llm_routing.core.ports import BreakerStore, CredentialStore, Permit
from llm_routing.core.routing_table import Target

from .credential_breakers import CredentialBreakers, CredentialPermit

FAILURES_IN_A_ROW = 3
GONE_SECONDS = 600.0
LIVE_SECONDS = 300.0
LIVE_CALLS = 100
MAX_TARGETS = 10_000

Key = tuple[str, str]
"""A provider's name and the model's identifier there, empty for the provider itself."""


@dataclass(frozen=True, slots=True)
class Check:
    """The last check of a target. `at` is in monotonic seconds of this process."""

    at: float
    is_healthy: bool
    error_code: str
    latency_ms: float | None
    kind: str


@dataclass(frozen=True, slots=True)
class Traffic:
    """The calls of this process in the last `LIVE_SECONDS`; `latency_ms` is the median of those
    that succeeded."""

    calls: int = 0
    failures: int = 0
    latency_ms: float | None = None


@dataclass(slots=True)
class _Live:
    """The calls to one target: when each ended, how long it took, and whether it failed."""

    calls: deque[tuple[float, float, bool]] = field(
        default_factory=lambda: deque(maxlen=LIVE_CALLS)
    )
    failures_in_a_row: int = 0
    last_success: float = float("-inf")
    last_failure: float = float("-inf")
    gone_at: float | None = None


class HealthSigns:
    """Checks and calls by target, and what follows from them: the newest sign counts.

    A target is unhealthy by its last check, until a call succeeds or `max_age` seconds have passed;
    or by `FAILURES_IN_A_ROW` calls that failed, until a check or a call succeeds or
    `failure_memory` seconds have passed, as long as its breaker is open, so that it is asked again
    as soon as that allows; or by one call to which the provider said that it does not know
    the model, until a check or a call succeeds or `GONE_SECONDS` have passed.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.unhealthy: frozenset[str] = frozenset()
        self.max_age = float("inf")
        self.failure_memory = 0.0
        self.now = monotonic
        """Monotonic seconds, as in `Check.at`."""
        self._lock = threading.Lock()
        self._checks: dict[Key, Check] = {}
        self._live: OrderedDict[Key, _Live] = OrderedDict()
        self._availability: Mapping[str, float] = {}
        self._turns: dict[Key, bool] = {}

    def note_success(self, key: Key, seconds: float) -> None:
        """A call succeeded after `seconds`."""
        with self._lock:
            now = self.now()
            live = self._of(key)
            live.calls.append((now, seconds, False))
            live.failures_in_a_row = 0
            live.last_success = now
            if live.gone_at is not None:
                live.gone_at = None
                self._turns[key] = False
            if self.unhealthy:
                # Nothing is newer than this, so it can only take the target out of them.
                self.unhealthy -= {_name(key)}

    def note_failure(self, key: Key, seconds: float) -> None:
        """A call failed through a fault of the target's after `seconds`."""
        with self._lock:
            now = self.now()
            live = self._of(key)
            live.calls.append((now, seconds, True))
            live.failures_in_a_row += 1
            live.last_failure = now
            self._judge(key, now)

    def note_gone(self, key: Key, seconds: float) -> None:
        """The provider said after `seconds` that it does not know the model."""
        with self._lock:
            now = self.now()
            live = self._of(key)
            live.calls.append((now, seconds, True))
            if live.gone_at is None:
                self._turns[key] = True
            live.gone_at = now
            self._judge(key, now)

    def take_turns(self) -> Mapping[Key, bool]:
        """The models that have gone (True) or come back since the last time."""
        with self._lock:
            turns, self._turns = self._turns, {}
            return turns

    def take(self, checks: Mapping[Key, Check], availability: Mapping[str, float]) -> None:
        """Takes over newer checks, and the share of good ones in the last day by provider."""
        with self._lock:
            self._checks.update(checks)
            self._availability = availability
        self.refresh()

    def refresh(self) -> None:
        """Judges every target anew, for signs lose their weight with time; what nobody has heard
        of for a day is forgotten."""
        with self._lock:
            now = self.now()
            self._checks = {
                key: check for key, check in self._checks.items() if now - check.at < 86_400
            }
            keys = {*self._checks, *self._live}
            self.unhealthy = frozenset(
                _name(key) for key in keys if key[1] and not self._is_healthy(key, now)
            )

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._checks.clear()
            self._live.clear()
            self._turns.clear()
            self.unhealthy = frozenset()

    def check_of(self, key: Key) -> Check | None:
        """The last check of a target, if it still counts."""
        with self._lock:
            return self._check(key, self.now())

    def availability(self, provider: str) -> float | None:
        """The share of good checks in the last day; None where there was none."""
        share = self._availability.get(provider)
        return None if share is None else round(share, 4)

    def traffic(self, keys: Iterable[Key]) -> Traffic:
        """The calls of this process to targets."""
        with self._lock:
            since = self.now() - LIVE_SECONDS
            calls = [
                call
                for key in keys
                if (live := self._live.get(key)) is not None
                for call in live.calls
                if call[0] > since
            ]
        latencies = [seconds for _, seconds, failed in calls if not failed]
        return Traffic(
            calls=len(calls),
            failures=sum(failed for _, _, failed in calls),
            latency_ms=median(latencies) * 1000 if latencies else None,
        )

    def _of(self, key: Key) -> _Live:
        live = self._live.get(key)
        if live is None:
            live = self._live[key] = _Live()
            if len(self._live) > MAX_TARGETS:
                self._turns.pop(self._live.popitem(last=False)[0], None)
        else:
            self._live.move_to_end(key)
        return live

    def _judge(self, key: Key, now: float) -> None:
        name, is_healthy = _name(key), self._is_healthy(key, now)
        if is_healthy and name in self.unhealthy:
            self.unhealthy -= {name}
        elif not is_healthy and name not in self.unhealthy:
            self.unhealthy |= {name}

    def _check(self, key: Key, now: float) -> Check | None:
        check = self._checks.get(key)
        return check if check is not None and now - check.at <= self.max_age else None

    def _is_healthy(self, key: Key, now: float) -> bool:
        check, live = self._check(key, now), self._live.get(key)
        checked_at = float("-inf") if check is None else check.at
        if live is not None:
            if live.gone_at is not None and live.gone_at > checked_at:
                return now - live.gone_at > GONE_SECONDS
            if live.failures_in_a_row >= FAILURES_IN_A_ROW and live.last_failure > checked_at:
                return now - live.last_failure > self.failure_memory
            if not live.failures_in_a_row and live.last_success > checked_at:
                return True
        return check is None or check.is_healthy


class WatchedBreakers:
    """`core.ports.BreakerStore` over another one: how each call ends is a sign of health too, and
    what it says of a credential or of a model's being there at all is not the target's breaker's.
    """

    def __init__(
        self,
        breakers: BreakerStore,
        signs: HealthSigns,
        credential_breakers: CredentialBreakers,
        credentials: CredentialStore,
    ) -> None:
        self._breakers = breakers
        self._signs = signs
        self._credential_breakers = credential_breakers
        self._credentials = credentials
        credential_breakers.serve(credentials)

    async def admit(self, target: Target, *, regardless: bool = False) -> Permit | Refusal:
        """Leave to ask `target`, or why not; see `core.ports.BreakerStore`."""
        provider = target.provider.name
        with_credential = self._credential_breakers.admit(provider, self._credentials.get(provider))
        if isinstance(with_credential, Refusal):
            return with_credential
        try:
            admitted = await self._breakers.admit(target, regardless=regardless)
        except BaseException:
            with_credential.release()
            raise
        if isinstance(admitted, Refusal):
            with_credential.release()
            return admitted
        key = (provider, target.model.model_id)
        return _WatchedPermit(admitted, with_credential, self._signs, key)


class _WatchedPermit:
    __slots__ = ("_began", "_is_settled", "_key", "_permit", "_signs", "_with_credential")

    def __init__(
        self, permit: Permit, with_credential: CredentialPermit, signs: HealthSigns, key: Key
    ) -> None:
        self._permit = permit
        self._with_credential = with_credential
        self._signs = signs
        self._key = key
        self._began = signs.now()
        self._is_settled = False

    def succeed(self, seconds: float = 0.0) -> None:
        if self._is_settled:
            return
        self._is_settled = True
        self._permit.succeed(seconds)
        self._with_credential.succeed()
        self._signs.note_success(self._key, self._signs.now() - self._began)

    def fail(self, error: UpstreamError) -> None:
        if self._is_settled:
            return
        self._is_settled = True
        if error.takes_credential_out:
            self._permit.release()
            self._with_credential.refuse(error)
            return
        self._with_credential.release()
        seconds = self._signs.now() - self._began
        if isinstance(error, ModelNotFound):
            self._permit.release()
            self._signs.note_gone(self._key, seconds)
        else:
            self._permit.fail(error)
            self._signs.note_failure(self._key, seconds)

    def release(self) -> None:
        if self._is_settled:
            return
        self._is_settled = True
        self._permit.release()
        self._with_credential.release()


def _name(key: Key) -> str:
    """As `ModelSpec.key`."""
    return f"{key[0]}/{key[1]}"
