"""The response cache that workers share, in Redis. While Redis cannot be used, it is empty."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from llm_routing.core.cached_answer import CachedAnswer, answer_from_json, answer_to_json
from llm_routing.core.caching.ports import CacheHit, LeaseUnavailable
from llm_routing.core.codec import decode, encode
from llm_routing.core.ids import new_id
from llm_routing.core.ports import Cipher, Clock
from llm_routing.core.timers import Timer, running_loop

from .guard import GuardedRedis, RedisUnavailable

PREFIX = "llm_routing"
SCHEMA = 2
LEASE_SECONDS = 3.0
CLOCK_TOLERANCE = 300.0
"""The tolerated difference between the clocks of two machines, in seconds."""

# Returns an entry that is young enough, with its remaining lifetime; else 1 if the caller gets the
# lease, else 0.
CLAIM = """
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
-- A lease without our lifetime is not one of ours.
local lives = redis.call('PTTL', KEYS[2])
if lives < 0 or lives > tonumber(ARGV[2]) then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
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
    """`core.caching.ports.SharedCache` over Redis.

    Keys are digests with a secret of ours. Values are sealed: an answer may quote its prompt, and
    others who can write to Redis must not be able to choose a caller's answer. The seal includes
    the entry's key, lifetime and time, so an entry that was moved, kept for longer or restored
    later is a miss.
    """

    def __init__(
        self, redis: GuardedRedis, *, cipher: Cipher, clock: Clock, kind: str = "answer"
    ) -> None:
        self._redis = redis
        self._cipher = cipher
        self._clock = clock
        self._kind = kind

    async def claim(self, key: str, max_age: float) -> "CacheHit | RedisLease | LeaseUnavailable":
        """See `SharedCache.claim`."""
        token = new_id()
        # An entry that cannot be read counts as none: the second time no age is young enough.
        for age in (max_age, 0):
            try:
                reply = await self._redis.run(
                    CLAIM,
                    (self._entry(key), self._lease(key)),
                    (token, int(LEASE_SECONDS * 1000), int(age * 1000)),
                )
            except RedisUnavailable:
                break
            if reply == 1:
                return RedisLease(self, key, token)
            if reply == 0:
                return LeaseUnavailable.BUSY
            if (found := self._read(key, reply)) is not None:
                return found
        return LeaseUnavailable.UNAVAILABLE

    async def put(self, key: str, answer: CachedAnswer, ttl: float) -> None:
        """See `SharedCache.put`."""
        await self.publish(key, "", answer, ttl)

    async def aclose(self) -> None:
        """Closes the connections of the running event loop."""
        await self._redis.aclose()

    async def publish(self, key: str, token: str, answer: CachedAnswer, ttl: float) -> None:
        """Stores an answer and releases the lease of `token`."""
        ttl_ms = max(1, int(ttl * 1000))
        stored_at = int(self._clock.time())
        try:
            text = answer_to_json(key, answer)
            sealed = self._cipher.encrypt(text, self._bound_to(key, stored_at, ttl_ms))
        except ValueError:
            await self.release(key, token)
            return
        value = encode({"schema": SCHEMA, "ttl_ms": ttl_ms, "at": stored_at, "answer": sealed})
        with suppress(RedisUnavailable):
            await self._redis.run(
                _PUBLISH, (self._entry(key), self._lease(key)), (token, value, ttl_ms)
            )

    async def release(self, key: str, token: str) -> None:
        """Releases the lease of `token`."""
        with suppress(RedisUnavailable):
            await self._redis.run(_RELEASE, (self._lease(key),), (token,))

    async def renew(self, key: str, token: str) -> None:
        """Extends the lease of `token`."""
        with suppress(RedisUnavailable):
            await self._redis.run(_RENEW, (self._lease(key),), (token, int(LEASE_SECONDS * 1000)))

    def _read(self, key: str, reply: Any) -> CacheHit | None:
        """Returns the answer in a reply of Redis; None if it holds none that may be served."""
        try:
            value, left_ms = reply
            entry = decode(value)
            if entry["schema"] != SCHEMA:
                return None
            stored_at, ttl_ms = entry["at"], entry["ttl_ms"]
            # Redis tells the age of an entry. This only limits what others can restore.
            age = self._clock.time() - stored_at
            if not -CLOCK_TOLERANCE <= age <= ttl_ms / 1000 + CLOCK_TOLERANCE:
                return None
            name = self._bound_to(key, stored_at, ttl_ms)
            answer = answer_from_json(key, self._cipher.decrypt(entry["answer"], name))
            return CacheHit(answer, (ttl_ms - left_ms) / 1000, left_ms / 1000)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            self._redis.count_forged(1)
            return None

    def _bound_to(self, key: str, stored_at: int, ttl_ms: int) -> str:
        """Returns the associated data of the seal."""
        return f"{self._entry(key)} {stored_at} {ttl_ms}"

    def _entry(self, key: str) -> str:
        # The braces keep both keys on one node of a Redis Cluster.
        return f"{PREFIX}:{self._kind}:{{{key}}}"

    def _lease(self, key: str) -> str:
        return f"{PREFIX}:{self._kind}-lease:{{{key}}}"


class RedisLease(Timer):
    """`core.caching.ports.Lease`: a key with a short lifetime, extended for as long as its holder
    lives."""

    __slots__ = ("_cache", "_key", "_loop", "_renewing", "_token")

    def __init__(self, cache: RedisCache, key: str, token: str) -> None:
        self._cache = cache
        self._key = key
        self._token = token
        self._loop = running_loop()
        self._renewing: asyncio.Task[None] | None = None
        # Most answers come before the lease must be extended, and need no task.
        self.start(LEASE_SECONDS / 3, self._loop)

    def publish(self, answer: CachedAnswer, ttl: float) -> Coroutine[Any, Any, None]:
        """See `Lease.publish`."""
        self.stop_renewing()
        return self._cache.publish(self._key, self._token, answer, ttl)

    def release(self) -> Coroutine[Any, Any, None]:
        """See `Lease.release`."""
        self.stop_renewing()
        return self._cache.release(self._key, self._token)

    def on_timeout(self) -> None:
        """Begins to extend the lease."""
        self._renewing = self._loop.create_task(self._renew())

    def stop_renewing(self) -> None:
        """Lets the lease expire."""
        self.cancel()
        if self._renewing is not None:
            self._renewing.cancel()

    async def _renew(self) -> None:
        while True:
            await self._cache.renew(self._key, self._token)
            await asyncio.sleep(LEASE_SECONDS / 3)
