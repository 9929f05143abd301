"""Processes beside this one: seen when they come, forgotten when they have gone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llm_routing.backends import neighbours as module
from llm_routing.backends.clock import SystemClock
from llm_routing.backends.files import HAND_OVER, FileCache
from llm_routing.backends.neighbours import ForNeighbours, Neighbours
from llm_routing.core.caching.rules import CachedAnswer
from llm_routing.core.ports import Found, NoLease

STAY = """
import sys, time
from pathlib import Path
from llm_routing.backends.clock import SystemClock
from llm_routing.backends.neighbours import Neighbours
there = Neighbours(Path(sys.argv[1]), SystemClock())
print("here", flush=True)
time.sleep(60)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "processes"


def test_who_is_alone_sees_the_next_one_at_once_and_forgets_it_when_it_leaves(
    directory: Path,
) -> None:
    first = Neighbours(directory, SystemClock())
    assert not first.are_there()
    second = Neighbours(directory, SystemClock())
    assert first.are_there()
    assert second.are_there()
    second.leave()
    assert not first.are_there()


def test_nobody_is_missed_who_comes_within_the_same_tick(
    directory: Path,
) -> None:
    first = Neighbours(directory, SystemClock())
    assert not first.are_there()
    changed = directory.stat()
    second = Neighbours(directory, SystemClock())
    os.utime(directory, ns=(changed.st_atime_ns, changed.st_mtime_ns))
    assert first.are_there()
    second.leave()


def test_a_process_that_was_killed_is_forgotten(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    here = Neighbours(directory, SystemClock())
    command = [sys.executable, "-c", STAY, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"here\n"
        assert here.are_there()
        other.send_signal(signal.SIGKILL)
    assert not here.are_there()
    assert len(list(directory.iterdir())) == 1


def test_where_nobody_can_be_seen_somebody_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    assert Neighbours(tmp_path / "file" / "processes", SystemClock()).are_there()


def test_who_has_left_does_not_know_whether_anybody_is_there(directory: Path) -> None:
    here = Neighbours(directory, SystemClock())
    here.leave()
    assert here.are_there()
    assert not list(directory.iterdir())


class Plain:
    """A cipher that hides nothing."""

    def encrypt(self, text: str, name: str) -> str:
        return text

    def decrypt(self, text: str, name: str) -> str:
        return text


async def test_who_was_waited_for_may_leave_an_answer_and_go(
    directory: Path, tmp_path: Path
) -> None:
    clock = SystemClock()

    def shared() -> ForNeighbours:
        answers = FileCache(tmp_path / "answers", HAND_OVER, cipher=Plain(), clock=clock)
        return ForNeighbours(answers, Neighbours(directory, clock), clock)

    one, other = shared(), shared()
    lease = await one.claim("key", 60)
    assert not isinstance(lease, Found | NoLease)
    assert await other.claim("key", 60) is NoLease.BUSY
    await lease.publish(CachedAnswer("p", "m", b"{}"), 60)
    await one.aclose()
    assert isinstance(await other.claim("key", 60), Found)


async def test_who_waited_for_nobody_and_is_alone_leaves_the_others_alone(
    directory: Path, tmp_path: Path
) -> None:
    clock = SystemClock()
    answers = FileCache(tmp_path / "answers", HAND_OVER, cipher=Plain(), clock=clock)
    alone = ForNeighbours(answers, Neighbours(directory, clock), clock)
    assert await alone.claim("key", 60) is NoLease.UNAVAILABLE
