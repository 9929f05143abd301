"""The response cache that machines share: Redis, over redis.asyncio.

A Redis that is slow, full, wrong or away costs a request a tenth of a second at most, and the next
ones nothing: it is left alone for a while.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import uuid4
from weakref import WeakKeyDictionary

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from llm_routing.core.cache import CachedAnswer, answer_from_json, answer_to_json
from llm_routing.core.codec import decode, encode
from llm_routing.core.ports import Cipher, Clock, Found, NoLease

logger = logging.getLogger(__name__)

T = TypeVar("T")

PREFIX = "llm_routing"
SCHEMA = 1
MAX_CONNECTIONS = 32
CALL_SECONDS = 0.1
PAUSE_SECONDS = 5.0
LEASE_SECONDS = 3.0
_SLICES = 4

# An answer that is young enough (and how long it will stay), else the lease, else nothing.
_CLAIM = """
local value = redis.call('GET', KEYS[1])
if value then
  local is_json, entry = pcall(cjson.decode, value)
  if is_json and type(entry) == 'table' and type(entry.ttl_ms) == 'number' then
    local left = redis.call('PTTL', KEYS[1])
    if left >= 0 and entry.ttl_ms - left < tonumber(ARGV[3]) then
      return {value, left}
    end
  end
end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return 1
end
return 0
"""
_RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""
_PUBLISH = """
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('DEL', KEYS[2])
end
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
"""


class RedisCache:
    """`core.ports.SharedCache` over Redis, one client for each event loop.

    Names of entries are digests that only our secret makes, and what they hold is encrypted: an
    answer may quote its prompt.
    """

    def __init__(self, url: str, *, cipher: Cipher, clock: Clock) -> None:
        self._url = url
        self._cipher = cipher
        self._clock = clock
        self._paused_until = clock.monotonic()
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Redis] = WeakKeyDictionary()

    async def claim(self, key: str, max_age: float) -> "Found | RedisLease | NoLease":
        """See `SharedCache.claim`."""
        found = await self._claim(key, max_age)
        if found is None:
            # What is there cannot be read: as good as nothing.
            found = await self._claim(key, 0)
        return NoLease.UNAVAILABLE if found is None else found

    async def put(self, key: str, answer: CachedAnswer, ttl: float) -> None:
        """See `SharedCache.put`."""
        await self.publish(key, "", answer, ttl)

    async def aclose(self) -> None:
        """Closes the connections of the running event loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def publish(self, key: str, token: str, answer: CachedAnswer, ttl: float) -> None:
        """Stores an answer and ends the lease that `token` holds."""
        ttl_ms = max(1, int(ttl * 1000))
        try:
            sealed = self._cipher.encrypt(answer_to_json(key, answer))
        except ValueError:
            await self.release(key, token)
            return
        value = encode({"schema": SCHEMA, "ttl_ms": ttl_ms, "answer": sealed})
        await self._run(_PUBLISH, [_entry(key), _lease(key)], [token, value, ttl_ms])

    async def release(self, key: str, token: str) -> None:
        """Ends the lease that `token` holds."""
        await self._run(_RELEASE, [_lease(key)], [token])

    async def renew(self, key: str, token: str) -> None:
        """Lengthens the lease that `token` holds."""
        await self._run(_RENEW, [_lease(key)], [token, _milliseconds(LEASE_SECONDS)])

    async def _claim(self, key: str, max_age: float) -> "Found | RedisLease | NoLease | None":
        token = uuid4().hex
        said = await self._run(
            _CLAIM,
            [_entry(key), _lease(key)],
            [token, _milliseconds(LEASE_SECONDS), _milliseconds(max_age)],
        )
        match said:
            case 1:
                return RedisLease(self, key, token)
            case 0:
                return NoLease.BUSY
            case [bytes(value), int(left_ms)]:
                return self._opened(key, value, left_ms)
            case _:
                return NoLease.UNAVAILABLE

    def _opened(self, key: str, value: bytes, left_ms: int) -> Found | None:
        try:
            entry = decode(value)
            if entry["schema"] != SCHEMA:
                return None
            answer = answer_from_json(key, self._cipher.decrypt(entry["answer"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        return Found(answer, (entry["ttl_ms"] - left_ms) / 1000, left_ms / 1000)

    async def _run(self, script: str, keys: list[str], arguments: list[Any]) -> Any:
        """What a script says; None where Redis cannot be used."""
        return await self._guarded(
            lambda client: client.register_script(script)(keys=keys, args=arguments)
        )

    async def _guarded(self, call: Callable[[Redis], Awaitable[T]]) -> T | None:
        if self._clock.monotonic() < self._paused_until:
            return None
        try:
            return await _in_time(call(self._client()))
        except Exception as error:  # noqa: BLE001  # whatever Redis is up to, the request goes on
            self._paused_until = self._clock.monotonic() + PAUSE_SECONDS
            logger.warning(
                "The response cache leaves Redis alone for %g s: %s",
                PAUSE_SECONDS,
                type(error).__name__,
            )
            return None

    def _client(self) -> Redis:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            pool = BlockingConnectionPool.from_url(
                self._url,
                max_connections=MAX_CONNECTIONS,
                timeout=CALL_SECONDS,
                socket_timeout=None,
                socket_connect_timeout=None,
                retry=Retry(NoBackoff(), 0),
            )
            client = self._clients[loop] = Redis.from_pool(pool)
        return client


class RedisLease:
    """`core.ports.Lease`: a name with a short life, lengthened for as long as its holder lives."""

    def __init__(self, cache: RedisCache, key: str, token: str) -> None:
        self._cache = cache
        self._key = key
        self._token = token
        self._renewing = asyncio.create_task(self._renew())

    async def publish(self, answer: CachedAnswer, ttl: float) -> None:
        """See `Lease.publish`."""
        self._renewing.cancel()
        await self._cache.publish(self._key, self._token, answer, ttl)

    async def release(self) -> None:
        """See `Lease.release`."""
        self._renewing.cancel()
        await self._cache.release(self._key, self._token)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            await self._cache.renew(self._key, self._token)


def _entry(key: str) -> str:
    # The braces keep both names of a key on one node of a Redis cluster.
    return f"{PREFIX}:answer:{{{key}}}"


def _lease(key: str) -> str:
    return f"{PREFIX}:lease:{{{key}}}"


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


async def _in_time(call: Awaitable[T]) -> T:
    """What `call` gives within `CALL_SECONDS`. Raises `TimeoutError`.

    They are counted in slices, so that a stall of our own event loop (a thousand requests at once)
    passes for one slice and not for a Redis that is silent.
    """
    task = asyncio.ensure_future(call)
    try:
        for _ in range(_SLICES):
            done, _ = await asyncio.wait({task}, timeout=CALL_SECONDS / _SLICES)
            if done:
                return task.result()
        raise TimeoutError
    finally:
        if not task.done():
            task.add_done_callback(_retrieve)
            task.cancel()


def _retrieve(task: "asyncio.Future[Any]") -> None:
    if not task.cancelled():
        task.exception()
