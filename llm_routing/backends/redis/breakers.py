"""Circuit breakers that all workers have in common, through Redis.

Each process decides from memory, as `breakers` do, and a small task tells the others several times
a second what it has seen and takes over what they have. Redis is asked on a request's way only for
a probe, and by the first request after a pause. Where it cannot be used, each process is alone.
"""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from uuid import uuid4

from llm_routing.backends.breakers import MAX_BREAKERS, Key, LockedPermit, MemoryBreakers
from llm_routing.core.breaker import Breaker, BreakerPermit, BreakerRules, Rejected
from llm_routing.core.errors import UpstreamError
from llm_routing.core.ports import Clock, Permit
from llm_routing.core.routing_table import Target

from .board_entries import Entry
from .breaker_board import BreakerBoard, Claimed, Heard, Tell
from .guard import RedisUnavailable

TELL_SECONDS = 0.25
STALE_SECONDS = 0.9
IDLE_SECONDS = 30.0
REST_SECONDS = 5.0
CLOSE_SECONDS = 2.0
_UNTOLD = -1


@dataclass(slots=True)
class _Link:
    """How far a breaker here and its entry on the board are the same: the entry's `id` (empty:
    closed), the breaker's decisions that were `told`, and the tokens of probes under it."""

    id: str = ""
    told: int = 0
    claiming: int = 0
    is_full: bool = False
    running: set[str] = field(default_factory=set)
    proven: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)

    def follow(self, entry_id: str) -> None:
        """From now on it is about another entry; probes under the old one say nothing."""
        self.id = entry_id
        self.is_full = False
        self.running.clear()
        self.proven.clear()
        self.released.clear()

    def settle(self, token: str, *, is_proof: bool) -> None:
        """A probe has ended."""
        if token in self.running:
            self.running.remove(token)
            (self.proven if is_proof else self.released).append(token)


class SharedBreakers(MemoryBreakers):
    """`core.ports.BreakerRegistry` over Redis, for all event loops of the process.

    The task that tells and hears runs in the loop that was the first to need it. When nothing has
    been asked for `IDLE_SECONDS` it slows down, and where every breaker is closed it ends.
    """

    def __init__(
        self, rules: BreakerRules, clock: Clock, rng: Random, *, board: BreakerBoard
    ) -> None:
        super().__init__(rules, clock, rng)
        self._board = board
        self._links: dict[Key, _Link] = {}
        self._era = ""
        self._is_in_touch = False
        self._used_at = self._heard_at = float("-inf")
        self._exchange: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._forgetting: set[asyncio.Task[None]] = set()

    async def admit(self, target: Target, *, force: bool = False) -> Permit | Rejected:
        """Leave to ask `target`, or why not; see `core.ports.BreakerStore`."""
        now = self._used_at = self._clock.monotonic()
        if now - self._heard_at > STALE_SECONDS:
            await self._catch_up()
        key = (target.provider.name, target.model.model_id)
        with self._lock:
            now = self._clock.monotonic()
            breaker, link = self._of(key), self._links[key]
            is_agreed = self._is_in_touch and link.told == breaker.decisions
            if not (is_agreed and link.id and breaker.is_due(now)):
                return self._let(key, breaker.admit(now, force=force))
            if link.is_full or len(link.running) + link.claiming >= self.rules.probes:
                return self._let_no_probe(now, key, force=force)
            link.claiming += 1
            known = link.id
        return await self._claim(key, known, force=force)

    def reset(self, provider: str, model: str) -> None:
        """Closes the breaker of a target here and for all; see `core.ports.BreakerRegistry`."""
        super().reset(provider, model)
        work = self._forget((provider, model))
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(work)
        else:
            task = loop.create_task(work)
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)

    async def aclose(self) -> None:
        """Says its last words, where it is in touch, and closes the connections."""
        keeper, self._keeper = self._keeper, None
        loop = asyncio.get_running_loop()
        if keeper is not None and not keeper.done():
            if keeper.get_loop() is loop:
                await _ended(keeper)
            elif keeper.get_loop().is_running():
                ending = asyncio.run_coroutine_threadsafe(_ended(keeper), keeper.get_loop())
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.wrap_future(ending), CLOSE_SECONDS)
        if self._is_in_touch:
            with self._lock:
                for link in self._links.values():
                    link.released.extend(link.running)
                    link.running.clear()
            await self._converse()
        await self._board.aclose()

    def heard_of(self, key: Key, token: str | None, *, is_proof: bool) -> None:
        """A call has ended, as its permit has it; under the lock."""
        breaker, link = self._breakers.get(key), self._links.get(key)
        if breaker is None or link is None:
            return
        if token is not None:
            link.settle(token, is_proof=is_proof)
        if token is not None or breaker.decisions != link.told:
            self._hurry()

    async def _claim(self, key: Key, known: str, *, force: bool) -> Permit | Rejected:
        """Leave for a probe, where there is one left over all workers."""
        token = self._board.token(known)
        claimed, entry = Claimed.UNKNOWN, None
        try:
            claimed, entry = await self._board.claim(key, known, token, self._era)
        except RedisUnavailable:
            self._is_in_touch = False
        except BaseException:
            with self._lock:
                _, link = self._pair(key)
                link.claiming -= 1
                if link.id == known:
                    # Nobody will make the call, but the board may have the claim.
                    link.released.append(token)
            raise
        with self._lock:
            now = self._clock.monotonic()
            breaker, link = self._pair(key)
            link.claiming -= 1
            if claimed is Claimed.UNKNOWN:
                return self._let(key, breaker.admit(now, force=force), token)
            if claimed is Claimed.GRANTED and link.id == known and breaker.is_due(now):
                return self._let(key, breaker.admit(now, force=True), token)
            if claimed is Claimed.CHANGED and link.told == breaker.decisions:
                self._take_over(now, breaker, link, entry)
            if breaker.is_due(now):
                link.is_full = link.is_full or claimed is Claimed.FULL
                return self._let_no_probe(now, key, force=force)
            return self._let(key, breaker.admit(now, force=force))

    def _let_no_probe(self, now: float, key: Key, *, force: bool) -> Permit | Rejected:
        """What a request gets that is one too many while its breaker is probed; under the lock."""
        breaker, _ = self._pair(key)
        if force:
            return self._let(key, breaker.admit(now, force=True))
        return Rejected(self.rules.open_time, breaker.status(now).cause)

    def _let(
        self, key: Key, admitted: BreakerPermit | Rejected, token: str | None = None
    ) -> Permit | Rejected:
        """What a request gets; under the lock. A call under an entry has a token, so that its
        success counts for all."""
        if isinstance(admitted, Rejected):
            return admitted
        link = self._links[key]
        if link.id:
            token = token or self._board.token(link.id)
            link.running.add(token)
        return _SharedPermit(admitted, self._lock, self._clock, self, key, token)

    async def _catch_up(self) -> None:
        """Hears the board before anything is decided, for the last time was long ago."""
        keeper = self._keeper
        await self._converse()
        if self._keeper is not keeper:
            return
        loop = asyncio.get_running_loop()
        if keeper is None or keeper.done() or keeper.get_loop() is not loop:
            # Also where another loop has one: it rests, or that loop stands still.
            self._news = asyncio.Event()
            self._keeper = loop.create_task(self._keep_in_touch())
        else:
            self._news.set()

    async def _keep_in_touch(self) -> None:
        news = self._news
        try:
            while self._keeper is asyncio.current_task() and (pace := self._pace()):
                with suppress(TimeoutError):
                    async with asyncio.timeout(pace):
                        await news.wait()
                news.clear()
                await self._converse()
        except asyncio.CancelledError:
            # The loop may be about to end, and its connections with it.
            await self._board.aclose()
            raise

    def _pace(self) -> float | None:
        """Seconds from one exchange to the next; None where nothing is worth one."""
        now = self._clock.monotonic()
        if now - self._used_at < IDLE_SECONDS:
            return TELL_SECONDS
        with self._lock:
            is_any_open = any(breaker.opening(now) for breaker in self._breakers.values())
        return REST_SECONDS if is_any_open else None

    def _hurry(self) -> None:
        keeper = self._keeper
        if keeper is not None and not keeper.done():
            with suppress(RuntimeError):
                # A loop that is closed takes nothing; the next request finds that out.
                keeper.get_loop().call_soon_threadsafe(self._news.set)

    async def _converse(self) -> None:
        """One exchange with the board, shared by those who want one at the same time."""
        exchange = self._exchange
        loop = asyncio.get_running_loop()
        if exchange is None or exchange.done() or exchange.get_loop() is not loop:
            exchange = self._exchange = loop.create_task(self._exchange_news())
        await asyncio.wait({exchange})

    async def _exchange_news(self) -> None:
        with self._lock:
            tells, told = self._take_news()
        try:
            heard = await self._board.tell(tells)
        except RedisUnavailable:
            self._is_in_touch = False
        else:
            with self._lock:
                self._understand(heard, tells, told)
                self._is_in_touch = True
        finally:
            self._heard_at = self._clock.monotonic()

    def _take_news(self) -> tuple[list[Tell], dict[Key, int]]:
        """What to tell, and the decisions of each breaker with which that is up to date."""
        now = self._clock.monotonic()
        tells, told = [], {}
        for key, breaker in self._breakers.items():
            _, link = self._pair(key)
            told[key] = breaker.decisions
            opening, is_closing = None, False
            if breaker.decisions != link.told:
                standing = breaker.opening(now)
                opening = None if standing is None else Entry(uuid4().hex, standing)
                is_closing = standing is None and bool(link.id)
            news = breaker.take_news(now)
            link.is_full = False
            if opening or is_closing or news.calls or link.running or link.proven or link.released:
                tells.append(
                    Tell(
                        key,
                        link.id,
                        opening,
                        is_closing,
                        tuple(link.proven),
                        tuple(link.released),
                        tuple(link.running),
                        news,
                    )
                )
                link.proven.clear()
                link.released.clear()
        return tells, told

    def _understand(self, heard: Heard, tells: Sequence[Tell], told: dict[Key, int]) -> None:
        now = self._clock.monotonic()
        is_wiped, self._era = heard.era != self._era, heard.era
        for tell in tells:
            if tell.key in self._breakers and tell.opening is not None:
                entry = heard.entries.get(tell.key)
                if entry is not None and entry.id == tell.opening.id:
                    self._pair(tell.key)[1].follow(entry.id)
        for key in {*heard.entries, *self._breakers}:
            entry = heard.entries.get(key)
            if key not in self._breakers and len(self._breakers) >= MAX_BREAKERS:
                continue
            breaker, link = self._pair(key)
            if breaker.decisions != told.get(key, link.told):
                # It has decided something since: that is told first.
                continue
            if is_wiped and entry is None and breaker.opening(now) is not None:
                link.follow("")
                link.told = _UNTOLD
                self._hurry()
                continue
            link.told = breaker.decisions
            self._take_over(now, breaker, link, entry)
        for tell, total in zip(tells, heard.totals, strict=True):
            breaker_of = self._breakers.get(tell.key)
            if total is not None and breaker_of is not None:
                breaker_of.judge(now, tell.news, total)
                if breaker_of.decisions != self._links[tell.key].told:
                    self._hurry()

    def _take_over(self, now: float, breaker: Breaker, link: _Link, entry: Entry | None) -> None:
        """Makes a breaker what its entry says, unless it is that already."""
        entry_id = "" if entry is None else entry.id
        if link.id == entry_id:
            return
        link.follow(entry_id)
        if entry is not None:
            breaker.adopt(now, entry.opening)
        elif breaker.opening(now) is not None:
            breaker.adopt(now, None)

    async def _forget(self, key: Key) -> None:
        with suppress(RedisUnavailable):
            await self._board.forget(key)
        keeper = self._keeper
        if keeper is None or keeper.get_loop() is not asyncio.get_running_loop():
            await self._board.aclose()

    def _of(self, key: Key) -> Breaker:
        breaker = super()._of(key)
        if key not in self._links:
            for gone in self._links.keys() - self._breakers.keys():
                del self._links[gone]
            self._links[key] = _Link()
        return breaker

    def _pair(self, key: Key) -> tuple[Breaker, _Link]:
        """The breaker of a target and its link; under the lock."""
        breaker = self._breakers.get(key) or self._of(key)
        return breaker, self._links[key]


class _SharedPermit(LockedPermit):
    """`core.ports.Permit` whose end the others hear of."""

    __slots__ = ("_key", "_store", "_token")

    def __init__(
        self,
        permit: BreakerPermit,
        lock: threading.Lock,
        clock: Clock,
        store: SharedBreakers,
        key: Key,
        token: str | None,
    ) -> None:
        super().__init__(permit, lock, clock)
        self._store = store
        self._key = key
        self._token = token

    def succeed(self, seconds: float = 0.0) -> None:
        with self._lock:
            self._permit.succeed(self._clock.monotonic(), seconds)
            self._tell(is_proof=not self._store.rules.is_slow(seconds))

    def fail(self, error: UpstreamError) -> None:
        with self._lock:
            self._permit.fail(self._clock.monotonic(), error.code, error.retry_after)
            self._tell()

    def release(self) -> None:
        with self._lock:
            self._permit.release()
            self._tell()

    def _tell(self, *, is_proof: bool = False) -> None:
        self._store.heard_of(self._key, self._token, is_proof=is_proof)
        self._token = None


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task})
