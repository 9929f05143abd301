"""Breakers that workers share, while their Redis is unreachable and after it is back."""

import asyncio

import pytest

from llm_routing.core.breaker import BreakerRules, Rejected
from llm_routing.core.ports import Permit
from tests.core.fakes import target

from .servers import MortalRedis
from .workers import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    WAIT_SECONDS,
    ShiftedClock,
    Workers,
    fail,
    half_open,
    is_refused,
    permit,
    state,
    status,
    sync,
    until,
    until_all,
    use,
)


async def test_without_redis_each_worker_has_its_own_breakers_at_once(
    mortal: MortalRedis, worker: Workers
) -> None:
    clock = ShiftedClock()
    first, second = worker(mortal.url, clock=clock), worker(mortal.url)
    await use(first, second)
    mortal.kill()
    await fail(first, 10)
    assert await is_refused(first)
    await permit(second)
    clock.seconds = 120.0
    assert state(first) is HALF_OPEN
    probe = await permit(first)
    assert await is_refused(first)
    probe.succeed()
    assert state(first) is CLOSED


@pytest.mark.parametrize("trouble", ["killed", "frozen"])
async def test_if_redis_goes_while_a_breaker_is_half_open_the_worker_probes_by_itself(
    mortal: MortalRedis, worker: Workers, trouble: str
) -> None:
    first, _ = await half_open(mortal.url, worker)
    mortal.kill() if trouble == "killed" else mortal.freeze()
    permits: list[Permit] = []

    async def ask() -> None:
        admitted = await first.admit(target("a"))
        if not isinstance(admitted, Rejected):
            permits.append(admitted)

    async with asyncio.timeout(WAIT_SECONDS):
        while not permits:
            await asyncio.gather(*(ask() for _ in range(50)))
    assert len(permits) == 1


async def test_a_redis_that_comes_back_empty_learns_what_is_open(
    mortal: MortalRedis, worker: Workers
) -> None:
    first, second = worker(mortal.url), worker(mortal.url)
    await use(first, second)
    await fail(first, 10)
    await until_all([second], OPEN)
    mortal.kill()
    await until(lambda: not first.is_in_touch and not second.is_in_touch)
    mortal.start()
    await until(lambda: first.is_in_touch and second.is_in_touch)
    await sync(first, second, first)
    assert state(first) is state(second) is OPEN
    third = worker(mortal.url)
    assert await is_refused(third)
    (await permit(third, force=True)).succeed()
    await until_all([first, second], CLOSED)


async def test_after_an_outage_workers_learn_which_breakers_opened_meanwhile(
    mortal: MortalRedis, worker: Workers
) -> None:
    first, second = worker(mortal.url), worker(mortal.url)
    await use(first, second)
    mortal.freeze()
    await until(lambda: not first.is_in_touch and not second.is_in_touch)
    await fail(first, 10)
    assert state(first) is OPEN
    await permit(second)
    mortal.thaw()
    await until_all([second], OPEN)
    assert status(second).cause == "server_failed"


async def test_after_an_outage_workers_learn_which_breakers_closed_meanwhile(
    mortal: MortalRedis, worker: Workers
) -> None:
    rules = BreakerRules(minimum_calls=4, open_time=6)
    first, second = worker(mortal.url, rules), worker(mortal.url, rules)
    await use(first, second)
    await fail(first, 4)
    await until_all([second], OPEN)
    mortal.freeze()
    await until(lambda: not first.is_in_touch and not second.is_in_touch)
    await until_all([first], HALF_OPEN)
    (await permit(first)).succeed()
    assert state(first) is CLOSED
    mortal.thaw()
    await until_all([second], CLOSED)
    assert state(first) is CLOSED


async def test_while_redis_comes_and_goes_requests_go_on_and_breakers_end_shared(
    mortal: MortalRedis, worker: Workers
) -> None:
    first, second = worker(mortal.url), worker(mortal.url)
    for _ in range(4):
        for breakers in (first, second):
            for _ in range(5):
                (await permit(breakers)).succeed()
        mortal.freeze()
        await asyncio.sleep(0.3)
        (await permit(first)).succeed()
        mortal.thaw()
        await asyncio.sleep(0.3)
    await until(lambda: first.is_in_touch and second.is_in_touch)
    await use(second)
    await fail(first, 10, "c")
    await until(lambda: state(second, ("c", "m")) is OPEN)
