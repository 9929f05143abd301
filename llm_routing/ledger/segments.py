"""Segments of the ledger: append-only files of lines, each locked by the process that writes it.

What a line says is in `ledger_lines`; when lines are shipped, in `ledger`.
"""

import fcntl
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from errno import ENOSPC
from mmap import mmap
from pathlib import Path
from uuid import uuid4

from llm_routing.system.private_files import is_cut_short, private_directory

logger = logging.getLogger(__name__)

BATCH = 4_000
READ_BYTES = 1024 * 1024
SEGMENTS = "*.jsonl"
BEGUN = "*.new"


class NoRoom(OSError):
    """The segments have reached the limit of what they may take of the disk."""

    def __init__(self, limit: int) -> None:
        super().__init__(ENOSPC, f"its segments may take {limit} bytes at the most")


class Segment:
    """One append-only file, locked by its owner.

    Its writer has it in memory, its place on the disk reserved: a line costs no system call, is
    the kernel's to keep the moment it is written, and outlives the process however that ends. What
    follows the last line is zero bytes.
    """

    def __init__(
        self, path: Path, descriptor: int, size: int, writable: "mmap | None" = None
    ) -> None:
        self.path = path
        self.size = size
        self.shipped = 0
        self._descriptor = descriptor
        self._writable = writable
        self._capacity = 0 if writable is None else len(writable)

    @classmethod
    def create(cls, directory: Path, capacity: int) -> "Segment":
        """One to write so many bytes to. Raises `OSError`."""
        private_directory(directory)
        path = directory / f"{uuid4().hex}.jsonl"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        # Locked before it has the name that others look for: nobody claims it in between.
        hidden = path.with_suffix(".new")
        descriptor = os.open(hidden, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # A hole in the file would be met, on a full disk, as SIGBUS.
            os.posix_fallocate(descriptor, 0, capacity)
            writable = mmap(descriptor, capacity)
            hidden.rename(path)
        except BaseException:
            hidden.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return cls(path, descriptor, 0, writable)

    @classmethod
    def claim(cls, path: Path) -> "Segment | None":
        """The segment at `path` if its writer is dead, else None."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.error("A segment of the ledger cannot be read: %s", error.strerror)
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        segment = cls(path, descriptor, _end_of_lines(descriptor))
        if not path.exists():
            # Another process shipped and removed it between our open and our lock.
            segment.close(remove=False)
            return None
        return segment

    def append(self, line: bytes) -> bool:
        """Writes a line, where there is room for it."""
        end = self.size + len(line)
        if self._writable is None or end > self._capacity:
            return False
        self._writable[self.size : end] = line
        self.size = end
        return True

    def restore(self) -> None:
        """Gives the file its size back where another program has truncated it. Raises
        `OSError`."""
        if self._writable is not None and is_cut_short(self._descriptor, self._capacity):
            logger.error(
                "%s was truncated by another program: usage records that were only there are lost.",
                self.path.name,
            )

    def unshipped(self) -> Sequence[bytes]:
        """The next lines that have not been shipped, about `BATCH` of them."""
        lines: list[bytes] = []
        rest = b""
        offset, end = self.shipped, self.size
        while len(lines) < BATCH:
            data = os.pread(self._descriptor, min(READ_BYTES, end - offset), offset)
            if not data:
                break
            offset += len(data)
            *whole, rest = (rest + data).split(b"\n")
            lines.extend(line + b"\n" for line in whole)
        return lines

    def close(self, *, remove: bool) -> None:
        """Lets go of the file, which goes away where all in it has been shipped."""
        if remove:
            self.path.unlink(missing_ok=True)
        self.abandon()

    def abandon(self) -> None:
        """Lets go of the file, whoever owns it."""
        # The memory holds the file, and its lock, as the descriptor does.
        if self._writable is not None:
            self._writable.close()
            self._writable = None
        os.close(self._descriptor)


def _end_of_lines(descriptor: int) -> int:
    """Where the last whole line ends; a process may have died as it wrote one more."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - READ_BYTES)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def remove_forsaken(path: Path) -> None:
    """A segment whose writer died before it had its name, and anything in it."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(descriptor)
