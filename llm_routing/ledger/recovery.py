"""Ships the records in segments of ended processes."""

from collections.abc import Collection
from pathlib import Path

from llm_routing.core.ports import AttemptOpened, AttemptSettled
from llm_routing.system.locked_files import remove_if_abandoned

from .lines import interrupted
from .segments import SEGMENTS, UNFINISHED_SEGMENTS, Segment
from .store import RecordStore


def recover(directory: Path, own: Collection[Path], store: RecordStore) -> int:
    """Stores the records of abandoned segments in `directory`, except the `own` ones, and returns
    how many. An attempt that was opened and never settled is stored as interrupted.

    Raises `django.db.Error`; the segments then stay for the next call.
    """
    paths = [path for path in sorted(directory.glob(SEGMENTS)) if path not in own]
    segments = [segment for path in paths if (segment := Segment.claim(path)) is not None]
    is_shipped = False
    try:
        # All are read before any is removed: an attempt may be opened in one segment and settled in
        # the next.
        opened: dict[str, AttemptOpened] = {}
        settled: set[str] = set()
        for segment in segments:
            _ship(segment, store, opened, settled)
        lost = [attempt for name, attempt in opened.items() if name not in settled]
        store.add(map(interrupted, lost))
        is_shipped = True
    finally:
        for segment in segments:
            segment.close(remove=is_shipped)
    for path in directory.glob(UNFINISHED_SEGMENTS):
        remove_if_abandoned(path)
    return len(settled) + len(lost)


def _ship(
    segment: Segment, store: RecordStore, opened: dict[str, AttemptOpened], settled: set[str]
) -> None:
    """Stores the settled attempts of a segment, and adds to `opened` those without an end and to
    `settled` the ids of the others."""
    while lines := segment.unshipped():
        batch = []
        for attempt in store.decode(lines):
            if isinstance(attempt, AttemptSettled):
                opened.pop(attempt.opened.id, None)
                settled.add(attempt.opened.id)
                batch.append(attempt)
            else:
                opened[attempt.id] = attempt
        store.add(batch)
        segment.shipped += sum(map(len, lines))
