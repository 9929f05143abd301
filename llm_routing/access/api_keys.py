"""Who calls: API keys checked against a memory of digests, the database behind it.

A warm key costs no query and no thread. What a key is, and how it is digested, is in
`models.access`.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from os import urandom
from typing import Any, Self
from weakref import WeakKeyDictionary

from django.db import DatabaseError, InterfaceError, close_old_connections
from django.utils import timezone

from llm_routing.core.errors import AccessUnavailable
from llm_routing.core.types import Caller
from llm_routing.models import ApiKey
from llm_routing.models.access import KEY_START, key_digest
from llm_routing.models.databases import as_utc
from llm_routing.models.gateway_pool import use_gateway_pool
from llm_routing.signals import configuration_changed
from llm_routing.system.forks import Stage, forks

from .refused_keys import Reason, refused_keys

MAX_KEY_LENGTH = 256
MAX_KNOWN = 10_000
MAX_REFUSED = 10_000
MAX_WAITING = 500
REFUSAL_SECONDS = 30.0
LOOKUP_SECONDS = 2.0
PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Known:
    """A good key; `generation` is the state of the keys in which it was found to be one."""

    caller: Caller
    expires_at: datetime | None
    generation: object


@dataclass(frozen=True, slots=True)
class KnownKey:
    """What is to be known of a good key without the database."""

    digest: str
    tenant: str
    name: str
    deadline: float | None
    expires_at: datetime | None
    reads_metrics: bool = False

    @classmethod
    def of(cls, row: ApiKey) -> Self:
        """The key of a row."""
        expires_at = None if row.expires_at is None else as_utc(row.expires_at)
        return cls(row.digest, row.tenant, row.name, row.deadline, expires_at, row.reads_metrics)

    def known(self, generation: object) -> _Known:
        """As it was found in `generation`."""
        caller = Caller(self.tenant, self.name, self.deadline, self.reads_metrics)
        return _Known(caller, self.expires_at, generation)


class ApiKeyCache:
    """The keys this process has seen, in bounded memory. `version` counts the good ones found.

    Good keys are kept until their entry is pushed out by newer ones. After `invalidate` each is
    checked once more, and believed while the database is away. Keys that were refused are kept
    apart and for a short time, so that neither can drive out the other. However many keys nobody
    knows arrive at once, one query at a time asks for all of them.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.version = 0
        self._monotonic = monotonic
        self._generation = object()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._refused: OrderedDict[str, tuple[object, float]] = OrderedDict()
        # From what was presented to the digest that is kept, which takes longer to work out.
        self._shortcuts: dict[bytes, str] = {}
        self._secret = urandom(32)
        self._paused_until = float("-inf")
        self._lookups: WeakKeyDictionary[asyncio.AbstractEventLoop, _Lookup] = WeakKeyDictionary()

    async def authenticate(self, clear_text: str, address: str = "") -> Caller:
        """On whose behalf the bearer of the key calls, from the client at `address`. Raises
        `Unauthenticated`, `Throttled`, or `AccessUnavailable` where only the database could tell
        and it does not answer."""
        if len(clear_text) > MAX_KEY_LENGTH or not clear_text.isascii():
            raise refused_keys.refusal(Reason.MALFORMED, address)
        shortcuts = self._shortcuts
        presented = blake2b(clear_text.encode(), key=self._secret, digest_size=16).digest()
        shortcut = shortcuts.get(presented)
        if shortcut is None and not _is_shaped(clear_text):
            raise refused_keys.refusal(Reason.MALFORMED, address)
        digest = shortcut or key_digest(clear_text)
        known = self._known.get(digest)
        if known is None or known.generation is not self._generation:
            known = await self._check(digest, known, address)
        if shortcut is None:
            if len(shortcuts) >= MAX_KNOWN:
                shortcuts.clear()
            shortcuts[presented] = digest
        try:  # noqa: SIM105  # `suppress` takes a microsecond, and every request comes by here
            self._known.move_to_end(digest)
        except KeyError:  # another thread has pushed it out
            pass
        if known.expires_at is not None and known.expires_at <= as_utc(timezone.now()):
            raise refused_keys.refusal(Reason.EXPIRED, address, known.caller.key_name)
        return known.caller

    def invalidate(self) -> None:
        """Has every key checked once more. From any thread."""
        self._generation = object()
        self._shortcuts = {}

    def remember(self, keys: Iterable[KnownKey]) -> None:
        """Takes over keys that were good once: each is to be checked, and believed while the
        database is away."""
        for key in keys:
            if key.digest not in self._known:
                _keep(self._known, key.digest, key.known(generation=None), MAX_KNOWN)

    def digests(self) -> Sequence[str]:
        """Those of the good keys, used longest ago first. From any thread."""
        return tuple(self._known)

    def forget(self, digests: Iterable[str]) -> None:
        """Keys that are good no more. From any thread."""
        for digest in digests:
            self._known.pop(digest, None)

    def clear(self) -> None:
        """Forgets every key."""
        self.invalidate()
        self._known.clear()
        self._refused.clear()
        self._paused_until = float("-inf")

    async def _check(self, digest: str, stale: _Known | None, address: str) -> _Known:
        if self._is_refused(digest):
            raise refused_keys.refusal(Reason.UNKNOWN, address)
        if self._monotonic() >= self._paused_until:
            # Before the query, so that what changes during it is noticed.
            generation = self._generation
            if stale is None:
                refused_keys.check(address)
            try:
                found = await self._lookup().find(digest, lambda: self._generation)
            except (DatabaseError, InterfaceError, TimeoutError):
                # Nobody else waits for a database that is away, until the pause is over.
                self._paused_until = self._monotonic() + PAUSE_SECONDS
            except AccessUnavailable:
                if stale is None:
                    raise
            else:
                known = self._learn(digest, found, generation)
                if known is None:
                    raise refused_keys.refusal(Reason.UNKNOWN, address, took_query=True)
                return known
        if stale is not None:
            return stale
        raise AccessUnavailable(
            "The API key cannot be checked at the moment.", retry_after=PAUSE_SECONDS
        )

    def _is_refused(self, digest: str) -> bool:
        generation, until = self._refused.get(digest, (None, 0.0))
        return generation is self._generation and self._monotonic() < until

    def _learn(self, digest: str, row: ApiKey | None, generation: object) -> _Known | None:
        if row is None:
            self._known.pop(digest, None)
            until = self._monotonic() + REFUSAL_SECONDS
            _keep(self._refused, digest, (generation, until), MAX_REFUSED)
            return None
        known = KnownKey.of(row).known(generation)
        _keep(self._known, digest, known, MAX_KNOWN)
        self.version += 1
        return known

    def _lookup(self) -> "_Lookup":
        return self._lookups.setdefault(asyncio.get_running_loop(), _Lookup())


class _Lookup:
    """Queries of one event loop: one at a time, for every digest that waits by then. One that the
    running query asks for already joins it, unless keys have changed since that began."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[ApiKey | None]] = {}
        self._asked: dict[str, asyncio.Future[ApiKey | None]] = {}
        self._asked_in: object = None
        self._task: asyncio.Task[None] | None = None

    async def find(self, digest: str, generation: Callable[[], object]) -> ApiKey | None:
        """The usable key with this digest; `generation` gives the state of the keys. Raises
        `django.db.Error`, `TimeoutError`, `AccessUnavailable`."""
        future = self._asked.get(digest) if self._asked_in is generation() else None
        future = future or self._waiting.get(digest)
        if future is None:
            if len(self._waiting) >= MAX_WAITING:
                raise AccessUnavailable("Too many unknown API keys at once.", retry_after=1)
            future = self._waiting[digest] = asyncio.get_running_loop().create_future()
        if self._task is None:
            # In a context of its own: the request that came first may end before the others.
            self._task = asyncio.create_task(self._run(generation), context=Context())
        async with asyncio.timeout(LOOKUP_SECONDS):
            return await asyncio.shield(future)

    async def _run(self, generation: Callable[[], object]) -> None:
        try:
            while self._waiting:
                self._asked_in = generation()
                self._asked, self._waiting = self._waiting, {}
                await self._answer(self._asked)
        finally:
            self._asked, self._task = {}, None

    async def _answer(self, asked: dict[str, "asyncio.Future[ApiKey | None]"]) -> None:
        try:
            # In a thread of its own: the one that asgiref shares may wait for anything.
            running = asyncio.get_running_loop().run_in_executor(_executor, _query, tuple(asked))
            rows = await running
        except Exception as error:  # noqa: BLE001  # those who wait raise it
            for future in asked.values():
                future.set_exception(error)
                future.exception()  # whoever waited may be gone
        else:
            for digest, future in asked.items():
                future.set_result(rows.get(digest))
        finally:
            for future in asked.values():
                future.cancel()  # no more than a word where it has its result


def _query(digests: Sequence[str]) -> dict[str, ApiKey]:
    use_gateway_pool()
    close_old_connections()
    try:
        rows = ApiKey.objects.usable().filter(digest__in=digests)
        return {
            row.digest: row
            for row in rows.only(
                "name", "tenant", "digest", "deadline", "expires_at", "reads_metrics"
            )
        }
    finally:
        close_old_connections()


def _is_shaped(clear_text: str) -> bool:
    """Whether the text can be a key at all; what cannot is worth no query."""
    return clear_text.startswith(KEY_START) and clear_text.isprintable()


def _keep(entries: OrderedDict[str, Any], digest: str, entry: Any, limit: int) -> None:
    entries[digest] = entry
    entries.move_to_end(digest)
    while len(entries) > limit:
        entries.popitem(last=False)


def _new_executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="llm_routing_keys")


def _after_fork() -> None:
    global _executor  # noqa: PLW0603  # its thread has stayed with the parent
    _executor = _new_executor()


_executor = _new_executor()
forks.add(Stage.KEY_LOOKUPS, _after_fork)

api_keys = ApiKeyCache()


def _invalidate(area: str, **_: Any) -> None:
    if area == "access":
        api_keys.invalidate()


configuration_changed.connect(_invalidate, dispatch_uid="llm_routing.access.api_keys")
