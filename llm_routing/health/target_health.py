"""The health of this process's targets, from the last sweep and from its own calls.

State is in memory and thread-safe. `monitor` loads the checks.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from msgspec import Struct

from llm_routing.core.bounded_map import BoundedMap
from llm_routing.core.breaker import Rejected
from llm_routing.core.errors import ModelNotFound, UpstreamError
from llm_routing.core.ports import BreakerStore, CredentialStore, Permit
from llm_routing.core.routing_table import Target
from llm_routing.core.types import TargetKey

from .credential_breakers import CredentialBreakers, CredentialPermit

MAX_CONSECUTIVE_FAILURES = 3
MODEL_GONE_SECONDS = 600.0
FORBIDDEN_SECONDS = 300.0
"""Time for which a refused address is reported if the provider is not called again."""
TRAFFIC_SECONDS = 300.0
MAX_CALLS = 100
MAX_TARGETS = 10_000


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
    """This process's calls in the last `TRAFFIC_SECONDS`. `latency_ms` is the median of the
    successful ones."""

    calls: int = 0
    failures: int = 0
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class TargetHealthMemory:
    """The number of targets with a stored check, and of those with recent calls."""

    checked: int
    called: int


@dataclass(slots=True)
class _RecentCalls:
    """The latest calls to one target.

    Each entry of `calls` holds the time of its end, its duration in seconds and whether it failed.
    `last_error` is the code of the last failure.
    """

    calls: deque[tuple[float, float, bool]] = field(default_factory=lambda: deque(maxlen=MAX_CALLS))
    consecutive_failures: int = 0
    last_error: str = ""
    last_success: float = float("-inf")
    last_failure: float = float("-inf")
    gone_at: float | None = None


class TargetHealth:
    """Decides from checks and calls which targets are unhealthy. The newest evidence counts.

    A target is unhealthy

    - after a failed check, until a call succeeds or `max_age` seconds have passed;
    - after `MAX_CONSECUTIVE_FAILURES` failed calls, until a check or a call succeeds or
      `failure_memory` seconds have passed (the open time of its breaker, so that it is called
      again as soon as the breaker allows);
    - after the provider answered that it does not know the model, until a check or a call succeeds
      or `MODEL_GONE_SECONDS` have passed.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.unhealthy: frozenset[str] = frozenset()
        self.max_age = float("inf")
        self.failure_memory = 0.0
        self.now = monotonic
        """Returns monotonic seconds, as in `Check.at`."""
        self._lock = threading.Lock()
        self._checks: dict[TargetKey, Check] = {}
        self._recent: BoundedMap[TargetKey, _RecentCalls] = BoundedMap(
            _RecentCalls, MAX_TARGETS, self._forget_change
        )
        self._availability: Mapping[str, float] = {}
        self._changes: dict[TargetKey, bool] = {}
        self._forbidden: dict[str, float] = {}

    def record_success(self, key: TargetKey, seconds: float) -> None:
        """Records a call that succeeded after `seconds`."""
        with self._lock:
            now = self.now()
            recent = self._calls_to(key)
            recent.calls.append((now, seconds, False))
            recent.consecutive_failures = 0
            recent.last_success = now
            if recent.gone_at is not None:
                recent.gone_at = None
                self._changes[key] = False
            if self.unhealthy:
                # This is the newest evidence, so the target can only become healthy.
                self.unhealthy -= {_name(key)}

    def record_failure(self, key: TargetKey, seconds: float, code: str = "") -> None:
        """Records a call that failed after `seconds` through the target's fault. `code` is that of
        the error."""
        with self._lock:
            now = self.now()
            recent = self._calls_to(key)
            recent.calls.append((now, seconds, True))
            recent.consecutive_failures += 1
            recent.last_error = code
            recent.last_failure = now
            self._evaluate(key, now)

    def record_model_gone(self, key: TargetKey, seconds: float) -> None:
        """Records that the provider answered after `seconds` that it does not know the model."""
        with self._lock:
            now = self.now()
            recent = self._calls_to(key)
            recent.calls.append((now, seconds, True))
            if recent.gone_at is None:
                self._changes[key] = True
            recent.gone_at = now
            self._evaluate(key, now)

    def record_forbidden_address(self, provider: str) -> bool:
        """Records that settings refused the provider's address. Returns whether that is news."""
        with self._lock:
            is_new = provider not in self._forbidden
            if is_new and len(self._forbidden) >= MAX_TARGETS:
                self._forbidden.pop(next(iter(self._forbidden)))
            self._forbidden[provider] = self.now()
            return is_new

    def is_address_forbidden(self, provider: str, models: Iterable[str]) -> bool:
        """Returns whether settings refused the provider's address lately, and no call to any of its
        models has succeeded since."""
        with self._lock:
            at = self._forbidden.get(provider)
            if at is None or self.now() - at > FORBIDDEN_SECONDS:
                return False
            calls = (self._recent.get((provider, model)) for model in models)
            return not any(recent is not None and recent.last_success > at for recent in calls)

    def last_errors(self, provider: str, models: Iterable[str]) -> frozenset[str]:
        """Returns the codes with which the last calls to the models failed, of those that did."""
        with self._lock:
            calls = (self._recent.get((provider, model)) for model in models)
            return frozenset(
                recent.last_error
                for recent in calls
                if recent is not None and recent.last_failure > recent.last_success
            )

    def drain_changes(self) -> Mapping[TargetKey, bool]:
        """Returns the models that vanished (True) or returned (False) since the last call."""
        with self._lock:
            changes, self._changes = self._changes, {}
            return changes

    def update_checks(
        self, checks: Mapping[TargetKey, Check], availability: Mapping[str, float]
    ) -> None:
        """Adds newer checks, and the share of successful ones in the last day by provider."""
        with self._lock:
            self._checks.update(checks)
            self._availability = availability
        self.refresh()

    def refresh(self) -> None:
        """Evaluates every target again, because evidence expires. Drops checks older than a day."""
        with self._lock:
            now = self.now()
            self._checks = {
                key: check for key, check in self._checks.items() if now - check.at < 86_400
            }
            keys = {*self._checks, *self._recent}
            self.unhealthy = frozenset(
                _name(key) for key in keys if key[1] and not self._is_healthy(key, now)
            )

    def clear(self) -> None:
        """Drops all state."""
        with self._lock:
            self._checks.clear()
            self._recent.clear()
            self._changes.clear()
            self._forbidden.clear()
            self.unhealthy = frozenset()

    @property
    def memory(self) -> TargetHealthMemory:
        """Returns how many targets are stored now."""
        with self._lock:
            return TargetHealthMemory(checked=len(self._checks), called=len(self._recent))

    def check_of(self, key: TargetKey) -> Check | None:
        """Returns the last check of a target, or None if it has expired."""
        with self._lock:
            return self._check(key, self.now())

    def availability(self, provider: str) -> float | None:
        """Returns the share of successful checks in the last day, or None without checks."""
        share = self._availability.get(provider)
        return None if share is None else round(share, 4)

    def traffic(self, keys: Iterable[TargetKey]) -> Traffic:
        """Returns this process's recent calls to the targets together."""
        with self._lock:
            since = self.now() - TRAFFIC_SECONDS
            calls = [
                call
                for key in keys
                if (recent := self._recent.get(key)) is not None
                for call in recent.calls
                if call[0] > since
            ]
        latencies = [seconds for _, seconds, failed in calls if not failed]
        return Traffic(
            calls=len(calls),
            failures=sum(failed for _, _, failed in calls),
            latency_ms=median(latencies) * 1000 if latencies else None,
        )

    def _calls_to(self, key: TargetKey) -> _RecentCalls:
        recent = self._recent[key]
        self._recent.move_to_end(key)
        return recent

    def _forget_change(self, key: TargetKey) -> None:
        self._changes.pop(key, None)

    def _evaluate(self, key: TargetKey, now: float) -> None:
        name, is_healthy = _name(key), self._is_healthy(key, now)
        if is_healthy and name in self.unhealthy:
            self.unhealthy -= {name}
        elif not is_healthy and name not in self.unhealthy:
            self.unhealthy |= {name}

    def _check(self, key: TargetKey, now: float) -> Check | None:
        check = self._checks.get(key)
        return check if check is not None and now - check.at <= self.max_age else None

    def _is_healthy(self, key: TargetKey, now: float) -> bool:
        check, recent = self._check(key, now), self._recent.get(key)
        checked_at = float("-inf") if check is None else check.at
        if recent is not None:
            if recent.gone_at is not None and recent.gone_at > checked_at:
                return now - recent.gone_at > MODEL_GONE_SECONDS
            if (
                recent.consecutive_failures >= MAX_CONSECUTIVE_FAILURES
                and recent.last_failure > checked_at
            ):
                return now - recent.last_failure > self.failure_memory
            if not recent.consecutive_failures and recent.last_success > checked_at:
                return True
        return check is None or check.is_healthy


class HealthRecordingBreakers:
    """A `core.ports.BreakerStore` that also records the outcome of each call as health evidence.

    A failure that concerns the credential or an unknown model does not count against the target's
    breaker.
    """

    def __init__(
        self,
        breakers: BreakerStore,
        target_health: TargetHealth,
        credential_breakers: CredentialBreakers,
        credentials: CredentialStore,
    ) -> None:
        self._breakers = breakers
        self._target_health = target_health
        self._credential_breakers = credential_breakers
        self._credentials = credentials
        credential_breakers.add_store(credentials)

    async def admit(self, target: Target, *, force: bool = False) -> Permit | Rejected:
        """Returns permission to call `target` or the refusal; see `core.ports.BreakerStore`."""
        provider = target.provider.name
        with_credential = self._credential_breakers.admit(provider, self._credentials.get(provider))
        if isinstance(with_credential, Rejected):
            return with_credential
        try:
            admitted = await self._breakers.admit(target, force=force)
        except BaseException:
            with_credential.release()
            raise
        if isinstance(admitted, Rejected):
            with_credential.release()
            return admitted
        health = self._target_health
        return _HealthRecordingPermit(admitted, with_credential, health, target.key, health.now())


class _HealthRecordingPermit(Struct, eq=False):
    _permit: Permit
    _with_credential: CredentialPermit
    _target_health: TargetHealth
    _key: TargetKey
    _began: float
    _is_settled: bool = False

    def succeed(self, seconds: float = 0.0) -> None:
        if self._is_settled:
            return
        self._is_settled = True
        self._permit.succeed(seconds)
        self._with_credential.succeed()
        self._target_health.record_success(self._key, self._target_health.now() - self._began)

    def fail(self, error: UpstreamError) -> None:
        if self._is_settled:
            return
        self._is_settled = True
        if error.disables_credential:
            self._permit.release()
            self._with_credential.refuse(error)
            return
        self._with_credential.release()
        seconds = self._target_health.now() - self._began
        if isinstance(error, ModelNotFound):
            self._permit.release()
            self._target_health.record_model_gone(self._key, seconds)
        else:
            self._permit.fail(error)
            self._target_health.record_failure(self._key, seconds, error.code)

    def release(self) -> None:
        if self._is_settled:
            return
        self._is_settled = True
        self._permit.release()
        self._with_credential.release()


def _name(key: TargetKey) -> str:
    """Returns the same text as `ModelSpec.key`."""
    return f"{key[0]}/{key[1]}"
