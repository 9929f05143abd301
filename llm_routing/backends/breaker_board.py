"""What workers tell each other of their circuit breakers: a board in Redis.

It holds what is not closed and counts calls and probes; it decides nothing, and its time is
Redis's own. Who writes on it and draws conclusions is `shared_breakers`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import uuid4

from llm_routing.core.breaker import BreakerRules, CallCounts, Opening
from llm_routing.core.codec import decode, encode

from .breakers import MAX_BREAKERS, Key
from .guarded_redis import GuardedRedis, RedisUnavailable

LEASE_SECONDS = 10.0
KEEP_SECONDS = 3600.0
MAX_CAUSE = 64
_YEAR = 365 * 86_400.0

_COMMON = """
local open, said = KEYS[1], cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function read(raw)
  local is_json, entry = pcall(cjson.decode, raw or '')
  if is_json and type(entry) == 'table' and type(entry.id) == 'string'
    and type(entry.retry_at) == 'number' and type(entry.proven) == 'number'
    and type(entry.claims) == 'table' then
    return entry
  end
  return nil
end

local function write(target, entry)
  redis.call('HSET', open, target, cjson.encode(entry))
end
"""

_TELL = (
    _COMMON
    + """
redis.call('HSETNX', open, 'era', said.era)
redis.call('PEXPIRE', open, said.keep_ms)

local function count(calls, news)
  local not_before = news.retry_after_ms > 0 and now + news.retry_after_ms or 0
  redis.call('RPUSH', calls, string.format('%.0f:%d:%d:%d:%.0f',
    now, news.calls, news.failures, news.slow_calls, not_before))
  local batches = redis.call('LRANGE', calls, 0, -1)
  local kept, sum, failures, slow_calls, latest = 0, 0, 0, 0, 0
  for i = #batches, 1, -1 do
    local at, c, f, s, n = string.match(batches[i], '^(%d+):(%d+):(%d+):(%d+):(%d+)$')
    if not at or tonumber(at) <= now - said.window_ms or sum >= said.window_calls then
      break
    end
    kept, sum, failures, slow_calls = kept + 1, sum + c, failures + f, slow_calls + s
    latest = math.max(latest, tonumber(n))
  end
  redis.call('LTRIM', calls, -kept, -1)
  redis.call('PEXPIRE', calls, said.window_ms)
  return {sum, failures, slow_calls, math.max(0, latest - now)}
end

local totals = {}
for i, tell in ipairs(said.tells) do
  local calls = KEYS[i + 1]
  local entry = read(redis.call('HGET', open, tell.target))
  local id = entry and entry.id or ''
  if tell.opening and id == tell.was then
    if entry or redis.call('HLEN', open) <= said.most then
      local opening = tell.opening
      entry = {id = opening.id, cause = opening.cause, failed = opening.failed,
        since = now - opening.opened_for_ms, retry_at = now + opening.retry_after_ms,
        proven = 0, claims = {}}
      write(tell.target, entry)
    end
    redis.call('DEL', calls)
  elseif entry and id == tell.was then
    for _, token in ipairs(tell.proven) do
      entry.claims[token] = nil
      entry.proven = entry.proven + 1
    end
    if tell.is_closing or entry.proven >= said.probes then
      redis.call('HDEL', open, tell.target)
      redis.call('DEL', calls)
      entry = nil
    else
      for _, token in ipairs(tell.released) do
        entry.claims[token] = nil
      end
      for _, token in ipairs(tell.running) do
        entry.claims[token] = now + said.lease_ms
      end
      write(tell.target, entry)
    end
  end
  totals[i] = (tell.news and not entry) and count(calls, tell.news) or {}
end

local entries = {}
local all = redis.call('HGETALL', open)
for i = 1, #all, 2 do
  if all[i] ~= 'era' then
    local entry = read(all[i + 1])
    if entry and entry.retry_at > now - said.keep_ms then
      entries[#entries + 1] = all[i]
      entries[#entries + 1] = all[i + 1]
    else
      redis.call('HDEL', open, all[i])
    end
  end
end
return {redis.call('HGET', open, 'era'), now, entries, totals}
"""
)

_CLAIM = (
    _COMMON
    + """
if redis.call('HGET', open, 'era') ~= said.era then
  return {'unknown', now, ''}
end
local raw = redis.call('HGET', open, said.target)
local entry = read(raw)
if not entry or entry.id ~= said.was or entry.retry_at > now then
  return {'changed', now, entry and raw or ''}
end
local taken = entry.proven
for token, ends_at in pairs(entry.claims) do
  if type(ends_at) == 'number' and ends_at > now then
    taken = taken + 1
  else
    entry.claims[token] = nil
  end
end
if taken >= said.probes then
  return {'full', now, raw}
end
entry.claims[said.token] = now + said.lease_ms
write(said.target, entry)
return {'granted', now, raw}
"""
)

_FORGET = """
redis.call('HDEL', KEYS[1], ARGV[1])
return redis.call('DEL', KEYS[2])
"""


class Claimed(StrEnum):
    """What became of asking for a probe. CHANGED: the breaker is not as it was known, or it is not
    time yet. UNKNOWN: the board was wiped, so it says nothing."""

    GRANTED = "granted"
    FULL = "full"
    CHANGED = "changed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Entry:
    """A breaker that is not closed; another `id` is another opening."""

    id: str
    opening: Opening


@dataclass(frozen=True, slots=True)
class Tell:
    """What is new of one breaker, last known as the entry `was` (empty: closed): that it has opened
    (as `opening`) or closed; tokens of probes that succeeded, count for nothing, or run; calls."""

    key: Key
    was: str
    opening: Entry | None = None
    is_closing: bool = False
    proven: Sequence[str] = ()
    released: Sequence[str] = ()
    running: Sequence[str] = ()
    news: CallCounts = field(default_factory=CallCounts)


@dataclass(frozen=True, slots=True)
class Heard:
    """The board after telling. Another `era`: it was wiped meanwhile. `totals` are, for each
    `Tell`, the calls of all processes in the window, None where none were counted."""

    era: str
    entries: Mapping[Key, Entry]
    totals: Sequence[CallCounts | None]


class BreakerBoard:
    """The board of one installation; `namespace` keeps it apart from others in the same Redis.
    Everything on it ends by itself. Every method raises `RedisUnavailable`."""

    def __init__(self, redis: GuardedRedis, rules: BreakerRules, namespace: str) -> None:
        self._redis = redis
        self._rules = rules
        # The braces keep all names on one node of a Redis cluster.
        self._prefix = f"llm_routing:breaker:{{{namespace}}}"
        self._open = f"{self._prefix}:open"

    async def tell(self, tells: Sequence[Tell]) -> Heard:
        """Says what is new, and hears what is."""
        keep = KEEP_SECONDS + self._rules.longest_open_time
        said = {
            "era": uuid4().hex,
            "keep_ms": _milliseconds(keep),
            "lease_ms": _milliseconds(LEASE_SECONDS),
            "window_ms": max(1, _milliseconds(self._rules.window)),
            "window_calls": self._rules.window_calls,
            "probes": self._rules.probes,
            "most": MAX_BREAKERS,
            "tells": [_tell(tell) for tell in tells],
        }
        keys = [self._open, *(self._calls(tell.key) for tell in tells)]
        answer = await self._redis.run(_TELL, keys, [encode(said)])
        try:
            era, now, flat, totals = answer
            entries = {
                _key(name): entry
                for name, raw in zip(flat[::2], flat[1::2], strict=True)
                if (entry := self._entry(raw, now)) is not None
            }
            return Heard(era.decode(), entries, [_total(total) for total in totals])
        except (ValueError, TypeError, AttributeError) as error:
            raise RedisUnavailable(type(error).__name__) from None

    async def claim(self, key: Key, was: str, token: str, era: str) -> tuple[Claimed, Entry | None]:
        """Asks for a probe of the breaker known as `was`; also how it stands where it CHANGED."""
        said = {
            "era": era,
            "target": _name(key),
            "was": was,
            "token": token,
            "probes": self._rules.probes,
            "lease_ms": _milliseconds(LEASE_SECONDS),
        }
        answer = await self._redis.run(_CLAIM, [self._open], [encode(said)])
        try:
            word, now, raw = answer
            return Claimed(word.decode()), self._entry(raw, now) if raw else None
        except (ValueError, TypeError, AttributeError) as error:
            raise RedisUnavailable(type(error).__name__) from None

    async def forget(self, key: Key) -> None:
        """Closes a breaker, however it stands."""
        await self._redis.run(_FORGET, [self._open, self._calls(key)], [_name(key)])

    async def aclose(self) -> None:
        """Closes the connections of the running event loop."""
        await self._redis.aclose()

    def _calls(self, key: Key) -> str:
        return f"{self._prefix}:calls:{_name(key)}"

    def _entry(self, raw: bytes, now: int) -> Entry | None:
        """What is in Redis, within the limits that the rules set."""
        try:
            value, longest = decode(raw), self._rules.longest_open_time
            opening = Opening(
                cause=str(value["cause"])[:MAX_CAUSE],
                opened_for=_within((now - value["since"]) / 1000, _YEAR),
                retry_after=_within((value["retry_at"] - now) / 1000, longest),
                failed=int(_within(value["failed"], 1e6)),
            )
            return Entry(str(value["id"]), opening)
        except (ValueError, KeyError, TypeError):
            return None


def _tell(tell: Tell) -> dict[str, Any]:
    said: dict[str, Any] = {
        "target": _name(tell.key),
        "was": tell.was,
        "is_closing": tell.is_closing,
        "proven": list(tell.proven),
        "released": list(tell.released),
        "running": list(tell.running),
    }
    if tell.opening is not None:
        opening = tell.opening.opening
        said["opening"] = {
            "id": tell.opening.id,
            "cause": opening.cause,
            "opened_for_ms": _milliseconds(opening.opened_for),
            "retry_after_ms": _milliseconds(opening.retry_after),
            "failed": opening.failed,
        }
    if tell.news.calls:
        said["news"] = {
            "calls": tell.news.calls,
            "failures": tell.news.failures,
            "slow_calls": tell.news.slow_calls,
            "retry_after_ms": _milliseconds(tell.news.retry_after),
        }
    return said


def _total(total: Sequence[int]) -> CallCounts | None:
    if not total:
        return None
    calls, failures, slow_calls, retry_after_ms = total
    return CallCounts(calls, failures, slow_calls, retry_after=retry_after_ms / 1000)


def _name(key: Key) -> str:
    return f"{key[0]}/{key[1]}"


def _key(name: bytes) -> Key:
    provider, _, model = name.decode().partition("/")
    return provider, model


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _within(number: float, most: float) -> float:
    return min(max(number, 0.0), most)
