"""Files that are locked by the process that owns them, so that others can see whether it is alive.

The kernel releases a lock (`flock`) when its holder ends, however that happens. Permissions and
atomic replacement of files are in `private_files`.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import disk_space

UNFINISHED = ".new"
"""The suffix of a file that its owner has not finished creating."""

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


def create_locked(path: Path, *, size: int = 0, flags: int = 0) -> int:
    """Creates a file at `path` that this process owns, and returns its descriptor. Closing it
    releases the lock.

    `size` bytes of disk space are reserved for it; `flags` are more flags for `os.open`. Until it
    is ready the file has the suffix `UNFINISHED`, so no other process finds it unlocked. Raises
    `OSError`.
    """
    unfinished = path.with_suffix(UNFINISHED)
    descriptor = os.open(unfinished, _FLAGS | os.O_CREAT | os.O_EXCL | flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if size:
            disk_space.reserve(descriptor, size)
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return descriptor


def open_if_abandoned(path: Path) -> int | None:
    """Locks the file at `path` if no process holds it, and returns its descriptor. Returns None if
    it is held or was removed. Raises `OSError`."""
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        return None
    is_ours = False
    try:
        # Without a link it was removed between the open and the lock.
        is_ours = try_lock(descriptor) and os.fstat(descriptor).st_nlink > 0
    finally:
        if not is_ours:
            os.close(descriptor)
    return descriptor if is_ours else None


def remove_if_abandoned(path: Path) -> None:
    """Removes the file at `path` unless a process holds it or it cannot be removed."""
    with suppress(OSError):
        descriptor = open_if_abandoned(path)
        if descriptor is not None:
            try:
                path.unlink()
            finally:
                os.close(descriptor)


def is_owner_alive(path: Path) -> bool:
    """Returns whether a process holds the file at `path`. Raises `OSError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # A shared lock, so that two processes that look do not take each other for the owner.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def lock_file(path: Path) -> Iterator[bool]:
    """Tries to lock the file at `path`, which it creates, for the block, and yields whether it
    succeeded. Does not wait. The file is removed with the lock. Raises `OSError`."""
    descriptor = os.open(path, _FLAGS | os.O_CREAT, 0o600)
    # Without a link its last holder removed it between the open and the lock.
    if not (try_lock(descriptor) and os.fstat(descriptor).st_nlink):
        os.close(descriptor)
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Locks an open file unless another process holds it, and returns whether it succeeded."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
