"""The segments that this process writes: when a new one begins, and the limit on their disk
space."""

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from .segments import SEGMENTS, DiskLimitReached, Segment

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 4 * 1024 * 1024
PAUSE_SECONDS = 1.0


class Journal:
    """Appends lines to segments in `directory`. Not safe for threads: `Ledger` has the lock.

    `max_bytes` limits the segments of all processes that share the directory.
    """

    def __init__(self, directory: Path, max_bytes: int, monotonic: Callable[[], float]) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self._current: Segment | None = None
        self._full: list[Segment] = []
        self._paused_until = float("-inf")

    @property
    def segments(self) -> Sequence[Segment]:
        """The segments, the oldest first."""
        return [*self._full, *((self._current,) if self._current is not None else ())]

    def append(self, line: bytes, carry_over: Callable[[], Collection[bytes]]) -> bool:
        """Writes a line and returns whether it is on disk.

        A new segment starts with the lines of `carry_over`: those of attempts that have not ended.
        """
        try:
            if self._current is not None and self._current.append(line):
                return True
            if self._monotonic() < self._paused_until:
                return False
            self._begin_segment(line, carry_over())
        except OSError as error:
            now = self._monotonic()
            if now >= self._paused_until:
                # Otherwise every line would try to create a file on a full disk.
                self._paused_until = now + PAUSE_SECONDS
                logger.error("The ledger cannot be written: %s", error.strerror)
            return False
        return True

    def restore(self) -> None:
        """Restores segments that another program has truncated. Raises `OSError`."""
        for segment in self.segments:
            segment.restore()

    def remove_shipped(self) -> None:
        """Removes full segments from which everything was shipped. Needs no lock: segments are only
        added at the end of the list."""
        while self._full and self._full[0].is_shipped:
            self._full.pop(0).close(remove=True)

    def release(self) -> Sequence[Segment]:
        """Returns the segments and forgets them."""
        segments = self.segments
        self._full.clear()
        self._current = None
        return segments

    def _begin_segment(self, line: bytes, carried: Collection[bytes]) -> None:
        needed = sum(map(len, carried)) + len(line)
        capacity = max(SEGMENT_BYTES, 2 * needed)
        if _size_of_segments(self._directory) + capacity > self._max_bytes:
            raise DiskLimitReached(self._max_bytes)
        segment = Segment.create(self._directory, capacity)
        if self._current is not None:
            self._full.append(self._current)
        self._current = segment
        for each in (*carried, line):
            segment.append(each)


def _size_of_segments(directory: Path) -> int:
    """Returns the bytes of the segments of all processes."""
    total = 0
    for path in directory.glob(SEGMENTS):
        with suppress(OSError):  # it has just been shipped
            total += path.stat().st_size
    return total
