"""Locked files tell whether the process that owns them is alive."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_routing.system.locked_files import (
    create_locked,
    is_owner_alive,
    lock_file,
    open_if_abandoned,
    remove_if_abandoned,
)

OWN_A_FILE = """
import sys
from pathlib import Path
from llm_routing.system.locked_files import create_locked
create_locked(Path(sys.argv[1]), size=10)
print("created", flush=True)
sys.stdin.read()
"""

TAKE_TURNS = """
import os, time
from pathlib import Path
from llm_routing.system.locked_files import lock_file
turns = 0
while turns < 200:
    with lock_file(Path({path!r})) as is_locked:
        if is_locked:
            os.close(os.open({inside!r}, os.O_CREAT | os.O_EXCL))
            os.unlink({inside!r})
            turns += 1
    time.sleep(0)
"""


def test_the_owner_counts_as_alive_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with subprocess.Popen(
        [sys.executable, "-c", OWN_A_FILE, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "created\n"
        assert is_owner_alive(path)
        assert open_if_abandoned(path) is None
        remove_if_abandoned(path)
        assert path.exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not is_owner_alive(path)
    descriptor = open_if_abandoned(path)
    assert descriptor is not None
    assert is_owner_alive(path), "whoever opened it owns it now"
    os.close(descriptor)
    remove_if_abandoned(path)
    assert not path.exists()


def test_a_new_file_has_its_size_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "file"
    os.close(create_locked(path, size=4096))
    assert path.stat().st_size == 4096
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_creation_removes_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        create_locked(tmp_path / "file", size=10)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_has_no_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert not is_owner_alive(path)
    assert open_if_abandoned(path) is None
    remove_if_abandoned(path)


def remove_after_opening(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has every file that is opened remove `path`, as another process could before the lock."""
    open_file = os.open

    def opened_then_removed(*arguments: Any) -> int:
        descriptor = open_file(*arguments)
        path.unlink()
        return descriptor

    monkeypatch.setattr(os, "open", opened_then_removed)


def test_a_file_removed_before_it_is_locked_is_not_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.touch()
    remove_after_opening(path, monkeypatch)
    assert open_if_abandoned(path) is None


def test_a_lock_file_has_one_holder_and_is_removed_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock_file(path) as first:
        with lock_file(path) as second:
            assert (first, second) == (True, False)
        assert path.exists(), "who did not get the lock removes nothing"
    assert not path.exists()
    with lock_file(path) as again:
        assert again
    assert not path.exists()


def test_a_lock_file_that_its_holder_has_just_removed_is_not_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes would hold locks on two files of one name."""
    path = tmp_path / "lock"
    remove_after_opening(path, monkeypatch)
    with lock_file(path) as is_locked:
        assert not is_locked


def test_processes_that_take_turns_are_never_inside_together(tmp_path: Path) -> None:
    program = TAKE_TURNS.format(path=str(tmp_path / "lock"), inside=str(tmp_path / "inside"))
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    assert list(tmp_path.iterdir()) == []
