"""Circuit breakers that all workers share through Redis.

Each worker counts its own calls and decides from memory. A task exchanges decisions with the other
workers several times a second; the latest decision about a breaker holds in all of them. A request
waits for Redis only to claim a probe, or if it is the first after a pause. While Redis is
unavailable, each worker has breakers of its own.
"""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random

from llm_routing.backends.breakers import MAX_BREAKERS, LockedPermit, MemoryBreakers
from llm_routing.core.breaker import Breaker, BreakerPermit, BreakerRules, Rejected
from llm_routing.core.ports import Clock, Permit
from llm_routing.core.routing_table import Target
from llm_routing.core.types import TargetKey

from .breaker_board import BreakerBoard, Decision, ProbeUpdate
from .guard import RedisUnavailable

SYNC_SECONDS = 0.25
STALE_SECONDS = 0.9
IDLE_SECONDS = 30.0
IDLE_SYNC_SECONDS = 5.0


@dataclass(slots=True)
class _SyncState:
    """The state of one breaker that is exchanged with other processes.

    `decided_at` is set while a decision of this process has no version yet. `probe` is the version
    of the decision under which this process has claimed a probe, 0 without one.
    """

    decision: Decision | None = None
    decided_at: float | None = None
    decisions_seen: int = 0
    may_claim: bool = True
    probe: int = 0
    is_probe_running: bool = False

    @property
    def version(self) -> int:
        return 0 if self.decision is None else self.decision.version


class SharedBreakers(MemoryBreakers):
    """`core.ports.BreakerRegistry` over Redis, for all event loops of the process.

    The task that exchanges decisions runs in the loop that needed it first. After `IDLE_SECONDS`
    without a request it slows down, and ends if every breaker is closed.
    """

    def __init__(
        self, rules: BreakerRules, clock: Clock, rng: Random, *, board: BreakerBoard
    ) -> None:
        super().__init__(rules, clock, rng)
        self.is_in_touch = False
        """Whether the last exchange with Redis succeeded."""
        self._board = board
        self._states: dict[TargetKey, _SyncState] = {}
        self._versions_on_board: Mapping[TargetKey, int] = {}
        self._used_at = self._synced_at = float("-inf")
        self._exchange: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._wakeup = asyncio.Event()

    async def admit(self, target: Target, *, force: bool = False) -> Permit | Rejected:
        """See `core.ports.BreakerStore`."""
        now = self._used_at = self._clock.monotonic()
        if now - self._synced_at > STALE_SECONDS:
            await self._catch_up()
        key = target.key
        with self._lock:
            now = self._clock.monotonic()
            breaker, state = self._pair(key)
            if not (self.is_in_touch and breaker.is_due(now)):
                return self._permit(key, breaker.admit(now, force=force))
            if not state.may_claim or state.probe or state.decided_at is not None:
                return self._admit_without_probe(key, now, force=force)
            state.may_claim = False
            version = state.version
        return await self._claim(key, version, force=force)

    def reset(self, provider: str, model: str) -> None:
        """Closes a breaker in all workers; see `core.ports.BreakerRegistry`."""
        with self._lock:
            self._of((provider, model)).reset()
            self._note_decision((provider, model))
        try:
            self._start_exchange()
        except RuntimeError:  # this thread has no event loop
            asyncio.run(self._publish())

    async def sync(self) -> None:
        """Exchanges decisions with the other workers now; concurrent callers share an exchange."""
        await asyncio.wait({self._start_exchange()})

    async def aclose(self) -> None:
        """Publishes what the other workers do not know yet, and closes the connection."""
        keeper, self._keeper = self._keeper, None
        self._wake_up(keeper)
        if keeper is not None and keeper.get_loop() is asyncio.get_running_loop():
            await asyncio.wait({keeper})
        if self.is_in_touch:
            await self._publish()
        await self._board.aclose()

    async def _claim(self, key: TargetKey, version: int, *, force: bool) -> Permit | Rejected:
        """Admits a call as a probe, if no other worker is probing."""
        is_granted: bool | None = None
        try:
            is_granted = await self._board.claim(key, version)
        except RedisUnavailable:
            self.is_in_touch = False
        except asyncio.CancelledError:
            # Redis may have granted the probe, which nobody will make.
            self._pair(key)[1].probe = version
            raise
        with self._lock:
            now = self._clock.monotonic()
            breaker, state = self._pair(key)
            if is_granted is None:
                return self._permit(key, breaker.admit(now, force=force))
            if is_granted and state.version == version and breaker.is_due(now):
                state.probe, state.is_probe_running = version, True
                return self._permit(key, breaker.admit(now, force=True), version)
            return self._admit_without_probe(key, now, force=force)

    def _admit_without_probe(self, key: TargetKey, now: float, *, force: bool) -> Permit | Rejected:
        breaker = self._of(key)
        if breaker.is_due(now) and not force:
            return Rejected(self.rules.open_time, breaker.status(now).cause)
        return self._permit(key, breaker.admit(now, force=force))

    def _permit(
        self, key: TargetKey, admitted: BreakerPermit | Rejected, probe: int = 0
    ) -> Permit | Rejected:
        if isinstance(admitted, Rejected):
            return admitted
        settle = partial(self._settle, key, probe)
        return LockedPermit(admitted, self._lock, self._clock, settle)

    def _settle(self, key: TargetKey, probe: int, is_success: bool) -> None:
        """Has the next exchange tell what the end of a call changed; the caller holds the lock."""
        breaker, state = self._breakers.get(key), self._states.get(key)
        if breaker is None or state is None:
            return
        is_probe = probe != 0 and probe == state.probe
        if is_probe:
            state.is_probe_running = False
            self._wake_up(self._keeper)
        # One of several probes has succeeded: the next one is claimed under a new version.
        self._note_decision(key, is_new=is_probe and is_success)

    def _note_decision(self, key: TargetKey, *, is_new: bool = False) -> None:
        breaker, state = self._pair(key)
        if is_new or breaker.decisions != state.decisions_seen:
            state.decisions_seen = breaker.decisions
            state.decided_at = self._clock.monotonic()
            state.probe = 0
            self._wake_up(self._keeper)

    async def _catch_up(self) -> None:
        """Exchanges decisions after a pause, and makes sure that a task does so from now on."""
        await self.sync()
        keeper, loop = self._keeper, asyncio.get_running_loop()
        if keeper is None or keeper.done() or keeper.get_loop() is not loop:
            # A task in another loop is replaced: it is idle, or its loop is blocked.
            self._wakeup = asyncio.Event()
            self._keeper = loop.create_task(self._keep_in_touch(self._wakeup))
        else:
            self._wakeup.set()

    async def _keep_in_touch(self, wakeup: asyncio.Event) -> None:
        try:
            while self._keeper is asyncio.current_task() and (pause := self._pause()):
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await wakeup.wait()
                wakeup.clear()
                await self.sync()
        finally:
            # The loop may be about to end, and its connection with it.
            await self._board.aclose()

    def _pause(self) -> float | None:
        """Seconds until the next exchange; None if none is needed before the next request."""
        if self._clock.monotonic() - self._used_at < IDLE_SECONDS:
            return SYNC_SECONDS
        with self._lock:
            is_any_open = any(not breaker.is_closed for breaker in self._breakers.values())
        return IDLE_SYNC_SECONDS if is_any_open else None

    def _wake_up(self, keeper: "asyncio.Task[None] | None") -> None:
        if keeper is not None and not keeper.done():
            with suppress(RuntimeError):  # the loop is closed; the next request finds that out
                keeper.get_loop().call_soon_threadsafe(self._wakeup.set)

    def _start_exchange(self) -> "asyncio.Task[None]":
        exchange, loop = self._exchange, asyncio.get_running_loop()
        if exchange is None or exchange.done() or exchange.get_loop() is not loop:
            exchange = self._exchange = loop.create_task(self._exchange_decisions())
        return exchange

    async def _exchange_decisions(self) -> None:
        try:
            if not self._board.has_clock:
                await self._board.sync({}, ())
            with self._lock:
                decisions, probes = self._collect()
            found = await self._board.sync(decisions, probes)
        except RedisUnavailable:
            self.is_in_touch = False
        else:
            with self._lock:
                self._apply(found, probes)
            self.is_in_touch = True
        finally:
            self._synced_at = self._clock.monotonic()

    def _collect(self) -> tuple[Mapping[TargetKey, Decision], Collection[ProbeUpdate]]:
        """Returns the decisions that the board lacks, and the probes of this process."""
        now = self._clock.monotonic()
        decisions, probes = {}, []
        for key, breaker in self._breakers.items():
            state = self._states[key]
            if state.decided_at is not None:
                state.decision = self._board.decision(
                    key, breaker.opening(now), decided_at=state.decided_at, after=state.version
                )
                state.decided_at = None
            # Also if Redis has lost its data, or another worker has overwritten a later decision.
            if state.decision and state.version > self._versions_on_board.get(key, 0):
                decisions[key] = state.decision
            if state.probe:
                probes.append(ProbeUpdate(key, state.probe, state.is_probe_running))
        return decisions, probes

    def _apply(
        self, found: Mapping[TargetKey, Decision], sent_probes: Collection[ProbeUpdate]
    ) -> None:
        now = self._clock.monotonic()
        self._versions_on_board = {key: decision.version for key, decision in found.items()}
        for state in self._states.values():
            state.may_claim = True
        for sent in sent_probes:
            state = self._pair(sent.key)[1]
            if state.probe == sent.version and not sent.is_running:
                state.probe = 0
        for key, decision in found.items():
            is_known = key in self._breakers
            if not is_known and (not decision.opening or len(self._breakers) >= MAX_BREAKERS):
                continue
            breaker, state = self._pair(key)
            if state.decided_at is None and decision.version > state.version:
                state.decision, state.probe = decision, 0
                if decision.opening or not breaker.is_closed:
                    breaker.adopt(now, decision.opening)

    async def _publish(self) -> None:
        await self.sync()
        await self._board.aclose()

    def _of(self, key: TargetKey) -> Breaker:
        breaker = super()._of(key)
        if key not in self._states:
            for evicted in self._states.keys() - self._breakers.keys():
                del self._states[evicted]
            self._states[key] = _SyncState()
        return breaker

    def _pair(self, key: TargetKey) -> tuple[Breaker, _SyncState]:
        """Returns the breaker of a target and its state; the caller holds the lock."""
        return self._of(key), self._states[key]
