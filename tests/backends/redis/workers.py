"""Workers that share circuit breakers through Redis, and helpers to use and watch them."""

import asyncio
import time
from collections.abc import Callable, Sequence
from random import Random

from llm_routing.backends.clock import SystemClock
from llm_routing.backends.redis.breaker_board import BreakerBoard
from llm_routing.backends.redis.breakers import SharedBreakers
from llm_routing.backends.redis.guard import GuardedRedis
from llm_routing.core.breaker import BreakerRules, BreakerState, BreakerStatus, Rejected
from llm_routing.core.errors import ServerFailed
from llm_routing.core.ports import Clock, Permit
from llm_routing.crypto.in_transit import Signing
from tests.core.fakes import target

RULES = BreakerRules(minimum_calls=10, open_time=60)
QUICK = BreakerRules(minimum_calls=4, open_time=0.5, max_open_time=60)
WAIT_SECONDS = 90.0
DECISIONS = "llm_routing:breaker:{test}:decisions"
A = ("a", "m")
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


class ShiftedClock(SystemClock):
    """A clock that a test can put forward."""

    seconds = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.seconds


class Workers:
    """Makes the breakers of a process: `workers(url, rules)`."""

    def __init__(self) -> None:
        self.redis: dict[SharedBreakers, GuardedRedis] = {}

    def __call__(
        self,
        url: str,
        rules: BreakerRules = RULES,
        *,
        namespace: str = "test",
        key: bytes = b"k" * 32,
        clock: Clock | None = None,
    ) -> SharedBreakers:
        clock = clock or SystemClock()
        guarded = GuardedRedis(url, clock=clock, rng=Random(1))
        board = BreakerBoard(guarded, rules, namespace, signer=Signing([key]), clock=clock)
        made = SharedBreakers(rules, clock, Random(2), board=board)
        self.redis[made] = guarded
        return made

    def refused_values(self, breakers: SharedBreakers) -> int:
        return self.redis[breakers].calls.forged


async def permit(breakers: SharedBreakers, name: str = "a", **how: bool) -> Permit:
    admitted = await breakers.admit(target(name), **how)
    assert not isinstance(admitted, Rejected)
    return admitted


async def is_refused(breakers: SharedBreakers, name: str = "a") -> bool:
    admitted = await breakers.admit(target(name))
    if not isinstance(admitted, Rejected):
        admitted.release()
    return isinstance(admitted, Rejected)


async def fail(breakers: SharedBreakers, times: int = 1, name: str = "a") -> None:
    for _ in range(times):
        (await permit(breakers, name)).fail(ServerFailed("No."))


def status(breakers: SharedBreakers) -> BreakerStatus:
    return breakers.statuses()[A]


def state(breakers: SharedBreakers, key: tuple[str, str] = A) -> BreakerState:
    found = breakers.statuses().get(key)
    return CLOSED if found is None else found.state


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def until_all(workers: Sequence[SharedBreakers], wanted: BreakerState) -> None:
    await until(lambda: all(state(breakers) is wanted for breakers in workers))


async def use(*workers: SharedBreakers) -> None:
    """Lets each of them exchange decisions from now on."""
    for breakers in workers:
        (await permit(breakers, "b")).release()


async def sync(*workers: SharedBreakers) -> None:
    for breakers in workers:
        await breakers.sync()


async def half_open(url: str, worker: Workers, rules: BreakerRules = QUICK) -> list[SharedBreakers]:
    """Two workers whose breaker can be probed."""
    workers = [worker(url, rules) for _ in range(2)]
    await use(*workers)
    await fail(workers[0], 4)
    await until_all(workers, HALF_OPEN)
    await sync(*workers)
    return workers


async def until_probed(breakers: SharedBreakers) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while isinstance(probe := await breakers.admit(target("a")), Rejected):
            await asyncio.sleep(0.05)
    probe.succeed()
