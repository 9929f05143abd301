"""The state of circuit breakers that workers share: a board in Redis.

It holds breakers that are not closed, probes and recent calls. It decides nothing
(`shared_breakers` does), and its time is Redis's own. Everything that could open a breaker is
signed (`board_words`): what somebody else wrote into Redis is ignored.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha1
from typing import Any
from uuid import uuid4

from llm_routing.backends.breakers import MAX_BREAKERS, Key
from llm_routing.core.breaker import BreakerRules, CallCounts
from llm_routing.core.codec import encode
from llm_routing.core.ports import Clock, Signer

from .board_entries import LONGEST_BATCH, LONGEST_ENTRY, BoardWords, Entry, Forged
from .guard import GuardedRedis, RedisUnavailable

LEASE_SECONDS = 10.0
KEEP_SECONDS = 3600.0
MAX_RETIRED = 4096

_COMMON = """
local open, said = KEYS[1], cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Signatures are checked by the processes; here an entry only has to have its shape.
local function read(raw)
  if not raw or #raw > said.longest then
    return nil
  end
  local is_json, entry = pcall(cjson.decode, raw)
  if is_json and type(entry) == 'table' and type(entry.signed) == 'string'
    and type(entry.signature) == 'string' and type(entry.proven) == 'number'
    and type(entry.claims) == 'table' then
    local is_opening, opening = pcall(cjson.decode, entry.signed)
    if is_opening and type(opening) == 'table' and type(opening.id) == 'string'
      and type(opening.retry_at) == 'number' then
      return entry, opening
    end
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
local era = redis.call('HGET', open, 'era')
if not era or #era ~= #said.era or string.find(era, '%X') then
  redis.call('HSET', open, 'era', said.era)
end
redis.call('PEXPIRE', open, said.keep_ms)
for i = 2, #ARGV, 2 do
  local raw = redis.call('HGET', open, ARGV[i])
  if raw and redis.sha1hex(raw) == ARGV[i + 1] then
    redis.call('HDEL', open, ARGV[i])
  end
end

local function share(calls, batch, after)
  redis.call('RPUSH', calls, batch)
  redis.call('LTRIM', calls, -said.window_calls, -1)
  redis.call('PEXPIRE', calls, said.window_ms)
  local found = {}
  for _, other in ipairs(redis.call('LRANGE', calls, 0, -1)) do
    local at = #other <= said.longest_batch and string.match(other, '^(%d+) ')
    if at and tonumber(at) >= after then
      found[#found + 1] = other
    end
  end
  return found
end

local batches = {}
for i, tell in ipairs(said.tells) do
  local calls = KEYS[i + 1]
  local entry, known = read(redis.call('HGET', open, tell.target))
  local id = entry and known.id or ''
  if tell.opening and id == tell.was then
    if entry or redis.call('HLEN', open) <= said.most then
      entry = {signed = tell.opening.signed, signature = tell.opening.signature,
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
  batches[i] = (tell.batch and not entry) and share(calls, tell.batch, tell.after) or 0
end

local entries = {}
local all = redis.call('HGETALL', open)
for i = 1, #all, 2 do
  if all[i] ~= 'era' then
    local entry, opening = read(all[i + 1])
    if entry and opening.retry_at > now - said.keep_ms then
      entries[#entries + 1] = all[i]
      entries[#entries + 1] = all[i + 1]
    else
      redis.call('HDEL', open, all[i])
    end
  end
end
return {redis.call('HGET', open, 'era'), now, entries, batches}
"""
)

_CLAIM = (
    _COMMON
    + """
if redis.call('HGET', open, 'era') ~= said.era then
  return {'unknown', now, ''}
end
local raw = redis.call('HGET', open, said.target)
local entry, opening = read(raw)
if not entry or opening.id ~= said.was or opening.retry_at > now then
  return {'changed', now, entry and raw or ''}
end
local taken = entry.proven
for token, ends_at in pairs(entry.claims) do
  if type(ends_at) == 'number' and ends_at > now and ends_at <= now + said.lease_ms then
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
class Tell:
    """News about one breaker, last known as the entry `was` (empty: closed): that it has opened
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
    """The board after telling. Another `era` means that it was wiped meanwhile. `totals` are, for
    each `Tell`, the calls of all processes in the window, None where none were counted."""

    era: str
    entries: Mapping[Key, Entry]
    totals: Sequence[CallCounts | None]


class BreakerBoard:
    """The board of one installation; `namespace` keeps it apart from others in the same Redis.
    Everything on it ends by itself. Every method that is a coroutine raises `RedisUnavailable`."""

    def __init__(
        self,
        redis: GuardedRedis,
        rules: BreakerRules,
        namespace: str,
        *,
        signer: Signer,
        clock: Clock,
    ) -> None:
        self._redis = redis
        self._rules = rules
        # The braces keep all names on one node of a Redis cluster.
        self._prefix = f"llm_routing:breaker:{{{namespace}}}"
        self._open = f"{self._prefix}:open"
        self._words = BoardWords(rules, self._prefix, signer)
        self._clock = clock
        self._ahead_ms: float | None = None
        """Milliseconds that Redis's clock is ahead of our monotonic one; None before a reply."""
        self._ids: dict[Key, str] = {}
        self._retired: dict[str, None] = {}
        self._refused: dict[bytes, str] = {}

    def token(self, entry_id: str) -> str:
        """Returns a new token for a probe under an entry, which nobody else can make up."""
        return self._words.token(entry_id)

    async def tell(self, tells: Sequence[Tell]) -> Heard:
        """Says what is new, and hears what is."""
        if self._ahead_ms is None and tells:
            # What is signed holds its moment, in Redis's time.
            await self.tell(())
        now = self._now_ms()
        keep = KEEP_SECONDS + self._rules.max_open_time
        said = {
            **self._common(),
            "era": uuid4().hex,
            "keep_ms": _milliseconds(keep),
            "window_ms": max(1, _milliseconds(self._rules.window)),
            "window_calls": self._rules.window_calls,
            "most": MAX_BREAKERS,
            "longest_batch": LONGEST_BATCH,
            "tells": [self._told(tell, now) for tell in tells],
        }
        keys = [self._open, *(self._calls(tell.key) for tell in tells)]
        refused, self._refused = self._refused, {}
        answer = await self._redis.run(
            _TELL, keys, [encode(said), *(part for pair in refused.items() for part in pair)]
        )
        try:
            era, now, flat, batches = answer
            self._set_clock(now)
            entries = self._entries(zip(flat[::2], flat[1::2], strict=True), now)
            totals = [
                self._words.total(tell.key, found, now) if isinstance(found, list) else None
                for tell, found in zip(tells, batches, strict=True)
            ]
            self._words.forget_old(now)
            self._redis.count_forged(self._words.take_forged())
            return Heard(era.decode(), entries, totals)
        except (ValueError, TypeError, AttributeError) as error:
            raise RedisUnavailable(type(error).__name__) from None

    async def claim(self, key: Key, was: str, token: str, era: str) -> tuple[Claimed, Entry | None]:
        """Asks for a probe of the breaker known as `was`; also returns how it stands where it
        CHANGED."""
        said = {**self._common(), "era": era, "target": _name(key), "was": was, "token": token}
        answer = await self._redis.run(_CLAIM, [self._open], [encode(said)])
        try:
            word, now, raw = answer
            self._set_clock(now)
            claimed = Claimed(word.decode())
            entry = self._words.entry(key, raw, now) if raw else None
            if claimed is Claimed.FULL:
                self._words.check_claims(raw, now, LEASE_SECONDS)
        except Forged:
            self._redis.count_forged(1)
            self._refuse(_name(key).encode(), raw)
            return Claimed.UNKNOWN, None
        except (ValueError, TypeError, AttributeError) as error:
            raise RedisUnavailable(type(error).__name__) from None
        return claimed, entry

    async def forget(self, key: Key) -> None:
        """Closes a breaker, whatever its state."""
        await self._redis.run(_FORGET, [self._open, self._calls(key)], [_name(key)])

    async def aclose(self) -> None:
        """Closes the connections of the running event loop."""
        await self._redis.aclose()

    def _common(self) -> dict[str, Any]:
        return {
            "probes": self._rules.probes,
            "lease_ms": _milliseconds(LEASE_SECONDS),
            "longest": LONGEST_ENTRY,
        }

    def _told(self, tell: Tell, now: int) -> dict[str, Any]:
        said: dict[str, Any] = {
            "target": _name(tell.key),
            "was": tell.was,
            "is_closing": tell.is_closing,
            "proven": list(tell.proven),
            "released": list(tell.released),
            "running": list(tell.running),
        }
        if tell.opening is not None:
            said["opening"] = self._words.opening(tell.key, tell.opening, now)
        if tell.news.calls:
            said["batch"] = self._words.batch(tell.key, tell.news, now)
            said["after"] = self._words.heard_until(tell.key)
        return said

    def _entries(self, found: Iterable[tuple[bytes, bytes]], now: int) -> Mapping[Key, Entry]:
        """The entries that are ours. One that was gone and is back is an old one, put there again
        by somebody else."""
        entries: dict[Key, Entry] = {}
        forged = 0
        for name, raw in found:
            try:
                key = _key(name)
                entry = self._words.entry(key, raw, now)
                if entry.id in self._retired:
                    raise Forged
            except (Forged, ValueError):
                forged += 1
                self._refuse(name, raw)
            else:
                entries[key] = entry
                self._words.forget(key)
        for key, entry_id in self._ids.items():
            if key not in entries or entries[key].id != entry_id:
                self._retired[entry_id] = None
        while len(self._retired) > MAX_RETIRED:
            del self._retired[next(iter(self._retired))]
        self._ids = {key: entry.id for key, entry in entries.items()}
        self._redis.count_forged(forged)
        return entries

    def _refuse(self, name: bytes, raw: bytes) -> None:
        """Has the next exchange remove an entry that is not ours, unless it has changed by then."""
        if len(self._refused) < MAX_BREAKERS:
            self._refused[name] = sha1(raw, usedforsecurity=False).hexdigest()

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1000 + (self._ahead_ms or 0.0))

    def _set_clock(self, redis_ms: int) -> None:
        self._ahead_ms = redis_ms - self._clock.monotonic() * 1000

    def _calls(self, key: Key) -> str:
        return f"{self._prefix}:calls:{_name(key)}"


def _name(key: Key) -> str:
    return f"{key[0]}/{key[1]}"


def _key(name: bytes) -> Key:
    provider, _, model = name.decode().partition("/")
    return provider, model


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
