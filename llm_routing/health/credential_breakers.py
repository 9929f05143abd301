"""Credentials that their providers refuse: out of use until they change, or until a probe passes.

All in memory and for any thread. When a probe is due is `core.breaker`'s; who is told is `watch`'s.
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

from llm_routing.configuration.credentials import HeaderCredential
from llm_routing.core.breaker import (
    Breaker,
    BreakerPermit,
    BreakerRules,
    BreakerStatus,
    Refusal,
)
from llm_routing.core.errors import UpstreamError
from llm_routing.core.ports import Credential, CredentialStore
from llm_routing.crypto.at_rest import derived_key

RULES = BreakerRules(
    window_calls=1,
    minimum_calls=1,
    failure_rate=1.0,
    open_time=60.0,
    longest_open_time=3600.0,
    probes=1,
)
"""One refusal is enough; a minute until the first probe, an hour at most."""

MAX_OUT = 1_000
MAX_NEWS = 1_000
_FINGERPRINT = b"llm_routing fingerprint of provider credentials"

Key = tuple[str, str]
"""A provider's name and the fingerprint of a credential."""


class Turn(StrEnum):
    """What has happened to a credential."""

    OUT = "out"
    BACK = "back"
    REPLACED = "replaced"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class News:
    """A turn to be told. `origin` is where the credential's key is from (`ProviderKey.origin`)."""

    turn: Turn
    provider: str
    cause: str
    origin: str
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class _Out:
    """A credential out of use: its breaker, what opened it, and where the key is from."""

    breaker: Breaker
    cause: str
    origin: str


class CredentialBreakers:
    """A circuit breaker for each credential that was refused, by provider and fingerprint: another
    key is another credential. A call that finds none costs a look into an empty dictionary."""

    def __init__(self, monotonic: Callable[[], float], rng: Random) -> None:
        self._monotonic = monotonic
        self._rng = rng
        self._lock = threading.Lock()
        self._out: dict[Key, _Out] = {}
        self._providers: frozenset[str] = frozenset()
        self._stores: WeakSet[CredentialStore] = WeakSet()
        self._news: deque[News] = deque(maxlen=MAX_NEWS)

    def serve(self, store: CredentialStore) -> None:
        """Takes `store` for one of those whose credentials are in use."""
        self._stores.add(store)

    def admit(self, provider: str, credential: Credential | None) -> "CredentialPermit | Refusal":
        """Leave to make one call with `credential`, or when to ask again."""
        if credential is None or provider not in self._providers:
            return CredentialPermit(self, provider, credential, None)
        key = (provider, fingerprint(credential))
        with self._lock:
            out = self._out.get(key)
            if out is None:
                return CredentialPermit(self, provider, credential, None)
            admitted = out.breaker.admit(self._monotonic())
        if isinstance(admitted, Refusal):
            return admitted
        return CredentialPermit(self, provider, credential, admitted)

    def adopt(self, provider: str, mark: str, cause: str, retry_after: float) -> None:
        """Another process says that the credential with the fingerprint `mark` is out of use."""
        origin = self._origin_in_use(provider, mark)
        if origin is not None:
            with self._lock:
                self._take_out((provider, mark), cause, origin, retry_after)

    def reset(self, provider: str) -> None:
        """Puts the provider's credentials back into use."""
        self._put_back([key for key in list(self._out) if key[0] == provider], Turn.RESET)

    def refresh(self) -> None:
        """Forgets those that no store has any more."""
        gone = [key for key in list(self._out) if self._origin_in_use(*key) is None]
        self._put_back(gone, Turn.REPLACED)

    def statuses(self) -> Mapping[str, BreakerStatus]:
        """How the credentials stand that are out of use, by provider."""
        return {provider: status for (provider, _), status in self.marked_statuses().items()}

    def marked_statuses(self) -> Mapping[Key, BreakerStatus]:
        """As `statuses`, by provider and fingerprint."""
        with self._lock:
            now = self._monotonic()
            return {key: out.breaker.status(now) for key, out in self._out.items()}

    def take_news(self) -> Sequence[News]:
        """What has happened since the last time, oldest first."""
        with self._lock:
            news = tuple(self._news)
            self._news.clear()
            return news

    def on_refused(
        self,
        provider: str,
        credential: Credential,
        probe: BreakerPermit | None,
        error: UpstreamError,
    ) -> None:
        """A call was refused for its credential."""
        mark = fingerprint(credential)
        origin = self._origin_in_use(provider, mark)
        if origin is None:
            return  # the answer is to a key that was replaced meanwhile
        with self._lock:
            now = self._monotonic()
            if probe is not None:
                probe.fail(now, error.code, error.retry_after)
            elif (provider, mark) not in self._out:
                key = (provider, mark)
                status = self._take_out(key, error.code, origin, error.retry_after)
                wait = status.retry_after
                self._news.append(News(Turn.OUT, provider, error.code, origin, wait))

    def on_proven(self, provider: str, credential: Credential, probe: BreakerPermit) -> None:
        """A probe was answered."""
        with self._lock:
            probe.succeed(self._monotonic())
        self._put_back([(provider, fingerprint(credential))], Turn.BACK)

    def on_released(self, probe: BreakerPermit) -> None:
        """A probe has proven nothing."""
        with self._lock:
            probe.release()

    def _take_out(
        self, key: Key, cause: str, origin: str, retry_after: float | None
    ) -> BreakerStatus:
        now = self._monotonic()
        out = self._out.get(key)
        if out is None:
            out = self._out[key] = _Out(Breaker(RULES, self._rng), cause, origin)
            if len(self._out) > MAX_OUT:
                del self._out[next(iter(self._out))]
            self._providers = frozenset(provider for provider, _ in self._out)
            permit = out.breaker.admit(now)
            assert isinstance(permit, BreakerPermit)
            permit.fail(now, cause, retry_after)
        return out.breaker.status(now)

    def _put_back(self, keys: Sequence[Key], turn: Turn) -> None:
        with self._lock:
            for key in keys:
                out = self._out.pop(key, None)
                if out is not None:
                    self._news.append(News(turn, key[0], out.cause, out.origin))
            self._providers = frozenset(provider for provider, _ in self._out)

    def _origin_in_use(self, provider: str, mark: str) -> str | None:
        """Where the key of this credential is from; None where nobody has it any more."""
        for store in list(self._stores):
            credential = store.get(provider)
            if credential is not None and fingerprint(credential) == mark:
                return credential.origin if isinstance(credential, HeaderCredential) else ""
        return None


class CredentialPermit:
    """Leave to make one call with a credential. Say once how it ended."""

    __slots__ = ("_breakers", "_credential", "_probe", "_provider")

    def __init__(
        self,
        breakers: CredentialBreakers,
        provider: str,
        credential: Credential | None,
        probe: BreakerPermit | None,
    ) -> None:
        self._breakers = breakers
        self._provider = provider
        self._credential = credential
        self._probe = probe

    def succeed(self) -> None:
        """The provider answered."""
        if self._probe is not None and self._credential is not None:
            self._breakers.on_proven(self._provider, self._credential, self._probe)

    def refuse(self, error: UpstreamError) -> None:
        """The provider refused the credential, or its account."""
        if self._credential is not None:
            self._breakers.on_refused(self._provider, self._credential, self._probe, error)

    def release(self) -> None:
        """The call says nothing about the credential."""
        if self._probe is not None:
            self._breakers.on_released(self._probe)


def fingerprint(credential: Credential) -> str:
    """What tells a credential from others and does not tell what it is: the same in all processes
    that share SECRET_KEY."""
    headers = "\n".join(f"{name}\t{value}" for name, value in sorted(credential.headers.items()))
    return hmac.new(derived_key(_FINGERPRINT), headers.encode(), sha256).hexdigest()[:32]
