"""Decisions of breakers that workers share through a real Redis, and their cost.

Each `worker` stands for a process.
"""

import asyncio

import pytest
from redis.asyncio import Redis

from llm_routing.backends.redis import breakers as shared_breakers
from llm_routing.core.breaker import Rejected
from llm_routing.core.errors import ServerFailed
from tests.core.fakes import target

from .guards import Clock
from .workers import (
    CLOSED,
    DECISIONS,
    OPEN,
    WAIT_SECONDS,
    A,
    ShiftedClock,
    Workers,
    fail,
    is_refused,
    permit,
    state,
    status,
    sync,
    until_all,
    use,
)


async def test_a_breaker_that_opens_in_one_worker_opens_in_all(url: str, worker: Workers) -> None:
    first, *others = [worker(url) for _ in range(4)]
    await use(first, *others)
    await fail(first, 10)
    await until_all(others, OPEN)
    for breakers in others:
        refusal = await breakers.admit(target("a"))
        assert isinstance(refusal, Rejected)
        assert refusal.cause == "server_failed"
        assert status(breakers).retry_after == pytest.approx(status(first).retry_after, abs=10)
        assert status(breakers).opened_for == pytest.approx(status(first).opened_for, abs=10)


async def test_no_request_is_decided_by_what_was_known_a_second_ago(
    url: str, worker: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the background task is late, the request itself asks Redis first."""
    monkeypatch.setattr(shared_breakers, "SYNC_SECONDS", 1000.0)
    clock = Clock()
    first, late = worker(url), worker(url, clock=clock)
    await use(late)
    await fail(first, 10)
    await sync(first)
    assert not await is_refused(late)
    clock.now_is += 1.0
    assert await is_refused(late)


async def test_a_worker_that_starts_knows_open_breakers_with_its_first_request(
    url: str, worker: Workers
) -> None:
    first = worker(url)
    await fail(first, 10)
    await sync(first)
    assert await is_refused(worker(url))


async def test_each_worker_counts_its_own_calls(url: str, worker: Workers) -> None:
    first, second = worker(url), worker(url)
    await use(first, second)
    await fail(first, 9)
    await fail(second, 9)
    await sync(first, second, first)
    assert state(first) is state(second) is CLOSED
    await fail(second)
    await until_all([first, second], OPEN)


async def test_a_success_regardless_of_the_open_breaker_closes_it_for_all(
    url: str, worker: Workers
) -> None:
    first, second = worker(url), worker(url)
    await use(first, second)
    await fail(first, 10)
    await until_all([second], OPEN)
    (await permit(second, force=True)).fail(ServerFailed("No."))
    assert state(second) is OPEN
    (await permit(second, force=True)).succeed()
    await until_all([first], CLOSED)


@pytest.mark.parametrize("way", ["thread", "loop"])
async def test_a_reset_reaches_all_workers(url: str, worker: Workers, way: str) -> None:
    first, second, admin = (worker(url) for _ in range(3))
    await use(first, second)
    await fail(first, 10)
    await until_all([second], OPEN)
    if way == "thread":
        await asyncio.to_thread(admin.reset, *A)
    else:
        admin.reset(*A)
    await until_all([first, second], CLOSED)
    await fail(first, 3)
    await sync(first, second)
    assert state(first) is state(second) is CLOSED


async def test_of_two_decisions_the_later_one_holds(url: str, worker: Workers) -> None:
    """Also if the worker that made the earlier one is the last to tell Redis."""
    first, second = worker(url), worker(url)
    await use(first, second)
    await fail(first, 10)
    await until_all([second], OPEN)
    async with Redis.from_url(url) as client:
        opened = await client.hget(DECISIONS, "a/m")
        assert opened is not None
        (await permit(second, force=True)).succeed()
        await until_all([first, second], CLOSED)
        await client.hset(DECISIONS, "a/m", opened)
        await sync(first, first)
        assert state(first) is state(second) is CLOSED
        assert await client.hget(DECISIONS, "a/m") != opened


async def test_installations_that_share_a_redis_share_no_breakers(
    url: str, worker: Workers
) -> None:
    ours, theirs = worker(url), worker(url, namespace="other")
    await fail(ours, 10)
    await sync(ours, theirs)
    assert not await is_refused(theirs)


async def test_if_an_event_loop_has_ended_the_next_one_exchanges_decisions(
    url: str, worker: Workers
) -> None:
    clock = ShiftedClock()
    breakers, other = worker(url, clock=clock), worker(url)
    await asyncio.to_thread(lambda: asyncio.run(use(breakers)))
    await use(other)
    clock.seconds = 1.0
    await use(breakers)
    await fail(other, 10)
    await until_all([breakers], OPEN)


async def test_no_request_waits_for_redis_and_an_idle_process_leaves_it_alone(
    url: str, worker: Workers, client: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_breakers, "IDLE_SECONDS", 0.5)
    clock = Clock()
    breakers = worker(url, clock=clock)
    await use(breakers)

    async def commands() -> int:
        return int((await client.info("commandstats")).get("cmdstat_evalsha", {}).get("calls", 0))

    before = await commands()
    for _ in range(500):
        admitting = breakers.admit(target("a"))
        # A warm request is admitted without giving way to the event loop once.
        with pytest.raises(StopIteration) as admitted:
            admitting.send(None)
        admitted.value.value.succeed()
    assert await commands() - before < 50
    clock.now_is += 1.0
    async with asyncio.timeout(WAIT_SECONDS):
        count = -1
        while count != (count := await commands()):
            await asyncio.sleep(1)
