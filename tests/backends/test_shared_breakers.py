"""Breakers that workers share through a real Redis: each `worker` stands for a process."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis

from llm_routing.backends.clock import SystemClock
from llm_routing.backends.redis import breakers as shared_breakers
from llm_routing.backends.redis.breaker_board import BreakerBoard
from llm_routing.backends.redis.breakers import SharedBreakers
from llm_routing.backends.redis.guard import GuardedRedis
from llm_routing.core.breaker import SLOW_CALLS, BreakerRules, BreakerState, BreakerStatus, Rejected
from llm_routing.core.errors import RateLimited, ServerFailed
from llm_routing.core.ports import Permit
from llm_routing.crypto.in_transit import Signing
from project.processes import ROOT
from tests.conftest import with_path
from tests.core.fakes import target

from .redis_servers import MortalRedis

RULES = BreakerRules(minimum_calls=10, open_time=60, slow_call_time=5, slow_call_rate=0.8)
QUICK = BreakerRules(minimum_calls=4, open_time=0.5, max_open_time=60)
A = ("a", "m")
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN

Make = Callable[..., SharedBreakers]


def store(
    url: str, rules: BreakerRules = RULES, namespace: str = "test", key: bytes = b"k" * 32
) -> SharedBreakers:
    clock = SystemClock()
    redis = GuardedRedis(url, clock=clock, rng=Random(1))
    board = BreakerBoard(redis, rules, namespace, signer=Signing([key]), clock=clock)
    return SharedBreakers(rules, clock, Random(2), board=board)


@pytest.fixture
async def url(redis_url: str) -> str:
    """A Redis of this test alone."""
    url = with_path(redis_url, "/6")
    async with Redis.from_url(url) as client:
        await client.flushdb()
    return url


@pytest.fixture
async def worker(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """A process's breakers: `worker(url, rules)`."""
    made: list[SharedBreakers] = []

    def one(url: str, rules: BreakerRules = RULES, **how: Any) -> SharedBreakers:
        made.append(store(url, rules, **how))
        return made[-1]

    yield one
    for breakers in made:
        await breakers.aclose()


@pytest.fixture
def mortal(redis_url: str, tmp_path: Path) -> Iterator[MortalRedis]:
    server = MortalRedis(tmp_path)
    server.start()
    yield server
    server.end()


async def permit(breakers: SharedBreakers, name: str = "a", **how: bool) -> Permit:
    admitted = await breakers.admit(target(name), **how)
    assert not isinstance(admitted, Rejected)
    return admitted


async def fail(breakers: SharedBreakers, times: int = 1, name: str = "a") -> None:
    for _ in range(times):
        (await permit(breakers, name)).fail(ServerFailed("No."))


def status(breakers: SharedBreakers) -> BreakerStatus:
    return breakers.statuses()[A]


def state(breakers: SharedBreakers) -> BreakerState:
    found = breakers.statuses().get(A)
    return CLOSED if found is None else found.state


async def until(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.01)


async def used(*workers: SharedBreakers) -> None:
    """Each has just been asked for another target."""
    for breakers in workers:
        (await permit(breakers, "b")).release()


async def test_opened_in_one_it_is_open_in_all_within_a_second(url: str, worker: Make) -> None:
    first, *others = [worker(url) for _ in range(4)]
    await used(first, *others)
    await fail(first, 10)
    assert isinstance(await first.admit(target("a")), Rejected)
    await asyncio.sleep(1)
    for breakers in others:
        refusal = await breakers.admit(target("a"))
        assert isinstance(refusal, Rejected)
        assert refusal.cause == "server_failed"
        assert status(breakers).retry_after == pytest.approx(status(first).retry_after, abs=0.2)
        assert status(breakers).opened_for == pytest.approx(status(first).opened_for, abs=0.2)


async def test_a_worker_that_starts_or_was_idle_knows_it_with_its_first_request(
    url: str, worker: Make
) -> None:
    first = worker(url)
    await fail(first, 10)
    await asyncio.sleep(0.1)
    assert isinstance(await worker(url).admit(target("a")), Rejected)


async def test_failures_of_all_workers_add_up(url: str, worker: Make) -> None:
    workers = [worker(url) for _ in range(8)]
    await used(*workers)
    for breakers in workers:
        await fail(breakers, 2)
    assert {state(breakers) for breakers in workers} == {CLOSED}
    await until(lambda: all(state(breakers) is OPEN for breakers in workers), 2)
    assert {status(breakers).cause for breakers in workers} == {"server_failed"}


async def test_successes_of_others_count_too(url: str, worker: Make) -> None:
    good, bad = worker(url), worker(url)
    for _ in range(30):
        (await permit(good)).succeed()
    await asyncio.sleep(0.6)
    await fail(bad, 9)
    await asyncio.sleep(0.6)
    assert state(bad) is state(good) is CLOSED


async def test_slow_calls_of_all_workers_add_up(url: str, worker: Make) -> None:
    workers = [worker(url) for _ in range(4)]
    for breakers in workers:
        for _ in range(3):
            (await permit(breakers)).succeed(6.0)
    await until(lambda: all(state(breakers) is OPEN for breakers in workers), 2)
    assert {status(breakers).cause for breakers in workers} == {SLOW_CALLS}


async def test_the_window_that_all_share_is_as_long_as_its_rules_say(
    url: str, worker: Make
) -> None:
    rules = BreakerRules(window=1, minimum_calls=4, open_time=60)
    first, second = worker(url, rules), worker(url, rules)
    await fail(first, 3)
    await asyncio.sleep(1.5)
    await fail(second, 1)
    await asyncio.sleep(0.5)
    assert state(first) is state(second) is CLOSED
    many = BreakerRules(window_calls=12, minimum_calls=6, open_time=60)
    third, fourth = worker(url, many, namespace="other"), worker(url, many, namespace="other")
    for _ in range(3):
        (await permit(third)).succeed()
        (await permit(third)).succeed()
        await asyncio.sleep(0.3)
    for _ in range(5):
        await fail(fourth)
        await asyncio.sleep(0.3)
    # Of the last twelve or so, five are not half.
    assert state(fourth) is CLOSED


async def test_a_retry_after_that_one_worker_heard_keeps_it_open_for_all(
    url: str, worker: Make
) -> None:
    first, second = worker(url, QUICK), worker(url, QUICK)
    await used(first, second)
    (await permit(first)).fail(RateLimited("Slow down.", retry_after=40))
    await asyncio.sleep(0.5)
    await fail(second, 3)
    await until(lambda: state(first) is OPEN and state(second) is OPEN, 2)
    assert 35 < status(first).retry_after <= 40
    assert 35 < status(second).retry_after <= 40


@pytest.mark.parametrize("probes", [1, 3])
async def test_over_all_workers_exactly_the_probes_are_let_through(
    url: str, worker: Make, probes: int
) -> None:
    rules = BreakerRules(minimum_calls=4, open_time=0.5, probes=probes)
    workers = [worker(url, rules) for _ in range(6)]
    await used(*workers)
    await fail(workers[0], 4)
    await until(lambda: all(state(breakers) is OPEN for breakers in workers))
    await until(lambda: all(state(breakers) is HALF_OPEN for breakers in workers))
    let = []
    for _ in range(6):
        asked = [breakers.admit(target("a")) for breakers in workers for _ in range(20)]
        let += [each for each in await asyncio.gather(*asked) if not isinstance(each, Rejected)]
        await asyncio.sleep(0.2)
    assert len(let) == probes
    for number, probe in enumerate(let, 1):
        await asyncio.sleep(0.5)
        # One that has succeeded makes no room for another.
        for breakers in workers if number < probes else []:
            assert isinstance(await breakers.admit(target("a")), Rejected)
        probe.succeed()
    await until(lambda: all(state(breakers) is CLOSED for breakers in workers), 1)
    for breakers in workers:
        await permit(breakers)


async def test_a_probe_that_fails_opens_it_for_all_for_twice_as_long(
    url: str, worker: Make
) -> None:
    first, second = worker(url, QUICK), worker(url, QUICK)
    await used(first, second)
    await fail(first, 4)
    await until(lambda: state(second) is OPEN)
    await until(lambda: state(second) is HALF_OPEN)
    await asyncio.sleep(0.1)
    (await permit(second)).fail(ServerFailed("No."))
    assert 0.8 <= status(second).retry_after <= 1.2
    await until(lambda: state(first) is OPEN, 1)
    assert status(first).retry_after == pytest.approx(status(second).retry_after, abs=0.2)


async def test_a_probe_that_is_cancelled_makes_room_for_another_worker_s(
    url: str, worker: Make
) -> None:
    first, second = worker(url, QUICK), worker(url, QUICK)
    await fail(first, 4)
    await used(second)
    await until(lambda: state(first) is state(second) is HALF_OPEN)
    await asyncio.sleep(0.1)
    probe = await permit(first)
    assert isinstance(await second.admit(target("a")), Rejected)
    probe.release()
    await asyncio.sleep(0.6)
    (await permit(second)).succeed()
    await until(lambda: state(first) is CLOSED, 1)


async def test_the_probe_of_a_worker_that_died_makes_room_in_time(
    url: str, worker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_routing.backends.redis.breaker_board.LEASE_SECONDS", 0.8)
    first, second = worker(url, QUICK), worker(url, QUICK)
    await fail(first, 4)
    await used(second)
    await until(lambda: state(first) is state(second) is HALF_OPEN)
    await asyncio.sleep(0.1)
    await permit(first)
    for _ in range(4):
        # It lives, and so does its claim.
        await asyncio.sleep(0.4)
        assert isinstance(await second.admit(target("a")), Rejected)
    assert first._keeper is not None
    first._keeper.cancel()
    await asyncio.sleep(1.2)
    await permit(second)


async def test_a_request_cancelled_while_it_asks_for_a_probe_takes_none(
    url: str, worker: Make
) -> None:
    breakers = worker(url, QUICK)
    await fail(breakers, 4)
    await until(lambda: state(breakers) is HALF_OPEN)
    await asyncio.sleep(0.3)
    for _ in range(5):
        asking = asyncio.create_task(breakers.admit(target("a")))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    await asyncio.sleep(0.5)
    await permit(breakers)


async def test_asked_regardless_its_success_closes_it_for_all(url: str, worker: Make) -> None:
    first, second = worker(url), worker(url)
    await used(first, second)
    await fail(first, 10)
    await until(lambda: state(second) is OPEN)
    (await permit(second, force=True)).fail(ServerFailed("No."))
    assert state(second) is OPEN
    (await permit(second, force=True)).succeed()
    await until(lambda: state(first) is CLOSED, 1)


async def test_asked_regardless_while_it_is_probed_one_more_is_let_through(
    url: str, worker: Make
) -> None:
    first, second = worker(url, QUICK), worker(url, QUICK)
    await fail(first, 4)
    await used(second)
    await until(lambda: state(first) is state(second) is HALF_OPEN)
    await asyncio.sleep(0.1)
    await permit(first)
    assert isinstance(await second.admit(target("a")), Rejected)
    await permit(second, force=True)


def reset_in_a_thread(breakers: SharedBreakers) -> None:
    breakers.reset("a", "m")


@pytest.mark.parametrize("way", ["thread", "loop"])
async def test_a_reset_reaches_all(url: str, worker: Make, way: str) -> None:
    first, second, third = (worker(url) for _ in range(3))
    await used(first, second)
    await fail(first, 10)
    await until(lambda: state(second) is OPEN)
    # The third serves nobody, as a process of the admin's.
    if way == "thread":
        await asyncio.to_thread(third.reset, "a", "m")
    else:
        third.reset("a", "m")
    await until(lambda: state(first) is state(second) is CLOSED, 1)
    await asyncio.sleep(0.6)
    await fail(first, 3)
    await asyncio.sleep(0.6)
    assert state(first) is state(second) is CLOSED


async def test_nothing_in_redis_lasts_or_tells_a_secret(url: str, worker: Make) -> None:
    first = worker(url, QUICK)
    await fail(first, 1)
    (await permit(first, "b")).succeed()
    await asyncio.sleep(0.5)
    await fail(first, 3)
    await until(lambda: state(first) is HALF_OPEN)
    await permit(first)
    await asyncio.sleep(0.5)
    async with Redis.from_url(url, decode_responses=True) as client:
        names = [name async for name in client.scan_iter()]
        assert sorted(names) == [
            "llm_routing:breaker:{test}:calls:b/m",
            "llm_routing:breaker:{test}:open",
        ]
        for name in names:
            assert 0 < await client.pttl(name) <= (3600 + 60) * 1000
        entry = json.loads(await client.hget("llm_routing:breaker:{test}:open", "a/m") or "")
    assert set(entry) == {"signed", "signature", "proven", "claims"}
    assert set(json.loads(entry["signed"])) == {"id", "cause", "level", "since", "retry_at"}


async def test_installations_on_one_redis_do_not_meet(url: str, worker: Make) -> None:
    ours, theirs = worker(url), worker(url, namespace="other")
    await fail(ours, 10)
    await asyncio.sleep(0.5)
    await permit(theirs)


async def test_no_request_waits_for_redis_and_an_idle_process_leaves_it_alone(
    url: str, worker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_breakers, "IDLE_SECONDS", 0.5)
    breakers = worker(url)
    await used(breakers)
    async with Redis.from_url(url) as client:

        async def commands() -> int:
            return int(
                (await client.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"]
            )

        before, began = await commands(), time.monotonic()
        for _ in range(500):
            admitting = breakers.admit(target("a"))
            # A warm request is let through without giving the event loop away once.
            with pytest.raises(StopIteration) as let:
                admitting.send(None)
            let.value.value.succeed()
        await asyncio.sleep(0)
        assert await commands() - before <= 2 + (time.monotonic() - began) / 0.25
        await until(lambda: breakers._keeper is not None and breakers._keeper.done())
        quiet = await commands()
        await asyncio.sleep(0.8)
        assert await commands() == quiet


@pytest.mark.parametrize(
    "junk",
    [
        b"not JSON",
        b"[]",
        b"{}",
        b'{"signed":1,"signature":"","proven":0,"claims":{}}',
        b'{"signed":"{}","signature":"","proven":0,"claims":{}}',
        b'{"signed":"{\\"id\\":\\"x\\",\\"retry_at\\":1e300}","signature":"","proven":0,"claims":{}}',
        b"x" * 2_000_000,
    ],
    ids=lambda junk: f"{len(junk)} bytes",
)
async def test_junk_in_redis_is_no_breaker(url: str, worker: Make, junk: bytes) -> None:
    breakers = worker(url)
    async with Redis.from_url(url) as client:
        await client.hset("llm_routing:breaker:{test}:open", "a/m", junk)
        await client.rpush("llm_routing:breaker:{test}:calls:a/m", "junk")
    await permit(breakers)
    await fail(breakers, 10)
    assert state(breakers) is OPEN
    await asyncio.sleep(0.6)
    assert breakers._is_in_touch


OPEN_NAME = "llm_routing:breaker:{test}:open"
CALLS_NAME = "llm_routing:breaker:{test}:calls:a/m"


async def settled(*workers: SharedBreakers) -> None:
    for breakers in workers:
        await breakers._converse()


async def test_what_somebody_without_our_keys_writes_opens_no_breaker_and_is_removed(
    url: str, worker: Make
) -> None:
    breakers = worker(url)
    await used(breakers)
    # The best that somebody can make who has the code and not the key.
    stranger = worker(url, key=b"x" * 32)
    await fail(stranger, 10)
    await settled(stranger)
    async with Redis.from_url(url) as client:
        assert await client.hexists(OPEN_NAME, "a/m")
        await permit(breakers)
        await settled(breakers, breakers)
        assert not await client.hexists(OPEN_NAME, "a/m")
        await fail(stranger, 10, "c")
        (await permit(breakers, "c")).fail(ServerFailed("No."))
        await client.hset(OPEN_NAME, b"\xff\xfe", await client.hget(OPEN_NAME, "c/m") or b"")
        await settled(stranger, breakers, breakers)
        assert not await client.hexists(OPEN_NAME, b"\xff\xfe")
    assert state(breakers) is CLOSED
    assert breakers.statuses()["c", "m"].state is CLOSED
    assert breakers._board._redis.calls.forged >= 2
    assert breakers._is_in_touch


async def test_calls_that_nobody_made_are_not_counted(url: str, worker: Make) -> None:
    breakers, stranger = worker(url), worker(url, key=b"x" * 32)
    await used(breakers, stranger)
    await fail(stranger, 9)
    await settled(stranger)
    async with Redis.from_url(url) as client:
        batches: Any = await client.lrange(CALLS_NAME, 0, -1)
        (batch,) = batches
        for junk in ("junk", "9" * 500, batch.replace(b" 9 9 ", b" 99 99 "), b"\xff 1 2"):
            await client.rpush(CALLS_NAME, junk)
    await fail(breakers, 1)
    await settled(breakers)
    assert state(breakers) is CLOSED
    assert breakers._board._redis.calls.forged >= 2


@pytest.mark.parametrize("how", ["twice", "of another target"])
async def test_calls_that_are_told_again_count_once_and_for_their_target(
    url: str, worker: Make, how: str
) -> None:
    first, second = worker(url), worker(url)
    await used(first, second)
    await fail(first, 5)
    await settled(first)
    async with Redis.from_url(url) as client:
        (batch,) = await client.lrange(CALLS_NAME, 0, -1)
        name = CALLS_NAME if how == "twice" else CALLS_NAME.replace("a/m", "b/m")
        for _ in range(3):
            await client.rpush(name, batch)
    target_name = "a" if how == "twice" else "b"
    await fail(second, 1, target_name)
    await settled(second)
    assert second.statuses()[target_name, "m"].state is CLOSED


async def test_an_opening_that_is_put_back_after_it_ended_or_for_another_target_is_ignored(
    url: str, worker: Make
) -> None:
    first, second = worker(url), worker(url)
    await used(first, second)
    await fail(first, 10)
    await until(lambda: state(second) is OPEN)
    async with Redis.from_url(url) as client:
        old = await client.hget(OPEN_NAME, "a/m") or b""
        await client.hset(OPEN_NAME, "b/m", old)
        await settled(second)
        assert second.statuses()["b", "m"].state is CLOSED
        first.reset("a", "m")
        await until(lambda: state(first) is state(second) is CLOSED)
        await client.hset(OPEN_NAME, "a/m", old)
        await settled(first, second)
        assert state(first) is state(second) is CLOSED
        await permit(first)
        await settled(second)
        assert not await client.hexists(OPEN_NAME, "a/m")


@pytest.mark.parametrize("era", [b"\xff\xfe", b"", b"x" * 100_000, b"g" * 32])
async def test_junk_for_the_era_of_the_board_is_replaced(
    url: str, worker: Make, era: bytes
) -> None:
    first, second = worker(url), worker(url)
    await used(first, second)
    async with Redis.from_url(url) as client:
        await client.hset(OPEN_NAME, "era", era)
    await fail(first, 10)
    await until(lambda: state(second) is OPEN)


@pytest.mark.parametrize("forgery", ["claims", "claims for ever", "proven"])
async def test_nobody_else_can_take_all_the_probes(url: str, worker: Make, forgery: str) -> None:
    breakers = worker(url, QUICK)
    await fail(breakers, 4)
    await until(lambda: state(breakers) is HALF_OPEN)
    await asyncio.sleep(0.3)
    async with Redis.from_url(url) as client:
        entry = json.loads(await client.hget(OPEN_NAME, "a/m") or "")
        now = int((await client.time())[0]) * 1000
        match forgery:
            case "claims":
                entry["claims"] = {"somebody": now + 9000}
            case "claims for ever":
                entry["claims"] = {"somebody": 1e300}
            case "proven":
                entry["proven"] = 1e9
        await client.hset(OPEN_NAME, "a/m", json.dumps(entry))
    (await permit(breakers)).succeed()
    assert state(breakers) is CLOSED


async def test_where_redis_is_away_each_process_is_alone_at_once(
    mortal: MortalRedis, worker: Make
) -> None:
    first, second = worker(mortal.url, QUICK), worker(mortal.url, QUICK)
    await used(first, second)
    mortal.kill()
    await fail(first, 4)
    assert isinstance(await first.admit(target("a")), Rejected)
    await permit(second)
    await until(lambda: state(first) is HALF_OPEN)
    probe = await permit(first)
    assert isinstance(await first.admit(target("a")), Rejected)
    probe.succeed()
    assert state(first) is CLOSED


@pytest.mark.parametrize("trouble", ["killed", "frozen"])
async def test_half_open_when_redis_goes_the_process_probes_by_itself(
    mortal: MortalRedis, worker: Make, trouble: str
) -> None:
    breakers = worker(mortal.url, QUICK)
    await fail(breakers, 4)
    await until(lambda: state(breakers) is HALF_OPEN)
    await asyncio.sleep(0.3)
    mortal.kill() if trouble == "killed" else mortal.freeze()
    asked = await asyncio.gather(*(breakers.admit(target("a")) for _ in range(50)))
    assert sum(not isinstance(each, Rejected) for each in asked) == 1


async def test_a_redis_that_is_back_empty_is_told_what_is_open(
    mortal: MortalRedis, worker: Make
) -> None:
    first, second = worker(mortal.url), worker(mortal.url)
    await used(first, second)
    await fail(first, 10)
    await until(lambda: state(second) is OPEN)
    mortal.kill()
    await until(lambda: not first._is_in_touch and not second._is_in_touch)
    mortal.start()
    await until(lambda: first._is_in_touch and second._is_in_touch, 25)
    await asyncio.sleep(0.6)
    assert state(first) is state(second) is OPEN
    third = worker(mortal.url)
    refusal = await third.admit(target("a"))
    assert isinstance(refusal, Rejected)
    (await permit(third, force=True)).succeed()
    await until(lambda: state(first) is state(second) is CLOSED, 2)


async def test_a_redis_that_was_stopped_is_used_again_and_learns_what_happened(
    mortal: MortalRedis, worker: Make
) -> None:
    first, second = worker(mortal.url), worker(mortal.url)
    await used(first, second)
    mortal.freeze()
    await until(lambda: not first._is_in_touch and not second._is_in_touch)
    began = time.monotonic()
    await fail(first, 10)
    assert time.monotonic() - began < 0.5
    assert state(first) is OPEN
    await permit(second)
    mortal.thaw()
    await until(lambda: state(second) is OPEN, 25)
    assert status(second).cause == "server_failed"


async def test_closed_while_redis_was_stopped_it_is_closed_for_all_afterwards(
    mortal: MortalRedis, worker: Make
) -> None:
    rules = BreakerRules(minimum_calls=4, open_time=2)
    first, second = worker(mortal.url, rules), worker(mortal.url, rules)
    await used(first, second)
    await fail(first, 4)
    await until(lambda: state(second) is OPEN)
    mortal.freeze()
    await until(lambda: not first._is_in_touch and not second._is_in_touch)
    await until(lambda: state(first) is HALF_OPEN)
    (await permit(first)).succeed()
    assert state(first) is CLOSED
    mortal.thaw()
    await until(lambda: state(second) is CLOSED, 25)
    assert state(first) is CLOSED


async def test_through_a_redis_that_flaps_requests_go_on_and_it_ends_shared(
    mortal: MortalRedis, worker: Make
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
    await until(lambda: first._is_in_touch and second._is_in_touch, 25)
    (await permit(second, "c")).release()
    await fail(first, 10, "c")
    await until(lambda: second.statuses()["c", "m"].state is OPEN, 2)


async def test_a_loop_that_stands_still_or_ends_is_replaced_by_the_one_that_asks(
    url: str, worker: Make
) -> None:
    breakers = worker(url)

    async def use() -> None:
        (await permit(breakers, "b")).release()

    await asyncio.to_thread(lambda: asyncio.run(use()))
    other = worker(url)
    await fail(other, 10)
    await asyncio.sleep(1)
    assert isinstance(await breakers.admit(target("a")), Rejected)
    assert breakers._keeper is not None
    assert breakers._keeper.get_loop() is asyncio.get_running_loop()


WORKER = """
import asyncio, sys
from tests.backends.test_shared_breakers import QUICK, fail, permit, state, store, target
from llm_routing.core.breaker import Rejected

async def main():
    breakers = store(sys.argv[1], QUICK)
    for line in iter(sys.stdin.readline, ""):
        match line.strip():
            case "fail":
                await fail(breakers)
                await asyncio.sleep(0.6)
            case "ask":
                asked = [await breakers.admit(target("a")) for _ in range(20)]
                permits = [each for each in asked if not isinstance(each, Rejected)]
            case "succeed":
                for each in permits:
                    each.succeed()
            case "wait":
                await asyncio.sleep(1)
            case "state":
                await breakers._converse()
        words = {"ask": len(permits)} if line.strip() == "ask" else {}
        print(words.get(line.strip(), state(breakers).value), flush=True)
    await breakers.aclose()

asyncio.run(main())
"""


def test_processes_agree(redis_url: str) -> None:
    url = with_path(redis_url, "/6")
    import redis

    with redis.Redis.from_url(url) as client:
        client.flushdb()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]

    def say(word: str) -> list[str]:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
        heard = []
        for process in processes:
            assert process.stdout is not None
            heard.append(process.stdout.readline().strip())
        return heard

    try:
        # Four workers see one failure each, and four are enough.
        say("fail")
        assert set(say("state")) <= {"open", "half_open"}
        say("wait")
        assert set(say("state")) == {"half_open"}
        assert sorted(say("ask")) == ["0", "0", "0", "1"]
        say("succeed")
        say("wait")
        assert set(say("state")) == {"closed"}
    finally:
        for process in processes:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            assert process.wait(20) == 0
            process.stdout.close()
