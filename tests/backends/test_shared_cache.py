"""Caches that processes share: one contract, over files and over a real Redis."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis

from llm_routing.backends import files
from llm_routing.backends.clock import SystemClock
from llm_routing.backends.files import FileCache, Retention
from llm_routing.backends.redis import answers as redis_backend
from llm_routing.backends.redis import guard as guarded_redis
from llm_routing.backends.redis.answers import RedisCache
from llm_routing.backends.redis.guard import GuardedRedis
from llm_routing.core.cached_answer import CachedAnswer, answer_to_json
from llm_routing.core.caching.ports import CacheHit, Lease, LeaseUnavailable, SharedCache
from llm_routing.core.types import Usage
from llm_routing.crypto.in_transit import Sealing
from tests.conftest import with_path
from tests.listening import listening

ANSWER = CachedAnswer("p", "m", '{"text":"Grüße"}'.encode(), Usage(3, 4), ("seed",))
KEY = "0" * 64
FILE_BYTES = len(answer_to_json("12", ANSWER)) + 80
"""The approximate size of a file of `ANSWER`, with time, lifetime and schema."""
Make = Callable[[], SharedCache]


class Reversed:
    """A cipher whose effect is easy to see."""

    def encrypt(self, clear_text: str, name: str) -> str:
        return clear_text[::-1]

    def decrypt(self, token: str, name: str) -> str:
        return token[::-1]


@pytest.fixture(params=["files", "redis"])
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes the view that another process has of a shared cache."""
    made: list[SharedCache] = []
    url = ""
    if request.param == "redis":
        url = with_path(request.getfixturevalue("redis_url"), "/3")
        async with Redis.from_url(url) as client:
            await client.flushdb()

    def one() -> SharedCache:
        cache: SharedCache = redis_cache(url) if url else file_cache(tmp_path / "answers")
        made.append(cache)
        return cache

    yield one
    for cache in made:
        await cache.aclose()


def leased(claimed: CacheHit | Lease | LeaseUnavailable) -> Lease:
    assert not isinstance(claimed, CacheHit | LeaseUnavailable)
    return claimed


async def test_one_process_has_the_lease_and_the_others_get_its_answer(make: Make) -> None:
    one, other = make(), make()
    lease = leased(await one.claim(KEY, 60))
    assert await other.claim(KEY, 60) is LeaseUnavailable.BUSY
    assert await one.claim(KEY, 60) is LeaseUnavailable.BUSY
    another = leased(await other.claim("1" * 64, 60))
    await lease.publish(ANSWER, 60)
    for cache in (one, other):
        found = await cache.claim(KEY, 60)
        assert isinstance(found, CacheHit)
        assert found.answer == ANSWER
        assert 0 <= found.age < 5
        assert 55 < found.ttl <= 60
    await another.release()


async def test_a_released_lease_can_be_claimed(make: Make) -> None:
    one, other = make(), make()
    await leased(await one.claim(KEY, 60)).release()
    lease = leased(await other.claim(KEY, 60))
    assert await one.claim(KEY, 60) is LeaseUnavailable.BUSY
    await lease.release()


async def test_one_process_renews_an_answer_that_is_too_old(make: Make) -> None:
    one, other = make(), make()
    await leased(await one.claim(KEY, 60)).publish(ANSWER, 60)
    await asyncio.sleep(0.02)
    lease = leased(await one.claim(KEY, 0.01))
    assert await other.claim(KEY, 0.01) is LeaseUnavailable.BUSY
    assert isinstance(await other.claim(KEY, 60), CacheHit)
    await lease.publish(ANSWER, 60)
    found = await other.claim(KEY, 60)
    assert isinstance(found, CacheHit)
    assert found.age < 5


async def test_an_answer_expires(make: Make) -> None:
    cache = make()
    await leased(await cache.claim(KEY, 60)).publish(ANSWER, 0.05)
    await asyncio.sleep(0.1)
    await leased(await cache.claim(KEY, 60)).release()


async def test_an_answer_can_be_stored_without_a_lease(make: Make) -> None:
    cache = make()
    await cache.put(KEY, ANSWER, 60)
    found = await make().claim(KEY, 60)
    assert isinstance(found, CacheHit)
    assert found.answer == ANSWER


async def test_an_answer_that_cannot_be_written_releases_the_lease(make: Make) -> None:
    cache = make()
    lease = leased(await cache.claim(KEY, 60))
    await lease.publish(CachedAnswer("p", "m", b"\xff"), 60)
    await leased(await cache.claim(KEY, 60)).release()


async def test_one_of_many_concurrent_claims_gets_the_lease(make: Make) -> None:
    caches = [make() for _ in range(8)]
    claims = await asyncio.gather(*(cache.claim(KEY, 60) for cache in caches * 20))
    leases = [claim for claim in claims if not isinstance(claim, CacheHit | LeaseUnavailable)]
    assert len(leases) == 1
    await leases[0].release()


# Files

HOLD_A_LOCK = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "answers"


def file_cache(directory: Path, retention: Retention | None = None) -> FileCache:
    return FileCache(directory, cipher=Reversed(), clock=SystemClock(), retention=retention)


async def test_the_lease_of_a_killed_process_is_released(directory: Path) -> None:
    directory.mkdir()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLD_A_LOCK,
            str(directory / KEY),
        ],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == b"locked\n"
        cache = file_cache(directory)
        assert await cache.claim(KEY, 60) is LeaseUnavailable.BUSY
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    await leased(await cache.claim(KEY, 60)).release()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff",
        b"[]",
        b"{}",
        b'{"schema":1,"stored_at":0,"ttl":"x","answer":""}',
        b'{"schema":2}',
        b'{"schema":1,"stored_at":1e18,"ttl":60,"answer":""}',
    ],
)
async def test_a_broken_file_is_a_miss(directory: Path, content: bytes) -> None:
    cache = file_cache(directory)
    directory.mkdir()
    (directory / KEY).write_bytes(content)
    await leased(await cache.claim(KEY, 60)).publish(ANSWER, 60)
    found = await cache.claim(KEY, 60)
    assert isinstance(found, CacheHit)
    assert found.answer == ANSWER


async def test_expired_files_are_removed_without_a_claim(directory: Path) -> None:
    cache = file_cache(directory, Retention(max_entries=3))
    for number in range(10):
        await leased(await cache.claim(str(number), 60)).publish(ANSWER, 0.05)
        assert len(list(directory.iterdir())) <= 3
    await leased(await cache.claim("given back", 60)).release()
    assert not (directory / "given back").exists()
    async with asyncio.timeout(30):
        while list(directory.iterdir()):
            await asyncio.sleep(0.01)


async def test_expired_files_of_ended_processes_are_removed_and_others_kept(
    directory: Path,
) -> None:
    before = file_cache(directory)
    await leased(await before.claim("fresh", 60)).publish(ANSWER, 60)
    held = leased(await before.claim("held", 60))
    (directory / "junk").write_bytes(b"left in the middle")
    file_cache(directory)
    assert {path.name for path in directory.iterdir()} == {"fresh", "held"}
    await held.release()
    await before.aclose()
    assert {path.name for path in directory.iterdir()} == {"fresh"}
    await leased(await before.claim("soon over", 60)).publish(ANSWER, 0.01)
    await asyncio.sleep(0.02)
    file_cache(directory)
    assert {path.name for path in directory.iterdir()} == {"fresh"}


async def test_an_answer_outlives_a_restart(directory: Path) -> None:
    before = file_cache(directory)
    await leased(await before.claim(KEY, 60)).publish(ANSWER, 60)
    await before.aclose()
    assert isinstance(await file_cache(directory).claim(KEY, 60), CacheHit)


@pytest.mark.parametrize(
    "retention",
    [Retention(max_entries=5), Retention(max_bytes=5 * FILE_BYTES)],
    ids=["number", "bytes"],
)
async def test_the_entries_that_expire_first_are_evicted(
    directory: Path, retention: Retention
) -> None:
    cache = file_cache(directory, retention)
    held = leased(await cache.claim("held", 60))
    for number in range(20):
        await leased(await cache.claim(str(number), 60)).publish(ANSWER, 60)
    left = {path.name for path in directory.iterdir()} - {"held"}
    assert 3 <= len(left) <= 5
    assert left == {str(number) for number in range(20 - len(left), 20)}
    await held.publish(ANSWER, 60)
    assert isinstance(await cache.claim("held", 60), CacheHit)


@pytest.mark.parametrize(
    "retention",
    [Retention(max_entries=6), Retention(max_bytes=12 * FILE_BYTES)],
    ids=["number", "bytes"],
)
async def test_an_owner_with_many_entries_does_not_evict_those_of_others(
    directory: Path, retention: Retention
) -> None:
    cache = file_cache(directory, retention)
    for number in range(2):
        await leased(await cache.claim(f"small.{number}", 60)).publish(ANSWER, 60)
    for number in range(20):
        await leased(await cache.claim(f"large.{number}", 60)).publish(ANSWER, 60)
    left = {path.name for path in directory.iterdir()}
    assert {"small.0", "small.1", "large.19"} <= left
    assert len(left) < 22


class BeforeTheReboot(SystemClock):
    """The clock of a machine that was started long ago."""

    @staticmethod
    def monotonic() -> float:
        return time.monotonic() + 10**6


async def test_files_from_before_a_reboot_are_removed(directory: Path) -> None:
    before = FileCache(directory, cipher=Reversed(), clock=BeforeTheReboot())
    await leased(await before.claim("before", 60)).publish(ANSWER, 60)
    await leased(await file_cache(directory).claim("after", 60)).publish(ANSWER, 60)
    assert {path.name for path in directory.iterdir()} == {"after"}


async def test_the_cleanup_timer_is_set_again_after_its_event_loop_ended(directory: Path) -> None:
    cache = file_cache(directory)

    def elsewhere() -> None:
        asyncio.run(cache.put("left behind", ANSWER, 0.01))

    await asyncio.to_thread(elsewhere)
    await asyncio.sleep(1.1)
    assert [path.name for path in directory.iterdir()] == ["left behind"]
    await cache.put(KEY, ANSWER, 0.01)
    async with asyncio.timeout(30):
        while list(directory.iterdir()):
            await asyncio.sleep(0.05)


async def test_files_are_readable_by_their_owner_only(directory: Path) -> None:
    cache = file_cache(directory)
    await leased(await cache.claim(KEY, 60)).publish(ANSWER, 60)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / KEY).stat().st_mode & 0o777 == 0o600


async def test_a_directory_that_cannot_be_used_is_paused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "answers").write_text("not a directory")
    cache = file_cache(tmp_path / "answers")
    for _ in range(3):
        assert await cache.claim(KEY, 60) is LeaseUnavailable.UNAVAILABLE
    await cache.put(KEY, ANSWER, 60)
    assert len(caplog.records) == 1
    assert KEY not in caplog.text


async def test_on_a_full_disk_only_the_lease_is_lost(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    cache = file_cache(directory)
    lease = leased(await cache.claim(KEY, 60))
    monkeypatch.setattr(os, "pwrite", full)
    await lease.publish(ANSWER, 60)
    assert await cache.claim(KEY, 60) is LeaseUnavailable.UNAVAILABLE
    await leased(await file_cache(directory).claim(KEY, 60)).release()


async def test_a_lease_ends_even_if_its_file_cannot_be_removed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    lease = leased(await file_cache(directory).claim(KEY, 60))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", forbidden)
        await lease.release()
    await leased(await file_cache(directory).claim(KEY, 60)).release()


# Redis


async def test_a_file_of_another_machine_on_a_shared_volume_is_a_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cipher = Sealing([b"k" * 32])

    def cache() -> FileCache:
        return FileCache(tmp_path, cipher=cipher, clock=SystemClock())

    await cache().put(KEY, ANSWER, 60)
    assert isinstance(await cache().claim(KEY, 60), CacheHit)
    monkeypatch.setattr(files, "BOOT", "another machine")
    await leased(await cache().claim(KEY, 60)).release()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator["Redis"]:
    async with Redis.from_url(with_path(redis_url, "/3")) as client:
        await client.flushdb()
        yield client


@pytest.fixture
async def cache(redis_url: str, client: "Redis") -> AsyncIterator[RedisCache]:
    cache = redis_cache(with_path(redis_url, "/3"))
    yield cache
    await cache.aclose()


def redis_cache(url: str) -> RedisCache:
    clock = SystemClock()
    return RedisCache(GuardedRedis(url, clock=clock, rng=Random(1)), cipher=Reversed(), clock=clock)


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: b"not JSON",
        lambda entry: b"\x80\x04\x95",
        lambda entry: b"[]",
        lambda entry: b'{"schema":2}',
        lambda entry: json.dumps({**entry, "schema": 1}),
        lambda entry: json.dumps({**entry, "answer": "garbage"}),
        lambda entry: json.dumps({**entry, "answer": 7}),
        lambda entry: json.dumps({"ttl_ms": entry["ttl_ms"]}),
        lambda entry: json.dumps({**entry, "answer": entry["answer"].replace("0" * 64, "1" * 64)}),
    ],
)
async def test_a_wrong_or_old_entry_is_a_miss_and_is_overwritten(
    cache: RedisCache, client: "Redis", change: Callable[[Any], Any]
) -> None:
    await cache.put(KEY, ANSWER, 60)
    (name,) = await client.keys()
    await client.set(name, change(json.loads(await client.get(name) or b"")), ex=60)
    await leased(await cache.claim(KEY, 60)).publish(ANSWER, 60)
    found = await cache.claim(KEY, 60)
    assert isinstance(found, CacheHit)
    assert found.answer == ANSWER


class AtAnotherTime(SystemClock):
    """A clock that is off by some seconds."""

    def __init__(self, seconds: float) -> None:
        self._off = timedelta(seconds=seconds)

    def now(self) -> datetime:
        return super().now() + self._off


def sealed_cache(url: str, kind: str = "answer", seconds: float = 0.0) -> RedisCache:
    guarded = GuardedRedis(url, clock=SystemClock(), rng=Random(1))
    cipher = Sealing([b"k" * 32])
    return RedisCache(guarded, cipher=cipher, clock=AtAnotherTime(seconds), kind=kind)


@pytest.mark.parametrize(
    ("seconds", "is_served"), [(0, True), (-200, True), (-401, False), (301, False)]
)
async def test_an_entry_restored_after_its_time_is_a_miss(
    redis_url: str, client: "Redis", seconds: float, is_served: bool
) -> None:
    url = with_path(redis_url, "/3")
    await put(sealed_cache(url, seconds=seconds), KEY, 100)
    (name,) = await client.keys()
    # As new as Redis knows; only the seal remembers the moment.
    await client.pexpire(name, 100_000)
    cache = sealed_cache(url)
    claimed = await cache.claim(KEY, 100)
    assert isinstance(claimed, CacheHit) is is_served
    if not isinstance(claimed, CacheHit):
        await leased(claimed).release()
    await cache.aclose()


async def test_an_entry_with_another_key_or_lifetime_is_a_miss(
    redis_url: str, client: "Redis"
) -> None:
    url = with_path(redis_url, "/3")
    await put(sealed_cache(url), KEY, 60)
    (name,) = await client.keys()
    value = await client.get(name)
    assert isinstance(name, bytes)
    assert isinstance(value, bytes)
    lasting = json.dumps({**json.loads(value), "ttl_ms": 600_000})
    other = name.decode().replace("0" * 64, "1" * 64)
    for kind, key, place, forged in (
        ("answer", "1" * 64, other, value),
        ("replay", KEY, name.decode().replace("answer", "replay"), value),
        ("answer", KEY, name.decode(), lasting),
    ):
        await client.set(place, forged, ex=60)
        cache = sealed_cache(url, kind)
        await leased(await cache.claim(key, 60)).release()
        await cache.aclose()


async def test_a_foreign_lease_without_end_is_taken_over(
    cache: RedisCache, client: "Redis"
) -> None:
    lease = leased(await cache.claim(KEY, 60))
    (name,) = await client.keys()
    assert await cache.claim(KEY, 60) is LeaseUnavailable.BUSY
    for forever in (None, 3600):
        await client.set(name, "somebody", ex=forever)
        await leased(await cache.claim(KEY, 60)).release()
    await lease.release()


async def put(cache: RedisCache, key: str, ttl: float) -> None:
    await cache.put(key, ANSWER, ttl)
    await cache.aclose()


async def test_every_key_in_redis_expires(cache: RedisCache, client: "Redis") -> None:
    await cache.put(KEY, ANSWER, 60)
    lease = leased(await cache.claim("1" * 64, 60))
    lives = [await client.pttl(name) for name in await client.keys()]
    assert len(lives) == 2
    assert all(0 < life <= 60_000 for life in lives)
    await lease.release()


async def test_a_lease_lives_as_long_as_its_holder_and_no_longer(
    cache: RedisCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_backend, "LEASE_SECONDS", 0.3)
    lease = leased(await cache.claim(KEY, 60))
    for _ in range(6):
        await asyncio.sleep(0.15)
        assert await cache.claim(KEY, 60) is LeaseUnavailable.BUSY
    assert isinstance(lease, redis_backend.RedisLease)
    lease.stop_renewing()  # as if its process had died
    async with asyncio.timeout(30):
        while (claimed := await cache.claim(KEY, 60)) is LeaseUnavailable.BUSY:
            await asyncio.sleep(0.05)
    # It can no longer release the lease of another process. Its answer is as good as any.
    await lease.release()
    assert await cache.claim(KEY, 60) is LeaseUnavailable.BUSY
    await lease.publish(ANSWER, 60)
    assert await cache.claim(KEY, 0) is LeaseUnavailable.BUSY
    await leased(claimed).release()


async def test_each_event_loop_has_a_client_of_its_own(redis_url: str, client: "Redis") -> None:
    shared = redis_cache(with_path(redis_url, "/3"))

    async def put_and_find(key: str) -> bool:
        await shared.put(key, ANSWER, 60)
        found = await shared.claim(key, 60)
        await shared.aclose()
        return isinstance(found, CacheHit)

    def elsewhere() -> bool:
        return asyncio.run(put_and_find("1" * 64))

    here, there = await asyncio.gather(put_and_find(KEY), asyncio.to_thread(elsewhere))
    assert here
    assert there


async def test_a_redis_that_refuses_connections_is_paused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"redis://:hunter2@127.0.0.1:{closed.getsockname()[1]}/0"
        cache = redis_cache(url)
        for _ in range(50):
            assert await cache.claim(KEY, 60) is LeaseUnavailable.UNAVAILABLE
        await cache.put(KEY, ANSWER, 60)
        await cache.aclose()
    assert len(caplog.records) == 1
    assert KEY not in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_redis_that_hangs_delays_one_call() -> None:
    asked = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.read()

    async with listening(silent) as port:
        cache = redis_cache(f"redis://127.0.0.1:{port}/0")
        for _ in range(50):
            assert await cache.claim(KEY, 60) is LeaseUnavailable.UNAVAILABLE
        assert asked == 1
        await cache.aclose()


async def test_a_redis_that_is_back_is_used_again(
    redis_url: str, client: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded_redis, "RULES", replace(guarded_redis.RULES, open_time=0.05))
    cache = redis_cache(with_path(redis_url, "/3"))
    await cache.put(KEY, ANSWER, 60)
    with monkeypatch.context() as broken:
        broken.setattr(redis_backend, "CLAIM", "this is no script")
        assert await cache.claim(KEY, 60) is LeaseUnavailable.UNAVAILABLE
    assert await cache.claim(KEY, 60) is LeaseUnavailable.UNAVAILABLE
    await asyncio.sleep(0.07)
    assert isinstance(await cache.claim(KEY, 60), CacheHit)
    await cache.aclose()


async def test_cached_answers_survive_the_loss_of_our_scripts(
    cache: RedisCache, client: "Redis"
) -> None:
    await cache.put(KEY, ANSWER, 60)
    await client.script_flush()
    assert isinstance(await cache.claim(KEY, 60), CacheHit)


async def test_a_stall_of_our_own_loop_is_not_blamed_on_redis(cache: RedisCache) -> None:
    await cache.put(KEY, ANSWER, 60)

    async def stall() -> None:
        await asyncio.sleep(0)
        time.sleep(0.15)

    found, _ = await asyncio.gather(cache.claim(KEY, 60), stall())
    assert isinstance(found, CacheHit)
