"""Files and directories that only their owner may read, whatever the umask.

Callers define their content.
"""

import os
import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

DRAFT = ".draft"
OLD_DRAFT_SECONDS = 3600.0
_OTHERS = 0o077


class UnsafeDirectory(OSError):
    """Raised for a directory that another user could have prepared; the message says why."""


def private_directory(path: Path) -> None:
    """Creates `path` and its missing parents for the owner only, and removes other users' access to
    an existing `path` if it is ours. Raises `OSError`."""
    for directory in reversed([path, *path.parents]):
        if not directory.exists():
            with suppress(FileExistsError):
                directory.mkdir(mode=0o700)
    _close_to_others(path)


def claim_directory(path: Path) -> None:
    """Creates the directory `path` unless this user created it before. Raises `UnsafeDirectory` if
    another user has, or if it is not a private directory, and `OSError`."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafeDirectory("it is a link or a file")
    if status.st_uid != os.geteuid():
        raise UnsafeDirectory("it belongs to another user")
    if status.st_mode & 0o022:
        raise UnsafeDirectory("others may write to it")
    _close_to_others(path)


def write_private(path: Path, data: bytes) -> None:
    """Replaces the file at `path` atomically: readers never see a part of it, and every writer, on
    this machine or another, has its own draft. Raises `OSError`."""
    draft = path.with_name(f"{path.name}.{uuid4().hex}{DRAFT}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def private_file(path: Path) -> None:
    """Creates an empty file at `path` if there is none, and removes other users' access to an
    existing one if it is ours. Raises `OSError`."""
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    _close_to_others(path)


def restrict_to_owner(directory: Path, *, is_deep: bool = True) -> None:
    """Removes other users' access to our files in `directory`, and deletes drafts of ended
    processes. Ignores files that cannot be changed."""
    old = datetime.now(UTC).timestamp() - OLD_DRAFT_SECONDS
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            path = Path(parent, name)
            with suppress(OSError):
                if name.endswith(DRAFT) and path.stat().st_mtime < old:
                    path.unlink()
                    continue
                _close_to_others(path)
        if not is_deep:
            break


def _close_to_others(path: Path) -> None:
    status = path.lstat()
    is_ours = status.st_uid == os.geteuid() and not stat.S_ISLNK(status.st_mode)
    if is_ours and status.st_mode & _OTHERS:
        path.chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS)
