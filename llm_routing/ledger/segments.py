"""Segments of the ledger: append-only files of lines, each locked by the process that writes it.

`lines` defines the lines, `journal` selects the segment to write, and `shipping` ships the lines.
"""

import logging
import os
from collections.abc import Sequence
from errno import ENOSPC
from pathlib import Path
from uuid import uuid4

from llm_routing.system import disk_space
from llm_routing.system.locked_files import UNFINISHED, create_locked, open_if_abandoned
from llm_routing.system.private_files import private_directory

logger = logging.getLogger(__name__)

BATCH = 4_000
READ_BYTES = 1024 * 1024
SUFFIX = ".jsonl"
SEGMENTS = f"*{SUFFIX}"
UNFINISHED_SEGMENTS = f"*{UNFINISHED}"


class DiskLimitReached(OSError):
    """The segments have reached the limit of disk space that they may use."""

    def __init__(self, limit: int) -> None:
        super().__init__(ENOSPC, f"its segments may use at most {limit} bytes")


class Segment:
    """One append-only file, locked by its owner.

    A line is one system call into reserved disk space; after it the kernel keeps the line, however
    the process ends. Zero bytes follow the last line. `size` is the offset of the next line,
    `shipped` the end of the shipped lines.
    """

    def __init__(self, path: Path, descriptor: int, size: int, capacity: int) -> None:
        self.path = path
        self.size = size
        self.shipped = 0
        self._descriptor = descriptor
        self._capacity = capacity

    @classmethod
    def create(cls, directory: Path, capacity: int) -> "Segment":
        """Returns a new segment for `capacity` bytes. Raises `OSError`."""
        private_directory(directory)
        path = directory / f"{uuid4().hex}{SUFFIX}"
        return cls(path, create_locked(path, size=capacity), 0, capacity)

    @classmethod
    def claim(cls, path: Path) -> "Segment | None":
        """Returns the segment at `path`, to read, if its writer has ended; else None."""
        try:
            descriptor = open_if_abandoned(path)
        except OSError as error:
            logger.error("A segment of the ledger cannot be read: %s", error.strerror)
            return None
        if descriptor is None:
            return None
        end = _end_of_lines(descriptor)
        return cls(path, descriptor, end, end)

    @property
    def is_shipped(self) -> bool:
        """Whether all lines were shipped."""
        return self.shipped == self.size

    def append(self, line: bytes) -> bool:
        """Writes a line and returns True, or False if there is no room for it. Raises `OSError`."""
        end = self.size + len(line)
        if end > self._capacity:
            return False
        if os.pwrite(self._descriptor, line, self.size) < len(line):
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        self.size = end
        return True

    def restore(self) -> None:
        """Reserves the file's space again if another program has truncated it, and logs that.
        Raises `OSError`."""
        if disk_space.restore(self._descriptor, self._capacity):
            logger.error(
                "%s was truncated by another program: usage records that were only there are lost.",
                self.path.name,
            )

    def unshipped(self) -> Sequence[bytes]:
        """Returns the next lines that have not been shipped, about `BATCH` of them."""
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
        """Closes the file; removes it first if all its lines were shipped."""
        if remove:
            self.path.unlink(missing_ok=True)
        self.abandon()

    def abandon(self) -> None:
        """Closes the file, which releases the lock unless a forked process still has it open."""
        os.close(self._descriptor)


def _end_of_lines(descriptor: int) -> int:
    """Returns where the last complete line ends: a process may have ended while it wrote one."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - READ_BYTES)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
