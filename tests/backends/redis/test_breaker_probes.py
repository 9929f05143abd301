"""Probes of a breaker that workers share through a real Redis: one at a time among all."""

import asyncio

import pytest

from llm_routing.core.breaker import BreakerRules, Rejected
from llm_routing.core.errors import ServerFailed
from tests.core.fakes import target

from .workers import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    Workers,
    fail,
    half_open,
    is_refused,
    permit,
    state,
    status,
    sync,
    until_all,
    until_probed,
    use,
)


@pytest.mark.parametrize("probes", [1, 3])
async def test_all_workers_together_make_exactly_the_configured_number_of_probes(
    url: str, worker: Workers, probes: int
) -> None:
    rules = BreakerRules(minimum_calls=4, open_time=0.5, probes=probes)
    workers = [worker(url, rules) for _ in range(6)]
    await use(*workers)
    await fail(workers[0], 4)
    await until_all(workers, HALF_OPEN)
    made = 0
    while state(workers[0]) is not CLOSED:
        requests = [breakers.admit(target("a")) for breakers in workers for _ in range(20)]
        permits = [
            each for each in await asyncio.gather(*requests) if not isinstance(each, Rejected)
        ]
        await sync(*workers)
        for breakers in workers if permits else ():
            assert await is_refused(breakers)
        assert len(permits) <= 1
        for probe in permits:
            probe.succeed()
            made += 1
        await sync(*workers, *workers)
    assert made == probes
    await until_all(workers, CLOSED)


async def test_a_probe_that_fails_opens_the_breaker_for_all_for_twice_as_long(
    url: str, worker: Workers
) -> None:
    first, second = await half_open(url, worker, BreakerRules(minimum_calls=4, open_time=5))
    (await permit(second)).fail(ServerFailed("No."))
    assert 5 < status(second).retry_after <= 12
    await until_all([first], OPEN)
    assert status(first).retry_after == pytest.approx(status(second).retry_after, abs=5)


async def test_after_a_cancelled_probe_another_worker_can_probe(url: str, worker: Workers) -> None:
    first, second = await half_open(url, worker)
    probe = await permit(first)
    assert await is_refused(second)
    probe.release()
    await sync(first)
    await until_probed(second)
    await until_all([first], CLOSED)


async def test_a_request_that_is_cancelled_while_it_claims_a_probe_keeps_none(
    url: str, worker: Workers
) -> None:
    first, second = await half_open(url, worker)
    request = asyncio.create_task(first.admit(target("a")))
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await sync(first)
    await until_probed(second)


async def test_a_request_regardless_of_the_breaker_is_let_through_beside_the_probe(
    url: str, worker: Workers
) -> None:
    first, second = await half_open(url, worker)
    await permit(first)
    assert await is_refused(second)
    await permit(second, force=True)
