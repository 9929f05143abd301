"""Authenticates callers: API keys checked against a cache of digests with the database behind it.

A cached key costs no query and no thread. How a key is made and digested is in `models.access`.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from os import urandom
from typing import Any, Self

from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from llm_routing.core.errors import AccessUnavailable
from llm_routing.core.types import Caller
from llm_routing.models import ApiKey
from llm_routing.models.access import KEY_START, key_digest
from llm_routing.models.databases import as_utc
from llm_routing.signals import configuration_changed

from .key_lookups import KeyLookups
from .refused_keys import Reason, refused_keys

MAX_KEY_LENGTH = 256
MAX_KNOWN = 10_000
MAX_REFUSED = 10_000
REFUSAL_SECONDS = 30.0
PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _CachedKey:
    """A usable key; `generation` is the state of all keys in which it was checked."""

    caller: Caller
    expires_at: datetime | None
    generation: object


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A usable key as far as it is needed without the database."""

    digest: str
    tenant: str
    name: str
    deadline: float | None
    expires_at: datetime | None
    reads_metrics: bool = False

    @classmethod
    def of(cls, row: ApiKey) -> Self:
        """Returns the key of a row."""
        expires_at = None if row.expires_at is None else as_utc(row.expires_at)
        return cls(row.digest, row.tenant, row.name, row.deadline, expires_at, row.reads_metrics)

    def cached(self, generation: object) -> _CachedKey:
        """Returns the key as it was checked in `generation`."""
        caller = Caller(self.tenant, self.name, self.deadline, self.reads_metrics)
        return _CachedKey(caller, self.expires_at, generation)


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """The numbers of usable and of refused keys in the cache."""

    known: int
    refused: int


class ApiKeyCache:
    """The keys that this process has checked, in bounded memory. `version` counts the checks that
    found a usable key.

    A usable key is cached until newer ones evict it. After `invalidate` each is checked again, and
    still accepted while the database is unavailable. Refused keys are cached apart and for a short
    time, so neither kind can evict the other. One query at a time checks all keys that wait.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.version = 0
        self._monotonic = monotonic
        self._generation = object()
        self._known: OrderedDict[str, _CachedKey] = OrderedDict()
        self._refused: OrderedDict[str, tuple[object, float]] = OrderedDict()
        # From a fast hash of a key to its digest, which takes longer to compute.
        self._digests: dict[bytes, str] = {}
        self._secret = urandom(32)
        self._paused_until = float("-inf")
        self._lookups = KeyLookups(lambda: self._generation)

    @property
    def status(self) -> CacheStatus:
        """The numbers of keys in the cache."""
        return CacheStatus(len(self._known), len(self._refused))

    async def authenticate(self, clear_text: str, address: str = "") -> Caller:
        """Returns the caller that a key belongs to; `address` is that of the client. Raises
        `Unauthenticated`, `Throttled`, and `AccessUnavailable` if only the database could tell and
        it is unavailable."""
        if len(clear_text) > MAX_KEY_LENGTH or not clear_text.isascii():
            raise _malformed(clear_text, address)
        digests = self._digests
        # In front of the text the secret costs one block; as the `key` it would be a second one.
        fast_hash = blake2b(self._secret + clear_text.encode(), digest_size=16).digest()
        digest = digests.get(fast_hash)
        is_new = digest is None
        if digest is None:
            if not clear_text.startswith(KEY_START) or not clear_text.isprintable():
                raise _malformed(clear_text, address)
            digest = key_digest(clear_text)
        key = self._known.get(digest)
        if key is None or key.generation is not self._generation:
            key = await self._check(digest, key, address)
        if is_new:
            if len(digests) >= MAX_KNOWN:
                digests.clear()
            digests[fast_hash] = digest
        try:  # noqa: SIM105  # `suppress` takes a microsecond, and every request comes by here
            self._known.move_to_end(digest)
        except KeyError:  # another thread has evicted it
            pass
        if key.expires_at is not None and key.expires_at <= as_utc(timezone.now()):
            raise refused_keys.refusal(Reason.EXPIRED, address, key.caller.key_name)
        return key.caller

    def invalidate(self) -> None:
        """Has every key checked again. From any thread."""
        self._generation = object()
        self._digests = {}

    def remember(self, keys: Iterable[KnownKey]) -> None:
        """Adds keys that were usable once: each is checked when it is used, and accepted while the
        database is unavailable."""
        for key in keys:
            if key.digest not in self._known:
                _add(self._known, key.digest, key.cached(generation=None), MAX_KNOWN)

    def digests(self) -> Sequence[str]:
        """Returns the digests of usable keys, the least recently used first. From any thread."""
        return tuple(self._known)

    def forget(self, digests: Iterable[str]) -> None:
        """Removes keys that are not usable any more. From any thread."""
        for digest in digests:
            self._known.pop(digest, None)

    def clear(self) -> None:
        """Removes every key."""
        self.invalidate()
        self._known.clear()
        self._refused.clear()
        self._paused_until = float("-inf")

    async def _check(self, digest: str, stale: _CachedKey | None, address: str) -> _CachedKey:
        if self._is_refused(digest):
            raise refused_keys.refusal(Reason.UNKNOWN, address)
        if self._monotonic() >= self._paused_until:
            # Read before the query, so that a change during the query is noticed.
            generation = self._generation
            if stale is None:
                refused_keys.check(address)
            try:
                row = await self._lookups.find(digest)
            except (DatabaseError, InterfaceError, TimeoutError):
                # No other request waits for an unavailable database until the pause is over.
                self._paused_until = self._monotonic() + PAUSE_SECONDS
            except AccessUnavailable:
                if stale is None:
                    raise
            else:
                key = self._store(digest, row, generation)
                if key is None:
                    raise refused_keys.refusal(Reason.UNKNOWN, address, took_query=True)
                return key
        if stale is not None:
            return stale
        raise AccessUnavailable(
            "The API key cannot be checked at the moment.", retry_after=PAUSE_SECONDS
        )

    def _is_refused(self, digest: str) -> bool:
        generation, until = self._refused.get(digest, (None, 0.0))
        return generation is self._generation and self._monotonic() < until

    def _store(self, digest: str, row: ApiKey | None, generation: object) -> _CachedKey | None:
        if row is None:
            self._known.pop(digest, None)
            until = self._monotonic() + REFUSAL_SECONDS
            _add(self._refused, digest, (generation, until), MAX_REFUSED)
            return None
        key = KnownKey.of(row).cached(generation)
        _add(self._known, digest, key, MAX_KNOWN)
        self.version += 1
        return key


def _malformed(clear_text: str, address: str) -> Exception:
    """Returns the error for a text that is no key of ours, which needs no query."""
    if not clear_text:
        problem = "is empty"
    elif not clear_text.startswith(KEY_START):
        problem = f"does not begin with {KEY_START}: it is not a key of this gateway"
    else:
        problem = "is too long or has characters that no key has"
    return refused_keys.refusal(Reason.MALFORMED, address, problem=problem)


def _add(entries: OrderedDict[str, Any], digest: str, entry: Any, limit: int) -> None:
    entries[digest] = entry
    entries.move_to_end(digest)
    while len(entries) > limit:
        entries.popitem(last=False)


api_keys = ApiKeyCache()


def _invalidate(area: str, **_: Any) -> None:
    if area == "access":
        api_keys.invalidate()


configuration_changed.connect(_invalidate, dispatch_uid="llm_routing.access.api_keys")
