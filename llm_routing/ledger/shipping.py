"""Accounts of attempts: appended to a file at once, shipped to the database in bulk.

What is written survives a crash of the process; whoever comes next ships what a dead process left.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from django.db import DatabaseError, InterfaceError

from llm_routing.core.ports import AttemptOpened, AttemptSettled
from llm_routing.system.locked_files import remove_if_abandoned

from .lines import OPENED, interrupted, opened_line, read, settled_line
from .segments import BATCH, SEGMENTS, UNFINISHED_SEGMENTS, DiskLimitReached, Segment
from .store import RecordStore, reason_of, takes_records

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 4 * 1024 * 1024
MAX_BYTES = 1024 * 1024 * 1024
MAX_IN_MEMORY = 10_000
PAUSE_SECONDS = 1.0
_T = TypeVar("_T")


class Ledger:
    """`core.ports.UsageSink` over append-only segments in `directory`, one writer a process.

    A segment is locked by its writer as long as that lives, so a segment that can be locked is a
    dead process's. Records carry the id of their attempt, on which the database is unique: what
    is shipped twice arrives once.

    What was settled since the last time is shipped from memory; where that is too much, or the
    database was away, it is read from the segments.
    """

    def __init__(self, directory: Path, max_bytes: int = MAX_BYTES) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._store = RecordStore(directory)
        self._trouble = ""
        self._lock = threading.Lock()
        self._shipping = threading.Lock()
        self._open: dict[str, AttemptOpened] = {}
        self._settled: list[AttemptSettled] | None = []
        """All that the segments hold and that has not been shipped; None where that is unknown."""
        self._unwritten: deque[bytes] = deque(maxlen=MAX_IN_MEMORY)
        self._segment: Segment | None = None
        self._full: list[Segment] = []
        self._lost = 0
        self._paused_until = float("-inf")

    def opened(self, attempt: AttemptOpened) -> None:
        """An attempt is about to reach a provider."""
        line = opened_line(attempt)
        with self._lock:
            self._open[attempt.id] = attempt
            self._append(line)

    def settled(self, attempt: AttemptSettled) -> None:
        """The attempt ended."""
        line = settled_line(attempt)
        with self._lock:
            self._open.pop(attempt.opened.id, None)
            if self._append(line):
                if self._settled is not None:
                    self._settled.append(attempt)
                    if len(self._settled) > BATCH:
                        self._settled = None
            else:
                if len(self._unwritten) == MAX_IN_MEMORY:
                    self._lost += 1
                self._unwritten.append(line)

    @property
    def backlog_bytes(self) -> int:
        """Bytes written by this process that have not been shipped."""
        return sum(segment.size - segment.shipped for segment in self._segments())

    @property
    def unwritten(self) -> int:
        """Records in memory alone, since the disk did not take them."""
        return len(self._unwritten)

    @property
    def lost(self) -> int:
        """Records given up because neither the disk nor the database could take them."""
        return self._lost + self._store.lost

    @property
    def set_aside(self) -> int:
        """Records that the database refused and that are kept in a file of their own."""
        return self._store.set_aside

    @property
    def trouble(self) -> str:
        """Why the database takes no records at present; empty if it does."""
        return self._trouble

    def status(self) -> Mapping[str, Any]:
        """How records stand, for the health endpoint."""
        return {
            "trouble": self._trouble or None,
            "backlog_bytes": self.backlog_bytes,
            "unwritten": self.unwritten,
            "set_aside": self.set_aside,
            "lost": self.lost,
        }

    def restore(self) -> None:
        """Repairs segments that another program has truncated. Raises `OSError`."""
        with self._lock:
            for segment in self._segments():
                segment.restore()

    def ship(self) -> int:
        """Moves what was settled into the database and returns how many records that was.

        Runs in the background thread. Raises `django.db.Error` where the database is away;
        nothing is lost by that.
        """
        with self._shipping:
            return self._watched(self._ship)

    def _watched(self, work: Callable[[], _T]) -> _T:
        """Does what stores records, and logs when that begins to fail and when it works again."""
        try:
            done = work()
        except (DatabaseError, InterfaceError) as error:
            reason = reason_of(error)
            if reason != self._trouble:
                logger.error("Usage records wait, for the database does not take them: %s", reason)
            self._trouble = reason
            raise
        # What had nothing to store has not shown that it could.
        if self._trouble and takes_records():
            logger.warning("The database takes usage records again.")
            self._trouble = ""
        return done

    def _ship(self) -> int:
        shipped = self._ship_unwritten()
        with self._lock:
            settled, segments = self._settled, self._segments()
            ends = [segment.size for segment in segments]
            if settled is not None:
                self._settled = []
        if settled is not None:
            shipped += self._ship_settled(settled)
            for segment, end in zip(segments, ends, strict=True):
                segment.shipped = end
        else:
            shipped += sum(map(self._ship_segment, segments))
            with self._lock:
                if all(segment.shipped == segment.size for segment in self._segments()):
                    self._settled = []
        while self._full and self._full[0].shipped == self._full[0].size:
            self._full.pop(0).close(remove=True)
        return shipped

    def recover(self) -> int:
        """Ships what dead processes left and returns how many records that was. An attempt that
        was opened and never settled is recorded as interrupted. Raises as `ship` does."""
        return self._watched(self._recover)

    def _recover(self) -> int:
        own = {segment.path for segment in self._segments()}
        paths = [path for path in sorted(self._directory.glob(SEGMENTS)) if path not in own]
        segments = [segment for path in paths if (segment := Segment.claim(path)) is not None]
        try:
            # All before any: an attempt may be opened in one segment and settled in the next.
            opened: dict[str, AttemptOpened] = {}
            settled: set[str] = set()
            for segment in segments:
                self._recover_one(segment, opened, settled)
            lost = [attempt for name, attempt in opened.items() if name not in settled]
            self._store.add(map(interrupted, lost))
        except BaseException:
            for segment in segments:
                segment.close(remove=False)
            raise
        for segment in segments:
            segment.close(remove=True)
        for path in self._directory.glob(UNFINISHED_SEGMENTS):
            remove_if_abandoned(path)
        return len(settled) + len(lost)

    def close(self) -> None:
        """Ships the rest and removes the segment, unless attempts are still open in it or the
        database is away: then it stays for the next process."""
        self.ship()
        with self._lock:
            segments = self._take_segments()
            for segment in segments:
                segment.close(remove=segment.shipped == segment.size and not self._open)

    def forget(self) -> None:
        """In a forked child: the parent's segment stays the parent's."""
        self._lock = threading.Lock()
        self._shipping = threading.Lock()
        self._open.clear()
        self._settled = []
        self._unwritten.clear()
        for segment in self._take_segments():
            segment.abandon()

    def _segments(self) -> Sequence[Segment]:
        """All that are ours, oldest first."""
        return [*self._full, *((self._segment,) if self._segment is not None else ())]

    def _take_segments(self) -> Sequence[Segment]:
        """All that are ours, which are ours no more."""
        segments = self._segments()
        self._full.clear()
        self._segment = None
        return segments

    def _append(self, line: bytes) -> bool:
        try:
            if self._segment is not None and self._segment.append(line):
                return True
            if time.monotonic() < self._paused_until:
                return False
            return self._begin_segment(line).append(line)
        except OSError as error:
            now = time.monotonic()
            if now >= self._paused_until:
                # Otherwise each record would ask a full disk for a file.
                self._paused_until = now + PAUSE_SECONDS
                logger.error("The ledger cannot be written: %s", error.strerror)
            return False

    def _begin_segment(self, line: bytes) -> Segment:
        """A new segment with room for `line`, into which the open attempts are carried over. The
        full one stays ours until all of it is in the database."""
        carried = list(map(opened_line, self._open.values()))
        needed = sum(map(len, carried)) + len(line)
        capacity = max(SEGMENT_BYTES, 2 * needed)
        if _size_of(self._directory) + capacity > self._max_bytes:
            raise DiskLimitReached(self._max_bytes)
        new = Segment.create(self._directory, capacity)
        for attempt in carried:
            new.append(attempt)
        if self._segment is not None:
            self._full.append(self._segment)
        self._segment = new
        return new

    def _ship_unwritten(self) -> int:
        with self._lock:
            batch = list(self._unwritten)
            self._unwritten.clear()
        try:
            self._store.add(self._settled_of(batch))
        except BaseException:
            with self._lock:
                room = MAX_IN_MEMORY - len(self._unwritten)
                kept = batch[max(0, len(batch) - room) :]
                self._lost += len(batch) - len(kept)
                self._unwritten.extendleft(reversed(kept))
            raise
        return len(batch)

    def _ship_settled(self, settled: Sequence[AttemptSettled]) -> int:
        try:
            self._store.add(settled)
        except BaseException:
            with self._lock:
                self._settled = None
            raise
        return len(settled)

    def _ship_segment(self, segment: Segment) -> int:
        shipped = 0
        while lines := segment.unshipped():
            settled = self._settled_of(lines)
            self._store.add(settled)
            segment.shipped += sum(map(len, lines))
            shipped += len(settled)
        return shipped

    def _recover_one(
        self, segment: Segment, opened: dict[str, AttemptOpened], settled: set[str]
    ) -> None:
        while lines := segment.unshipped():
            batch = []
            for attempt in map(self._read, lines):
                if isinstance(attempt, AttemptSettled):
                    opened.pop(attempt.opened.id, None)
                    settled.add(attempt.opened.id)
                    batch.append(attempt)
                elif attempt is not None:
                    opened[attempt.id] = attempt
            self._store.add(batch)
            segment.shipped += sum(map(len, lines))

    def _settled_of(self, lines: Iterable[bytes]) -> Sequence[AttemptSettled]:
        # A line that opens an attempt is of no use here.
        found = map(self._read, (line for line in lines if line[:1] != OPENED))
        return [attempt for attempt in found if isinstance(attempt, AttemptSettled)]

    def _read(self, line: bytes) -> AttemptOpened | AttemptSettled | None:
        try:
            return read(line)
        except ValueError:
            self._store.put_aside_line(line)
            return None


def _size_of(directory: Path) -> int:
    """The bytes of all segments, whosever they are."""
    total = 0
    for path in directory.glob(SEGMENTS):
        with suppress(OSError):  # it has just been shipped
            total += path.stat().st_size
    return total
