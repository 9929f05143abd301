"""The entries of circuit breakers in a real Redis, and entries that another program wrote."""

import asyncio
import json

import pytest
from redis.asyncio import Redis

from llm_routing.core.breaker import Rejected
from tests.core.fakes import target

from .workers import (
    CLOSED,
    DECISIONS,
    OPEN,
    WAIT_SECONDS,
    Workers,
    fail,
    half_open,
    is_refused,
    permit,
    state,
    sync,
    until_all,
    use,
)


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
