"""Shared breaker state in Redis. Storage only; decisions are made by `breakers`.

A hash holds the latest decision about each breaker, and a key exists while a breaker is probed.
Values are signed, so that others who can write to this Redis can neither open breakers nor keep
workers from probing.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from llm_routing.core.breaker import BreakerRules, Opening
from llm_routing.core.codec import decode, encode
from llm_routing.core.ports import Clock, Signer
from llm_routing.core.types import TargetKey

from .guard import GuardedRedis, RedisUnavailable

LEASE_MS = 10_000
"""After this time another worker can probe instead of a process that has died."""
RETENTION_SECONDS = 3600.0
MAX_BOARD_BYTES = 8 * 1024 * 1024
MAX_CAUSE_LENGTH = 64

_SYNC = """
local request = cjson.decode(ARGV[1])
for i = 2, #ARGV do
  redis.call('HDEL', KEYS[1], ARGV[i])
end
for name, value in pairs(request.decisions) do
  redis.call('HSET', KEYS[1], name, value)
end
redis.call('PEXPIRE', KEYS[1], request.retention_ms)
for i, value in ipairs(request.probes) do
  local holder = redis.call('GET', KEYS[i + 1])
  if not holder or holder == value then
    redis.call('SET', KEYS[i + 1], value, 'PX', request.lifetimes_ms[i])
  end
end
local entries, bytes = redis.call('HGETALL', KEYS[1]), 0
for _, text in ipairs(entries) do
  bytes = bytes + #text
end
if bytes > request.max_bytes then
  redis.call('DEL', KEYS[1])
  entries = {}
end
local time = redis.call('TIME')
return {time[1] * 1000 + math.floor(time[2] / 1000), entries}
"""
_CLAIM = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return 1
end
return {redis.call('GETRANGE', KEYS[1], 0, #ARGV[1]), redis.call('PTTL', KEYS[1])}
"""


class ForgedValue(ValueError):
    """No process of this installation wrote the value, or it was written under another name."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A breaker has opened, or closed (`opening` is None). The later of two decisions has the
    higher `version`, in milliseconds of Redis's clock."""

    version: int
    opening: Opening | None
    signed: str


@dataclass(frozen=True, slots=True)
class ProbeUpdate:
    """A probe under the decision `version` runs, or is released because it counts for nothing."""

    key: TargetKey
    version: int
    is_running: bool


class BreakerBoard:
    """The board of one installation; `namespace` separates installations that share a Redis.

    Everything on it expires. Coroutines raise `RedisUnavailable`.
    """

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
        # The braces keep all names on one node of a Redis Cluster.
        self._prefix = f"llm_routing:breaker:{{{namespace}}}"
        self._max_open_ms = int(rules.max_open_time * 1000)
        self._retention_ms = int(RETENTION_SECONDS * 1000) + self._max_open_ms
        self._process = uuid4().hex
        self._signer = signer
        self._clock = clock
        self._clock_offset_ms: float | None = None
        self._unwanted: list[bytes] = []

    @property
    def has_clock(self) -> bool:
        """Whether Redis's time is known; `decision` needs it."""
        return self._clock_offset_ms is not None

    def decision(
        self, key: TargetKey, opening: Opening | None, *, decided_at: float, after: int
    ) -> Decision:
        """Returns the decision of the monotonic time `decided_at`, with a version above `after`."""
        now = self._redis_ms(self._clock.monotonic())
        value: dict[str, Any] = {"version": max(self._redis_ms(decided_at), after + 1)}
        if opening is not None:
            value |= {
                "cause": opening.cause[:MAX_CAUSE_LENGTH],
                "level": opening.level,
                "proven": opening.proven,
                "since": now - int(opening.opened_for * 1000),
                "retry_at": now + int(opening.retry_after * 1000),
            }
        signed = self._sign(encode(value).decode(), self._decision_name(key))
        return Decision(value["version"], opening, signed)

    async def sync(
        self, decisions: Mapping[TargetKey, Decision], probes: Collection[ProbeUpdate]
    ) -> Mapping[TargetKey, Decision]:
        """Writes decisions and probes, and returns the decisions that are on the board then."""
        names = [self._probe_name(probe.key, probe.version) for probe in probes]
        request = {
            "decisions": {
                _field(key): each.signed
                for key, each in decisions.items()
                if not self._is_expired(each)
            },
            "probes": [self._sign(self._process, name) for name in names],
            "lifetimes_ms": [LEASE_MS if probe.is_running else 1 for probe in probes],
            "retention_ms": self._retention_ms,
            "max_bytes": MAX_BOARD_BYTES,
        }
        unwanted, self._unwanted = self._unwanted, []
        reply = await self._redis.run(
            _SYNC, [f"{self._prefix}:decisions", *names], [encode(request), *unwanted]
        )
        try:
            now, entries = reply
            self._clock_offset_ms = now - self._clock.monotonic() * 1000
            return self._read(dict(zip(entries[::2], entries[1::2], strict=True)), now)
        except (ValueError, TypeError) as error:
            raise RedisUnavailable(type(error).__name__) from None

    async def claim(self, key: TargetKey, version: int) -> bool:
        """Returns whether this process may probe a breaker under a decision, and no other one."""
        name = self._probe_name(key, version)
        value = self._sign(self._process, name)
        reply = await self._redis.run(_CLAIM, [name], [value, LEASE_MS])
        try:
            if reply != 1:
                holder, expires_in_ms = reply
                self._verify(holder, name)
                if not 0 < expires_in_ms <= LEASE_MS:
                    raise ForgedValue
        except (ValueError, TypeError) as error:
            self._redis.count_forged(1)
            raise RedisUnavailable(type(error).__name__) from None
        return bool(reply == 1)

    async def aclose(self) -> None:
        """Closes the connection of the running event loop."""
        await self._redis.aclose()

    def _read(self, entries: Mapping[bytes, bytes], now: int) -> Mapping[TargetKey, Decision]:
        """Returns the genuine decisions; the next `sync` removes forged and expired ones."""
        decisions: dict[TargetKey, Decision] = {}
        forged = 0
        for field, signed in entries.items():
            try:
                provider, _, model = field.decode().partition("/")
                decision = self._read_decision((provider, model), signed, now)
                if not self._is_expired(decision):
                    decisions[provider, model] = decision
                    continue
            except ValueError:
                forged += 1
            self._unwanted.append(field)
        self._redis.count_forged(forged)
        return decisions

    def _read_decision(self, key: TargetKey, signed: bytes, now: int) -> Decision:
        value = decode(self._verify(signed, self._decision_name(key)))
        opening = None
        if "retry_at" in value:
            opening = Opening(
                cause=value["cause"],
                opened_for=max(0, now - value["since"]) / 1000,
                # Other processes may have other settings.
                retry_after=min(max(0, value["retry_at"] - now), self._max_open_ms) / 1000,
                level=value["level"],
                proven=value["proven"],
            )
        return Decision(value["version"], opening, signed.decode())

    def _sign(self, text: str, name: str) -> str:
        return f"{self._signer.sign(text, name)} {text}"

    def _verify(self, signed: bytes, name: str) -> str:
        """Returns the text that was signed under a name. Raises `ForgedValue`."""
        signature, _, text = signed.decode("utf-8", "replace").partition(" ")
        if not self._signer.is_signed(text, name, signature):
            raise ForgedValue
        return text

    def _is_expired(self, decision: Decision) -> bool:
        return decision.version < self._redis_ms(self._clock.monotonic()) - self._retention_ms

    def _redis_ms(self, monotonic: float) -> int:
        return int(monotonic * 1000 + (self._clock_offset_ms or 0.0))

    def _decision_name(self, key: TargetKey) -> str:
        return f"{self._prefix}:decision:{_field(key)}"

    def _probe_name(self, key: TargetKey, version: int) -> str:
        return f"{self._prefix}:probe:{_field(key)}:{version}"


def _field(key: TargetKey) -> str:
    return f"{key[0]}/{key[1]}"
