"""The response cache that machines share: Redis, over redis.asyncio.

Where Redis cannot be used (see `guarded_redis`), there is nothing in it.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from llm_routing.core.cached_answer import CachedAnswer, answer_from_json, answer_to_json
from llm_routing.core.codec import decode, encode
from llm_routing.core.ids import new_id
from llm_routing.core.ports import CacheHit, Cipher, Clock, LeaseUnavailable
from llm_routing.core.timers import Timer, running_loop

from .guard import GuardedRedis, RedisUnavailable

PREFIX = "llm_routing"
SCHEMA = 2
LEASE_SECONDS = 3.0
CLOCK_TOLERANCE = 300.0
"""The tolerated difference between the clocks of two machines, in seconds."""

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
-- A lease that outlives its holder is not one of ours.
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
    """`core.ports.SharedCache` over Redis.

    Names of entries are digests that only our secret makes. What they hold is sealed: an answer may
    quote its prompt, and whoever else can write to Redis must not choose what a caller gets. The
    seal holds the entry's name, lifetime and moment, so an entry that was moved, kept for longer
    or put back after its time is a miss.
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
        # What is there and cannot be read is as good as nothing: it is no answer of any age.
        for age in (max_age, 0):
            try:
                said = await self._redis.run(
                    _CLAIM,
                    (self._entry(key), self._lease(key)),
                    (token, int(LEASE_SECONDS * 1000), int(age * 1000)),
                )
            except RedisUnavailable:
                break
            if said == 1:
                return RedisLease(self, key, token)
            if said == 0:
                return LeaseUnavailable.BUSY
            if (found := self._read(key, said)) is not None:
                return found
        return LeaseUnavailable.UNAVAILABLE

    async def put(self, key: str, answer: CachedAnswer, ttl: float) -> None:
        """See `SharedCache.put`."""
        await self.publish(key, "", answer, ttl)

    async def aclose(self) -> None:
        """Closes the connections of the running event loop."""
        await self._redis.aclose()

    async def publish(self, key: str, token: str, answer: CachedAnswer, ttl: float) -> None:
        """Stores an answer and ends the lease that `token` holds."""
        ttl_ms = max(1, int(ttl * 1000))
        stored_at = int(self._clock.now().timestamp())
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
        """Ends the lease that `token` holds."""
        with suppress(RedisUnavailable):
            await self._redis.run(_RELEASE, (self._lease(key),), (token,))

    async def renew(self, key: str, token: str) -> None:
        """Lengthens the lease that `token` holds."""
        with suppress(RedisUnavailable):
            await self._redis.run(_RENEW, (self._lease(key),), (token, int(LEASE_SECONDS * 1000)))

    def _read(self, key: str, said: Any) -> CacheHit | None:
        """Returns the answer in a reply of Redis; None when it holds none that may be served."""
        try:
            value, left_ms = said
            entry = decode(value)
            if entry["schema"] != SCHEMA:
                return None
            stored_at, ttl_ms = entry["at"], entry["ttl_ms"]
            # Redis says how old an entry is. This only bounds what somebody else can put back.
            age = self._clock.now().timestamp() - stored_at
            if not -CLOCK_TOLERANCE <= age <= ttl_ms / 1000 + CLOCK_TOLERANCE:
                return None
            name = self._bound_to(key, stored_at, ttl_ms)
            answer = answer_from_json(key, self._cipher.decrypt(entry["answer"], name))
            return CacheHit(answer, (ttl_ms - left_ms) / 1000, left_ms / 1000)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            self._redis.count_forged(1)
            return None

    def _bound_to(self, key: str, stored_at: int, ttl_ms: int) -> str:
        """Returns the data that is sealed with the answer of an entry."""
        return f"{self._entry(key)} {stored_at} {ttl_ms}"

    def _entry(self, key: str) -> str:
        # The braces keep both names of a key on one node of a Redis cluster.
        return f"{PREFIX}:{self._kind}:{{{key}}}"

    def _lease(self, key: str) -> str:
        return f"{PREFIX}:{self._kind}-lease:{{{key}}}"


class RedisLease(Timer):
    """`core.ports.Lease`: a name with a short life, lengthened for as long as its holder lives."""

    __slots__ = ("_cache", "_key", "_loop", "_renewing", "_token")

    def __init__(self, cache: RedisCache, key: str, token: str) -> None:
        self._cache = cache
        self._key = key
        self._token = token
        self._loop = running_loop()
        self._renewing: asyncio.Task[None] | None = None
        # Most answers are there before a lease needs renewing, and pay for no task.
        self.start(LEASE_SECONDS / 3, self._loop)

    def publish(self, answer: CachedAnswer, ttl: float) -> Coroutine[Any, Any, None]:
        """See `Lease.publish`."""
        self._stop_renewing()
        return self._cache.publish(self._key, self._token, answer, ttl)

    def release(self) -> Coroutine[Any, Any, None]:
        """See `Lease.release`."""
        self._stop_renewing()
        return self._cache.release(self._key, self._token)

    def on_timeout(self) -> None:
        """It needs renewing."""
        self._renewing = self._loop.create_task(self._renew())

    def _stop_renewing(self) -> None:
        self.cancel()
        if self._renewing is not None:
            self._renewing.cancel()

    async def _renew(self) -> None:
        while True:
            await self._cache.renew(self._key, self._token)
            await asyncio.sleep(LEASE_SECONDS / 3)
