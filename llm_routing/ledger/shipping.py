"""Records attempts: appends them to a file at once, and ships them to the database in bulk.

A written record survives a crash of the process: another process ships it (`recovery`).
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from llm_routing.core.ports import AttemptOpened, AttemptSettled
from llm_routing.models.databases import DATABASE_ERRORS

from .journal import Journal
from .lines import OPENED, opened_line, settled_line
from .recovery import recover
from .segments import Segment
from .store import RecordStore, accepts_records, reason_of

logger = logging.getLogger(__name__)

MAX_BYTES = 1024 * 1024 * 1024
MAX_IN_MEMORY = 10_000
PACED_ROWS = 200
"""Maximum records per batch while requests are served."""
PAUSE_FACTOR = 4.0
"""The pause after them, as a multiple of the processor time that they took. Without it requests
would take twice as long while records are shipped."""
MAX_PACED_SECONDS = 0.5
"""The time after which a paced shipment leaves the rest of a backlog to the next one, so that the
background thread is free for its other steps."""
Pause = Callable[[float], object]
"""Waits for some seconds, or until the process ends."""
_T = TypeVar("_T")


class Ledger:
    """`core.ports.UsageSink` over append-only segments in `directory`, which each process writes
    by itself.

    A record carries the id of its attempt, which is unique in the database: a record that is
    shipped twice is stored once. What was settled since the last shipment is shipped from memory;
    if that is too much, or a shipment failed, it is read from the segments.
    """

    def __init__(
        self,
        directory: Path,
        max_bytes: int = MAX_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._journal = Journal(directory, max_bytes, monotonic)
        self._store = RecordStore(directory)
        self._trouble = ""
        self._lock = threading.Lock()
        self._shipping = threading.Lock()
        self._open: dict[str, AttemptOpened] = {}
        self._settled: list[AttemptSettled] | None = []
        """Everything in the segments that was not shipped; None if it must be read from them."""
        self._unwritten: deque[bytes] = deque(maxlen=MAX_IN_MEMORY)
        self._lost = 0

    def opened(self, attempt: AttemptOpened) -> None:
        """See `UsageSink.opened`."""
        line = opened_line(attempt)
        with self._lock:
            self._open[attempt.id] = attempt
            self._journal.append(line, self._open_lines)

    def settled(self, attempt: AttemptSettled) -> None:
        """See `UsageSink.settled`."""
        line = settled_line(attempt)
        with self._lock:
            self._open.pop(attempt.opened.id, None)
            if self._journal.append(line, self._open_lines):
                if self._settled is not None:
                    self._settled.append(attempt)
                    if len(self._settled) > MAX_IN_MEMORY:
                        self._settled = None
            else:
                if len(self._unwritten) == MAX_IN_MEMORY:
                    self._lost += 1
                self._unwritten.append(line)

    @property
    def open_attempts(self) -> int:
        """The number of attempts under way."""
        return len(self._open)

    @property
    def backlog_bytes(self) -> int:
        """Bytes written by this process that were not shipped."""
        return sum(segment.size - segment.shipped for segment in self._journal.segments)

    @property
    def unwritten(self) -> int:
        """Records that are only in memory, because they could not be written to disk."""
        return len(self._unwritten)

    @property
    def lost(self) -> int:
        """Records lost because they could be written neither to disk nor to the database."""
        return self._lost + self._store.lost

    @property
    def set_aside(self) -> int:
        """Records that the database rejected and that are kept in a separate file."""
        return self._store.set_aside

    @property
    def trouble(self) -> str:
        """Why the database accepts no records at present; empty if it does."""
        return self._trouble

    def status(self) -> Mapping[str, Any]:
        """Returns the state of the records, for the health endpoint."""
        return {
            "trouble": self._trouble or None,
            "backlog_bytes": self.backlog_bytes,
            "unwritten": self.unwritten,
            "set_aside": self.set_aside,
            "lost": self.lost,
        }

    def restore(self) -> None:
        """Restores segments that another program has truncated. Raises `OSError`."""
        with self._lock:
            self._journal.restore()

    def ship(self, pause: Pause | None = None) -> int:
        """Stores the settled attempts in the database and returns how many.

        Runs in the background thread; with a `pause` it leaves most of the processor time to other
        threads. Raises `django.db.Error` if the database accepts no records; they then wait for the
        next call.
        """
        with self._shipping:
            return self._watched(lambda: self._ship(pause))

    def recover(self) -> int:
        """Stores the records of ended processes, and returns how many. Raises as `ship` does."""
        own = {segment.path for segment in self._journal.segments}
        return self._watched(lambda: recover(self._directory, own, self._store))

    def close(self) -> None:
        """Ships the rest and removes the segments. They stay for the next process if attempts are
        still open, or the database accepts no records. Raises as `ship` does."""
        self.ship()
        with self._lock:
            for segment in self._journal.release():
                segment.close(remove=segment.is_shipped and not self._open)

    def forget(self) -> None:
        """Drops everything in a forked child: the segments and the records in memory belong to the
        parent."""
        self._lock = threading.Lock()
        self._shipping = threading.Lock()
        self._open.clear()
        self._settled = []
        self._unwritten.clear()
        for segment in self._journal.release():
            segment.abandon()

    def _open_lines(self) -> Sequence[bytes]:
        return list(map(opened_line, self._open.values()))

    def _watched(self, work: Callable[[], _T]) -> _T:
        """Runs work that stores records, and logs when storing starts to fail and works again."""
        try:
            done = work()
        except DATABASE_ERRORS as error:
            reason = reason_of(error)
            if reason != self._trouble:
                logger.error("Usage records wait, because the database accepts none: %s", reason)
            self._trouble = reason
            raise
        # Work without records succeeds even if the database accepts none.
        if self._trouble and accepts_records():
            logger.warning("The database accepts usage records again.")
            self._trouble = ""
        return done

    def _ship(self, pause: Pause | None) -> int:
        shipped = self._ship_unwritten()
        with self._lock:
            settled, segments = self._settled, self._journal.segments
            ends = [segment.size for segment in segments]
            if settled is not None:
                self._settled = []
        if settled is not None:
            shipped += self._ship_settled(settled, pause)
            for segment, end in zip(segments, ends, strict=True):
                segment.shipped = end
        else:
            until = math.inf if pause is None else self._monotonic() + MAX_PACED_SECONDS
            shipped += sum(self._ship_segment(segment, pause, until) for segment in segments)
            with self._lock:
                if all(segment.is_shipped for segment in self._journal.segments):
                    self._settled = []
        self._journal.remove_shipped()
        return shipped

    def _ship_unwritten(self) -> int:
        with self._lock:
            batch = list(self._unwritten)
            self._unwritten.clear()
        try:
            self._store.add(self._settled_in(batch))
        except BaseException:
            with self._lock:
                room = MAX_IN_MEMORY - len(self._unwritten)
                kept = batch[max(0, len(batch) - room) :]
                self._lost += len(batch) - len(kept)
                self._unwritten.extendleft(reversed(kept))
            raise
        return len(batch)

    def _ship_settled(self, settled: Sequence[AttemptSettled], pause: Pause | None) -> int:
        try:
            self._add(settled, pause)
        except BaseException:
            with self._lock:
                self._settled = None
            raise
        return len(settled)

    def _ship_segment(self, segment: Segment, pause: Pause | None, until: float) -> int:
        shipped = 0
        while self._monotonic() < until and (lines := segment.unshipped()):
            settled = self._settled_in(lines)
            self._add(settled, pause)
            segment.shipped += sum(map(len, lines))
            shipped += len(settled)
        return shipped

    def _add(self, settled: Sequence[AttemptSettled], pause: Pause | None) -> None:
        if pause is None:
            self._store.add(settled)
            return
        for start in range(0, len(settled), PACED_ROWS):
            began = time.thread_time()
            self._store.add(settled[start : start + PACED_ROWS])
            pause(PAUSE_FACTOR * (time.thread_time() - began))

    def _settled_in(self, lines: Iterable[bytes]) -> Sequence[AttemptSettled]:
        # Lines that open an attempt are not decoded: only its end is shipped.
        attempts = self._store.decode(line for line in lines if line[:1] != OPENED)
        return [attempt for attempt in attempts if isinstance(attempt, AttemptSettled)]
