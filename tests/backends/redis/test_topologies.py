"""A Redis Cluster, and a master that Sentinels name, with real servers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from llm_routing.backends.clock import SystemClock
from llm_routing.backends.redis.answers import RedisCache, RedisLease
from llm_routing.backends.redis.breaker_board import BreakerBoard
from llm_routing.backends.redis.breakers import SharedBreakers
from llm_routing.backends.redis.guard import GuardedRedis, RedisCalls, RedisUnavailable
from llm_routing.backends.redis.trouble import RedisTrouble
from llm_routing.core.breaker import BreakerRules, Rejected
from llm_routing.core.cached_answer import CachedAnswer
from llm_routing.core.caching.ports import CacheHit
from llm_routing.core.errors import ServerFailed
from llm_routing.crypto.in_transit import Sealing, Signing
from llm_routing.system.redis_address import RedisKind, parse_redis_url
from project.processes import free_port
from tests.core.fakes import target

from .servers import MortalRedis, Watched, cluster, command, watched

ANSWER = CachedAnswer("p", "m", b"{}")
WAIT_SECONDS = 60


@pytest.fixture(scope="module")
def nodes(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[MortalRedis]]:
    with cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
def sentinels(redis_url: str, tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path) as servers:
        yield servers


@pytest.fixture
async def opened() -> AsyncIterator[list[GuardedRedis]]:
    made: list[GuardedRedis] = []
    yield made
    for redis in made:
        await redis.aclose()


def guarded(url: str, opened: list[GuardedRedis]) -> GuardedRedis:
    opened.append(GuardedRedis(url, clock=SystemClock(), rng=Random(1)))
    return opened[-1]


def cache(redis: GuardedRedis) -> RedisCache:
    return RedisCache(redis, cipher=Sealing([b"k" * 32]), clock=SystemClock())


def cluster_url(nodes: list[MortalRedis]) -> str:
    # A node that is gone, and one that is there.
    return f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{nodes[1].port}"


async def until_it_answers(redis: GuardedRedis) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                await redis.run("return redis.call('SET', KEYS[1], 'x')", ["{warm}"], [])
                return
            except RedisUnavailable:
                await asyncio.sleep(0.1)


async def store(cache: RedisCache, key: str) -> bool:
    claimed = await cache.claim(key, 60)
    if isinstance(claimed, RedisLease):
        await claimed.publish(ANSWER, 60)
    return isinstance(await cache.claim(key, 60), CacheHit)


async def test_answers_and_breakers_are_shared_through_a_cluster(
    nodes: list[MortalRedis], opened: list[GuardedRedis]
) -> None:
    redis = guarded(cluster_url(nodes), opened)
    await until_it_answers(redis)
    stored = [await store(cache(redis), f"{number:064}") for number in range(60)]
    assert all(stored)
    assert all(command(node, "DBSIZE") != b"0" for node in nodes), "every node has its share"
    rules = BreakerRules(minimum_calls=4, open_time=60)
    workers = [
        SharedBreakers(
            rules,
            SystemClock(),
            Random(2),
            board=BreakerBoard(
                redis, rules, "test", signer=Signing([b"k" * 32]), clock=SystemClock()
            ),
        )
        for _ in range(2)
    ]
    for number in range(4):
        permit = await workers[0].admit(target("a"))
        assert not isinstance(permit, Rejected), number
        permit.fail(ServerFailed("No."))
    await workers[0].sync()
    assert isinstance(await workers[1].admit(target("a")), Rejected)
    for worker in workers:
        await worker.aclose()


async def test_a_slot_that_moves_to_another_node_is_followed(
    nodes: list[MortalRedis], opened: list[GuardedRedis]
) -> None:
    redis = guarded(cluster_url(nodes), opened)
    await until_it_answers(redis)
    key = "a" * 64
    assert await store(cache(redis), key)
    failed = redis.calls.failed
    slot = int(command(nodes[0], "CLUSTER", "KEYSLOT", key))
    owner = next(n for n in nodes if key.encode() in command(n, "KEYS", f"*{key}*"))
    other = next(node for node in nodes if node is not owner)
    names = {node.port: command(node, "CLUSTER", "MYID").decode() for node in nodes}
    command(other, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[owner.port])
    command(owner, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[other.port])
    name = f"llm_routing:answer:{{{key}}}"
    command(owner, "MIGRATE", "127.0.0.1", other.port, name, 0, 5000)
    # On its way the slot is the first node's, and this name the other's (ASK).
    assert await redis.run("return redis.call('EXISTS', KEYS[1])", [name], []) == 1
    for node in (other, owner, *nodes):
        command(node, "CLUSTER", "SETSLOT", slot, "NODE", names[other.port])
    assert isinstance(await cache(redis).claim(key, 60), CacheHit)
    assert redis.calls.failed == failed


async def test_a_cluster_node_under_a_plain_url_is_reported_as_such(
    nodes: list[MortalRedis], opened: list[GuardedRedis], caplog: pytest.LogCaptureFixture
) -> None:
    redis = guarded(nodes[0].url, opened)
    for number in range(40):
        await store(cache(redis), f"{number:064}")
    assert RedisTrouble.CLUSTER in redis.calls.reasons
    assert "write REDIS_URL as redis+cluster://" in caplog.text


async def test_under_load_a_failover_costs_no_request_and_the_new_master_is_used(
    sentinels: Watched, opened: list[GuardedRedis], caplog: pytest.LogCaptureFixture
) -> None:
    redis = guarded(sentinels.url, opened)
    await until_it_answers(redis)
    shared = cache(redis)
    assert await store(shared, "0" * 64)
    is_over = False
    requests = 0

    async def load(worker: int) -> None:
        nonlocal requests
        while not is_over:
            # Whatever Redis is up to: an answer, a lease or neither, and never an error.
            claimed = await shared.claim(f"{worker:02}{requests:062}", 60)
            if isinstance(claimed, RedisLease):
                await claimed.publish(ANSWER, 60)
            requests += 1
            await asyncio.sleep(0.005)

    workers = [asyncio.create_task(load(worker)) for worker in range(10)]
    await asyncio.sleep(0.3)
    sentinels.master.kill()
    async with asyncio.timeout(WAIT_SECONDS), Redis(port=sentinels.replica.port) as client:
        while (await client.info("replication"))["role"] != "master":
            await asyncio.sleep(0.1)
        before = await client.dbsize()
        while await client.dbsize() < before + 50:
            await asyncio.sleep(0.1)
    is_over = True
    await asyncio.gather(*workers)
    assert await store(shared, "1" * 64)
    assert redis.calls.failed
    assert "Redis is used again" in caplog.text


def _fails_over(sentinels: Watched) -> bool:
    """Has the Sentinel begin a failover, for which it has to know its replica well."""
    try:
        command(sentinels.sentinel, "SENTINEL", "FAILOVER", "cache")
    except ResponseError:
        return False
    return True


async def test_calls_move_to_the_new_master_after_a_failover(
    sentinels: Watched, opened: list[GuardedRedis]
) -> None:
    redis = guarded(sentinels.url, opened)
    await until_it_answers(redis)
    # It keeps its connections, and refuses writes from now on.
    async with asyncio.timeout(WAIT_SECONDS):
        while not _fails_over(sentinels):
            await asyncio.sleep(0.1)
    async with asyncio.timeout(WAIT_SECONDS), Redis(port=sentinels.replica.port) as client:
        while (await client.info("replication"))["role"] != "master":
            await asyncio.sleep(0.1)
    # The old one takes writes until it is told.
    async with asyncio.timeout(WAIT_SECONDS), Redis(port=sentinels.replica.port) as client:
        number = 0
        while not await client.exists(f"llm_routing:answer:{{{number:064}}}"):
            number += 1
            await store(cache(redis), f"{number:064}")
            await asyncio.sleep(0.1)


async def test_sentinels_without_the_master_are_reported_as_the_reason(
    sentinels: Watched, opened: list[GuardedRedis], caplog: pytest.LogCaptureFixture
) -> None:
    redis = guarded(sentinels.url.replace("/cache/", "/other/"), opened)
    assert not await store(cache(redis), "0" * 64)
    assert redis.calls.reasons == {RedisTrouble.NO_MASTER: 1}
    assert "none knows a master of that name" in caplog.text
    assert redis.calls == RedisCalls(failed=1, skipped=1, is_paused=True)


def test_urls_hold_hosts_service_database_and_users() -> None:
    found = parse_redis_url(
        "rediss+sentinel://ann:p%40ss@one,[::1]:7000/cache/3"
        "?sentinel_password=s&ssl_ca_certs=/ca.pem"
    )
    assert found.kind is RedisKind.SENTINEL
    assert found.hosts == (("one", 26379), ("::1", 7000))
    assert (found.service, found.options["db"]) == ("cache", 3)
    assert (found.options["username"], found.options["password"]) == ("ann", "p@ss")
    assert found.sentinel_options == {"password": "s"}
    assert "p@ss" not in repr(found)
    found = parse_redis_url("redis+cluster://:secret@one,two:7001")
    assert (found.kind, found.hosts) == (RedisKind.CLUSTER, (("one", 6379), ("two", 7001)))


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://one/1",
        "redis+cluster://one/a",
        "redis+cluster://,",
        "redis+sentinel://one",
        "redis+sentinel://one/cache/x",
        "redis+sentinel://one/cache/0/1",
        "redis+sentinel://one:port/cache",
        "redis+sentinel://one/cache?sentinel_nonsense=1",
        "redis+other://one",
        "http+cluster://one",
    ],
)
def test_an_invalid_url_of_a_cluster_or_master_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        parse_redis_url(url)
