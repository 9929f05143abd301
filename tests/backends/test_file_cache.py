"""Answers that processes share through files: cleanup, eviction, permissions and failing disks."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llm_routing.backends import files
from llm_routing.backends.clock import SystemClock
from llm_routing.backends.files import FileCache, Retention
from llm_routing.core.cached_answer import answer_to_json
from llm_routing.core.caching.ports import CacheHit, LeaseUnavailable
from llm_routing.crypto.in_transit import Sealing

from .shared_caches import ANSWER, KEY, Reversed, file_cache, leased

FILE_BYTES = len(answer_to_json("12", ANSWER)) + 80
"""The approximate size of a file of `ANSWER`, with time, lifetime and schema."""

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
    async with asyncio.timeout(90):
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


async def test_the_cleanup_timer_is_set_again_after_its_event_loop_ended(directory: Path) -> None:
    cache = file_cache(directory)

    def elsewhere() -> None:
        asyncio.run(cache.put("left behind", ANSWER, 0.01))

    await asyncio.to_thread(elsewhere)
    await asyncio.sleep(1.1)
    assert [path.name for path in directory.iterdir()] == ["left behind"]
    await cache.put(KEY, ANSWER, 0.01)
    async with asyncio.timeout(90):
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
