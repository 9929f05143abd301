"""The breakers of a process: apart by target, for all threads, in bounded memory."""

import asyncio
import threading
from random import Random

import pytest

from llm_routing.backends import breakers as module
from llm_routing.backends.breakers import MemoryBreakers
from llm_routing.backends.clock import SystemClock
from llm_routing.core.breaker import SLOW_CALLS, BreakerRules, BreakerState, Rejected
from llm_routing.core.errors import RateLimited, ServerFailed
from llm_routing.core.ports import Permit
from tests.core.fakes import target


class Clock(SystemClock):
    now_is = 1000.0

    def monotonic(self) -> float:
        return self.now_is


def new(probes: int = 1) -> tuple[MemoryBreakers, Clock]:
    clock = Clock()
    rules = BreakerRules(minimum_calls=4, open_time=10, probes=probes)
    return MemoryBreakers(rules, clock, Random(1)), clock


async def permit(breakers: MemoryBreakers, name: str = "a") -> Permit:
    admitted = await breakers.admit(target(name))
    assert not isinstance(admitted, Rejected)
    return admitted


async def trip(breakers: MemoryBreakers, name: str = "a") -> None:
    for _ in range(4):
        (await permit(breakers, name)).fail(ServerFailed("No."))


async def test_targets_do_not_share_a_breaker() -> None:
    breakers, _ = new()
    await trip(breakers)
    refusal = await breakers.admit(target("a"))
    assert isinstance(refusal, Rejected)
    assert refusal.cause == "server_failed"
    await permit(breakers, "b")
    assert breakers.statuses()["a", "m"].state is BreakerState.OPEN
    assert breakers.statuses()["b", "m"].state is BreakerState.CLOSED


async def test_the_vendor_s_retry_after_is_heard() -> None:
    breakers, clock = new()
    for _ in range(4):
        (await permit(breakers)).fail(RateLimited("Slow down.", retry_after=50))
    clock.now_is += 49
    assert isinstance(await breakers.admit(target("a")), Rejected)
    clock.now_is += 2
    (await permit(breakers)).succeed()
    assert breakers.statuses()["a", "m"].state is BreakerState.CLOSED


async def test_a_reset_closes_one_and_knows_no_others() -> None:
    breakers, _ = new()
    await trip(breakers, "a")
    await trip(breakers, "b")
    breakers.reset("a", "m")
    breakers.reset("nobody", "m")
    await permit(breakers, "a")
    assert isinstance(await breakers.admit(target("b")), Rejected)


async def test_an_open_breaker_admits_a_forced_call() -> None:
    breakers, _ = new()
    await trip(breakers)
    admitted = await breakers.admit(target("a"), force=True)
    assert not isinstance(admitted, Rejected)
    admitted.fail(ServerFailed("No."))
    assert breakers.statuses()["a", "m"].state is BreakerState.OPEN
    admitted = await breakers.admit(target("a"), force=True)
    assert not isinstance(admitted, Rejected)
    admitted.succeed()
    assert breakers.statuses()["a", "m"].state is BreakerState.CLOSED


async def test_slow_calls_open_it() -> None:
    rules = BreakerRules(minimum_calls=4, slow_call_time=2)
    breakers = MemoryBreakers(rules, Clock(), Random(1))
    for _ in range(4):
        (await permit(breakers)).succeed(3.0)
    assert breakers.statuses()["a", "m"].cause == SLOW_CALLS
    await breakers.aclose()


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BREAKERS", 3)
    breakers, _ = new()
    for name in ("a", "b", "c", "a", "d"):
        (await permit(breakers, name)).release()
    assert {key[0] for key in breakers.statuses()} == {"a", "c", "d"}


@pytest.mark.parametrize("probes", [1, 3])
def test_of_all_event_loops_together_exactly_the_probes_are_let_through(probes: int) -> None:
    breakers, clock = new(probes)
    asyncio.run(trip(breakers))
    clock.now_is += 20
    admitted: list[Permit] = []
    barrier = threading.Barrier(8)

    async def ask() -> None:
        barrier.wait()
        for _ in range(50):
            answer = await breakers.admit(target("a"))
            if not isinstance(answer, Rejected):
                admitted.append(answer)

    threads = [threading.Thread(target=asyncio.run, args=(ask(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == probes
    for probe in admitted:
        probe.succeed()
    assert breakers.statuses()["a", "m"].state is BreakerState.CLOSED
