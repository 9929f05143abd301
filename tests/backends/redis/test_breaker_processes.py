"""Breakers that real processes share through a real Redis."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from project.processes import ROOT

from .workers import CLOSED, QUICK, WAIT_SECONDS, Workers, is_refused, until_all, until_probed

WORKER = """
import asyncio, sys
from llm_routing.core.breaker import Rejected
from tests.backends.redis.workers import QUICK, Workers, fail, state, sync, use
from tests.core.fakes import target

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
