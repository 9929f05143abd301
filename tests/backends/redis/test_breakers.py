"""Breakers that workers share through a real Redis; each `worker` stands for a process."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
import redis
from redis.asyncio import Redis

from llm_routing.backends.clock import SystemClock
from llm_routing.backends.redis import breakers as shared_breakers
from llm_routing.backends.redis.breaker_board import BreakerBoard
from llm_routing.backends.redis.breakers import SharedBreakers
from llm_routing.backends.redis.guard import GuardedRedis
from llm_routing.core.breaker import BreakerRules, BreakerState, BreakerStatus, Rejected
from llm_routing.core.errors import ServerFailed
from llm_routing.core.ports import Clock, Permit
from llm_routing.crypto.in_transit import Signing
from project.processes import ROOT
from tests.conftest import with_path
from tests.core.fakes import target

from .servers import MortalRedis

RULES = BreakerRules(minimum_calls=10, open_time=60)
QUICK = BreakerRules(minimum_calls=4, open_time=0.5, max_open_time=60)
WAIT_SECONDS = 30.0
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


@pytest.fixture
async def url(redis_url: str) -> str:
    """A Redis database of this test alone."""
    url = with_path(redis_url, "/6")
    async with Redis.from_url(url) as client:
        await client.flushdb()
    return url


@pytest.fixture
async def client(url: str) -> AsyncIterator["Redis"]:
    async with Redis.from_url(url) as client:
        yield client


@pytest.fixture
async def worker() -> AsyncIterator[Workers]:
    workers = Workers()
    yield workers
    for breakers in workers.redis:
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


# Decisions


async def test_a_breaker_that_opens_in_one_worker_opens_in_all(url: str, worker: Workers) -> None:
    first, *others = [worker(url) for _ in range(4)]
    await use(first, *others)
    await fail(first, 10)
    await until_all(others, OPEN)
    for breakers in others:
        refusal = await breakers.admit(target("a"))
        assert isinstance(refusal, Rejected)
        assert refusal.cause == "server_failed"
        assert status(breakers).retry_after == pytest.approx(status(first).retry_after, abs=0.5)
        assert status(breakers).opened_for == pytest.approx(status(first).opened_for, abs=0.5)


async def test_no_request_is_decided_by_what_was_known_a_second_ago(
    url: str, worker: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the background task is late, the request itself asks Redis first."""
    monkeypatch.setattr(shared_breakers, "SYNC_SECONDS", 1000.0)
    clock = ShiftedClock()
    first, late = worker(url), worker(url, clock=clock)
    await use(late)
    await fail(first, 10)
    await sync(first)
    assert not await is_refused(late)
    clock.seconds = 1.0
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


# Probes


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
    first, second = await half_open(url, worker, BreakerRules(minimum_calls=4, open_time=2))
    (await permit(second)).fail(ServerFailed("No."))
    assert 2 < status(second).retry_after <= 4.8
    await until_all([first], OPEN)
    assert status(first).retry_after == pytest.approx(status(second).retry_after, abs=0.5)


async def test_after_a_cancelled_probe_another_worker_can_probe(url: str, worker: Workers) -> None:
    first, second = await half_open(url, worker)
    probe = await permit(first)
    assert await is_refused(second)
    probe.release()
    await sync(first)
    await until_probed(second)
    await until_all([first], CLOSED)


async def until_probed(breakers: SharedBreakers) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while isinstance(probe := await breakers.admit(target("a")), Rejected):
            await asyncio.sleep(0.05)
    probe.succeed()


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


# Cost


async def test_no_request_waits_for_redis_and_an_idle_process_leaves_it_alone(
    url: str, worker: Workers, client: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_breakers, "IDLE_SECONDS", 0.5)
    breakers = worker(url)
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
    async with asyncio.timeout(WAIT_SECONDS):
        count = -1
        while count != (count := await commands()):
            await asyncio.sleep(1)


async def test_everything_in_redis_expires_and_holds_no_secret(
    url: str, worker: Workers, client: "Redis"
) -> None:
    first, _ = await half_open(url, worker)
    await permit(first)
    names = sorted([name.decode() async for name in client.scan_iter()])
    assert [name.rpartition(":")[0] for name in names] == [
        DECISIONS.rpartition(":")[0],
        "llm_routing:breaker:{test}:probe:a/m",
    ]
    for name in names:
        assert 0 < await client.pttl(name) <= (3600 + 60) * 1000
    signed = await client.hget(DECISIONS, "a/m")
    assert isinstance(signed, bytes)
    signature, _, text = signed.decode().partition(" ")
    assert len(signature) == 32
    fields = {"version", "cause", "level", "proven", "since", "retry_at"}
    assert set(json.loads(text)) == fields


# A Redis that others write to


@pytest.mark.parametrize("junk", [b"not JSON", b"", b"{}", b"s {}", b"\xff", b"x" * 2_000_000])
async def test_a_broken_entry_is_ignored_and_removed(
    url: str, worker: Workers, client: "Redis", junk: bytes
) -> None:
    breakers = worker(url)
    await client.hset(DECISIONS, "a/m", junk)
    await client.hset(DECISIONS, b"\xff\xfe", junk)
    await permit(breakers)
    await sync(breakers, breakers)
    assert await client.hlen(DECISIONS) == 0
    assert worker.refused_values(breakers) == 2
    await fail(breakers, 10)
    await sync(breakers)
    assert state(breakers) is OPEN
    assert await is_refused(worker(url))


async def test_a_board_that_others_have_filled_is_made_anew(
    url: str, worker: Workers, client: "Redis"
) -> None:
    breakers = worker(url)
    await fail(breakers, 10)
    await sync(breakers)
    for number in range(9):
        await client.hset(DECISIONS, f"junk/{number}", b"x" * 1024 * 1024)
    # Redis may take longer than a call is given, and is left alone for a moment then.
    async with asyncio.timeout(WAIT_SECONDS):
        while await client.hkeys(DECISIONS) != [b"a/m"]:
            await asyncio.sleep(0.1)


async def test_a_decision_with_another_key_or_name_opens_no_breaker(
    url: str, worker: Workers, client: "Redis"
) -> None:
    breakers, stranger = worker(url), worker(url, key=b"x" * 32)
    await use(breakers, stranger)
    await fail(stranger, 10)
    await sync(stranger, breakers, breakers)
    assert state(breakers) is CLOSED
    assert worker.refused_values(breakers) >= 1
    other = worker(url)
    await fail(other, 10, "c")
    await sync(other)
    await client.hset(DECISIONS, "d/m", await client.hget(DECISIONS, "c/m") or b"")
    await sync(breakers)
    assert state(breakers, ("c", "m")) is OPEN
    assert state(breakers, ("d", "m")) is CLOSED


@pytest.mark.parametrize("forgery", ["value", "lifetime"])
async def test_nobody_else_can_take_the_probe(
    url: str, worker: Workers, client: "Redis", forgery: str
) -> None:
    first, second = await half_open(url, worker)
    probe = await permit(first)
    (name,) = await client.keys("*:probe:*")
    if forgery == "value":
        await client.set(name, "somebody", ex=5)
    else:
        await client.persist(name)
    taken = await second.admit(target("a"))
    assert not isinstance(taken, Rejected)
    assert worker.refused_values(second) == 1
    taken.succeed()
    probe.succeed()
    await until_all([first, second], CLOSED)


# Without Redis


async def test_without_redis_each_worker_has_its_own_breakers_at_once(
    mortal: MortalRedis, worker: Workers
) -> None:
    first, second = worker(mortal.url, QUICK), worker(mortal.url, QUICK)
    await use(first, second)
    mortal.kill()
    await fail(first, 4)
    assert await is_refused(first)
    await permit(second)
    await until_all([first], HALF_OPEN)
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
    rules = BreakerRules(minimum_calls=4, open_time=2)
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


# Processes

WORKER = """
import asyncio, sys
from tests.backends.redis.test_breakers import (
    QUICK, Rejected, Workers, fail, state, sync, target, use
)

async def main():
    breakers, permits = Workers()(sys.argv[1], QUICK), []
    for line in iter(sys.stdin.readline, ""):
        match line.strip():
            case "use":
                await use(breakers)
            case "fail":
                await fail(breakers, 4)
                await sync(breakers)
            case "probe":
                asked = [await breakers.admit(target("a")) for _ in range(20)]
                permits = [each for each in asked if not isinstance(each, Rejected)]
            case "succeed":
                for each in permits:
                    each.succeed()
                await sync(breakers)
            case "sync":
                await sync(breakers)
        print(state(breakers).value, len(permits), flush=True)
    await breakers.aclose()

asyncio.run(main())
"""
Process = subprocess.Popen[str]


@contextmanager
def processes(url: str, count: int) -> Iterator[list[Process]]:
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, url], cwd=ROOT, stdin=pipe, stdout=pipe, text=True
        )
        for _ in range(count)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def tell(process: Process, command: str) -> list[str]:
    """Returns the state of the process's breaker, and how many permits it has."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{command}\n")
    process.stdin.flush()
    return process.stdout.readline().split()


def test_processes_agree(url: str) -> None:
    with processes(url, 4) as started:
        for process in started:
            tell(process, "use")
        tell(started[0], "fail")
        deadline = time.monotonic() + WAIT_SECONDS
        while {tell(process, "sync")[0] for process in started} != {"half_open"}:
            assert time.monotonic() < deadline
        assert sorted(tell(process, "probe")[1] for process in started) == ["0", "0", "0", "1"]
        for process in started:
            tell(process, "succeed")
        assert {tell(process, "sync")[0] for process in started} == {"closed"}


async def test_if_a_process_dies_while_it_probes_another_one_can_probe(
    url: str, worker: Workers
) -> None:
    with processes(url, 1) as (process,):
        tell(process, "fail")
        while tell(process, "probe")[1] == "0":
            await asyncio.sleep(0.05)
        breakers = worker(url, QUICK)
        assert await is_refused(breakers)
        process.kill()
        process.wait()
    with redis.Redis.from_url(url) as client:
        (name,) = client.keys("*:probe:*")
        assert 0 < int(client.pttl(name)) <= 10_000
    await until_probed(breakers)
    await until_all([breakers], CLOSED)
