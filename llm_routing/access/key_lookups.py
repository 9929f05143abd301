"""Looks up API keys in the database: one query at a time, for all keys that wait for it.

The queries run in a thread of their own.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from weakref import WeakKeyDictionary

from django.db import close_old_connections

from llm_routing.core.errors import AccessUnavailable
from llm_routing.models import ApiKey
from llm_routing.models.gateway_pool import use_gateway_pool
from llm_routing.system.forks import Stage, forks

MAX_WAITING = 500
LOOKUP_SECONDS = 2.0


class KeyLookups:
    """The lookups of all event loops. `generation` returns an object that is replaced whenever keys
    have changed."""

    def __init__(self, generation: Callable[[], object]) -> None:
        self._generation = generation
        self._of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopLookups] = (
            WeakKeyDictionary()
        )

    async def find(self, digest: str) -> ApiKey | None:
        """Returns the usable key with this digest. Raises `django.db.Error`, `TimeoutError`, and
        `AccessUnavailable` if too many digests wait."""
        loop = asyncio.get_running_loop()
        lookups = self._of_loop.setdefault(loop, _LoopLookups(self._generation))
        async with asyncio.timeout(LOOKUP_SECONDS):
            return await asyncio.shield(lookups.future(digest))


class _LoopLookups:
    """The lookups of one event loop."""

    def __init__(self, generation: Callable[[], object]) -> None:
        self._generation = generation
        self._waiting: dict[str, asyncio.Future[ApiKey | None]] = {}
        self._running: dict[str, asyncio.Future[ApiKey | None]] = {}
        self._running_generation: object = None
        self._task: asyncio.Task[None] | None = None

    def future(self, digest: str) -> "asyncio.Future[ApiKey | None]":
        """Returns the result of the running query, if it includes the digest and no key has changed
        since it began; else that of the next one. Raises `AccessUnavailable`."""
        is_current = self._running_generation is self._generation()
        future = self._running.get(digest) if is_current else None
        future = future or self._waiting.get(digest)
        if future is None:
            if len(self._waiting) >= MAX_WAITING:
                raise AccessUnavailable("Too many unknown API keys at once.", retry_after=1)
            future = self._waiting[digest] = asyncio.get_running_loop().create_future()
        if self._task is None:
            # In a context of its own: the first request may end before the others.
            self._task = asyncio.create_task(self._run(), context=Context())
        return future

    async def _run(self) -> None:
        try:
            while self._waiting:
                self._running_generation = self._generation()
                self._running, self._waiting = self._waiting, {}
                await self._query(self._running)
        finally:
            self._running, self._task = {}, None

    async def _query(self, futures: Mapping[str, "asyncio.Future[ApiKey | None]"]) -> None:
        loop = asyncio.get_running_loop()
        try:
            # Not in asgiref's shared thread, which may be blocked by anything.
            keys = await loop.run_in_executor(_executor, find_usable_keys, tuple(futures))
        except Exception as error:  # noqa: BLE001  # whoever waits raises it
            for future in futures.values():
                future.set_exception(error)
                future.exception()  # marks it as retrieved: nothing may wait for it any more
        else:
            for digest, future in futures.items():
                future.set_result(keys.get(digest))
        finally:
            for future in futures.values():
                future.cancel()  # no-op for a future that has its result


def find_usable_keys(digests: Sequence[str]) -> Mapping[str, ApiKey]:
    """Returns the usable keys with these digests, by digest. Raises `django.db.Error`."""
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


def _new_executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="llm_routing_keys")


def _after_fork() -> None:
    global _executor  # noqa: PLW0603  # its thread exists in the parent only
    _executor = _new_executor()


_executor = _new_executor()
forks.add(Stage.KEY_LOOKUPS, _after_fork)
