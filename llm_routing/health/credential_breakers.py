"""Disables credentials that their providers reject, until they are replaced or a probe succeeds.

State is in memory and thread-safe. `core.breaker` decides when a probe is due; `monitor` logs the
changes and shares them with other processes.
"""

import hmac
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from random import Random
from weakref import WeakSet

from msgspec import Struct

from llm_routing.configuration.credentials import HeaderCredential
from llm_routing.core.breaker import (
    Breaker,
    BreakerPermit,
    BreakerRules,
    BreakerStatus,
    Rejected,
)
from llm_routing.core.errors import UpstreamError
from llm_routing.core.ports import Credential, CredentialStore
from llm_routing.crypto.at_rest import derived_key

RULES = BreakerRules(
    window_calls=1,
    minimum_calls=1,
    failure_rate=1.0,
    open_time=60.0,
    max_open_time=3600.0,
    probes=1,
)
"""One rejection opens the breaker; the first probe follows after a minute, later ones within an
hour."""

MAX_DISABLED = 1_000
MAX_EVENTS = 1_000
_FINGERPRINT = b"llm_routing fingerprint of provider credentials"

CredentialKey = tuple[str, str]
"""A provider's name and the fingerprint of a credential."""


class CredentialChange(StrEnum):
    """A change of the state of a credential."""

    DISABLED = "disabled"
    RESTORED = "restored"
    REPLACED = "replaced"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class CredentialEvent:
    """A change to log. `origin` says where the key comes from (`ProviderKey.origin`);
    `retry_after` is in seconds."""

    change: CredentialChange
    provider: str
    cause: str
    origin: str
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class _DisabledCredential:
    """A disabled credential: its breaker, the error code that opened it, and the key's origin."""

    breaker: Breaker
    cause: str
    origin: str


class CredentialBreakers:
    """Circuit breakers of rejected credentials, by provider and fingerprint.

    A replaced key has another fingerprint, so it starts without a breaker. While no credential is
    disabled, `admit` costs one lookup in an empty set.
    """

    def __init__(self, monotonic: Callable[[], float], rng: Random) -> None:
        self._monotonic = monotonic
        self._rng = rng
        self._lock = threading.Lock()
        self._disabled: dict[CredentialKey, _DisabledCredential] = {}
        self._providers: frozenset[str] = frozenset()
        self._stores: WeakSet[CredentialStore] = WeakSet()
        self._events: deque[CredentialEvent] = deque(maxlen=MAX_EVENTS)

    def add_store(self, store: CredentialStore) -> None:
        """Adds a store whose credentials are in use. It is referenced weakly."""
        self._stores.add(store)

    def admit(self, provider: str, credential: Credential | None) -> "CredentialPermit | Rejected":
        """Returns permission for one call with `credential`, or the refusal with its wait."""
        if credential is None or provider not in self._providers:
            return CredentialPermit(self, provider, credential, None)
        key = (provider, fingerprint(credential))
        with self._lock:
            disabled = self._disabled.get(key)
            if disabled is None:
                return CredentialPermit(self, provider, credential, None)
            admitted = disabled.breaker.admit(self._monotonic())
        if isinstance(admitted, Rejected):
            return admitted
        return CredentialPermit(self, provider, credential, admitted)

    def disable_reported(
        self, provider: str, fingerprint: str, cause: str, retry_after: float
    ) -> None:
        """Disables a credential that another process reported, if this process uses it too."""
        origin = self._origin_in_use(provider, fingerprint)
        if origin is not None:
            with self._lock:
                self._disable((provider, fingerprint), cause, origin, retry_after)

    def reset(self, provider: str) -> None:
        """Enables the provider's credentials again."""
        self._enable(
            [key for key in list(self._disabled) if key[0] == provider], CredentialChange.RESET
        )

    def refresh(self) -> None:
        """Drops credentials that no store holds any more."""
        gone = [key for key in list(self._disabled) if self._origin_in_use(*key) is None]
        self._enable(gone, CredentialChange.REPLACED)

    def statuses(self) -> Mapping[str, BreakerStatus]:
        """Returns the breaker status of each disabled credential, by provider."""
        return {
            provider: status for (provider, _), status in self.statuses_by_fingerprint().items()
        }

    def statuses_by_fingerprint(self) -> Mapping[CredentialKey, BreakerStatus]:
        """Returns the same as `statuses`, by provider and fingerprint."""
        with self._lock:
            now = self._monotonic()
            return {key: disabled.breaker.status(now) for key, disabled in self._disabled.items()}

    def drain_events(self) -> Sequence[CredentialEvent]:
        """Returns the events since the last call, oldest first."""
        with self._lock:
            events = tuple(self._events)
            self._events.clear()
            return events

    def on_refused(
        self,
        provider: str,
        credential: Credential,
        probe: BreakerPermit | None,
        error: UpstreamError,
    ) -> None:
        """Records that the provider rejected a call for its credential."""
        key = (provider, fingerprint(credential))
        origin = self._origin_in_use(*key)
        if origin is None:
            return  # the key was replaced while the call ran
        with self._lock:
            now = self._monotonic()
            if probe is not None:
                probe.fail(now, error.code, error.retry_after)
            elif key not in self._disabled:
                status = self._disable(key, error.code, origin, error.retry_after)
                wait = status.retry_after
                self._events.append(
                    CredentialEvent(CredentialChange.DISABLED, provider, error.code, origin, wait)
                )

    def on_accepted(self, provider: str, credential: Credential, probe: BreakerPermit) -> None:
        """Records that a probe succeeded."""
        with self._lock:
            probe.succeed(self._monotonic())
        self._enable([(provider, fingerprint(credential))], CredentialChange.RESTORED)

    def on_released(self, probe: BreakerPermit) -> None:
        """Releases a probe that proved nothing about the credential."""
        with self._lock:
            probe.release()

    def _disable(
        self, key: CredentialKey, cause: str, origin: str, retry_after: float | None
    ) -> BreakerStatus:
        now = self._monotonic()
        disabled = self._disabled.get(key)
        if disabled is None:
            breaker = Breaker(RULES, self._rng)
            disabled = self._disabled[key] = _DisabledCredential(breaker, cause, origin)
            if len(self._disabled) > MAX_DISABLED:
                del self._disabled[next(iter(self._disabled))]
            self._providers = frozenset(provider for provider, _ in self._disabled)
            permit = breaker.admit(now)
            assert isinstance(permit, BreakerPermit)
            permit.fail(now, cause, retry_after)
        return disabled.breaker.status(now)

    def _enable(self, keys: Sequence[CredentialKey], change: CredentialChange) -> None:
        with self._lock:
            for key in keys:
                disabled = self._disabled.pop(key, None)
                if disabled is not None:
                    event = CredentialEvent(change, key[0], disabled.cause, disabled.origin)
                    self._events.append(event)
            self._providers = frozenset(provider for provider, _ in self._disabled)

    def _origin_in_use(self, provider: str, credential_fingerprint: str) -> str | None:
        """Returns where the credential's key comes from, or None if no store holds it."""
        for store in list(self._stores):
            credential = store.get(provider)
            if credential is not None and fingerprint(credential) == credential_fingerprint:
                return credential.origin if isinstance(credential, HeaderCredential) else ""
        return None


class CredentialPermit(Struct, eq=False):
    """Permission for one call with a credential. Report the outcome once."""

    _breakers: CredentialBreakers
    _provider: str
    _credential: Credential | None
    _probe: BreakerPermit | None

    def succeed(self) -> None:
        """Reports that the provider accepted the credential."""
        if self._probe is not None and self._credential is not None:
            self._breakers.on_accepted(self._provider, self._credential, self._probe)

    def refuse(self, error: UpstreamError) -> None:
        """Reports that the provider rejected the credential or its account."""
        if self._credential is not None:
            self._breakers.on_refused(self._provider, self._credential, self._probe, error)

    def release(self) -> None:
        """Reports a call that proves nothing about the credential."""
        if self._probe is not None:
            self._breakers.on_released(self._probe)


def fingerprint(credential: Credential) -> str:
    """Returns a keyed hash that identifies a credential without revealing it. It is the same in all
    processes that share SECRET_KEY."""
    headers = "\n".join(f"{name}\t{value}" for name, value in sorted(credential.headers.items()))
    return hmac.new(derived_key(_FINGERPRINT), headers.encode(), sha256).hexdigest()[:32]
