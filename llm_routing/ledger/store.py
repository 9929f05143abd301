"""Stores records in the database, and sets rejected ones aside in a file.

Records wait in `segments` until then.
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from django.db import InterfaceError, NotSupportedError, OperationalError, ProgrammingError

from llm_routing.core.ports import AttemptOpened, AttemptSettled
from llm_routing.core.types import AttemptOutcome, Caller, Usage
from llm_routing.models import UsageRecord

from .lines import columns, read, settled_line

logger = logging.getLogger(__name__)

_Row = tuple[AttemptSettled, Mapping[str, Any]]

SET_ASIDE: Final = "set_aside"
"""The file of records that were set aside."""
MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_REFUSAL_SECONDS = 5.0
MAX_TRIES = 3
"""Tries of a record whose error may be the database's: a deadlock, a lock."""


class RecordStore:
    """Stores records. `set_aside` counts those in the file, `lost` those that could not be written
    there.

    A record is set aside only if the database accepts another one right after it rejected this one.
    If it accepts none, the table or its permissions are at fault, and all records wait.
    """

    def __init__(self, directory: Path) -> None:
        self.set_aside = 0
        self.lost = 0
        self._path = directory / SET_ASIDE
        self._tries: dict[str, int] = {}
        self._unlogged = 0
        self._example = ""

    def add(self, attempts: Iterable[AttemptSettled]) -> None:
        """Stores records that are not stored yet. Raises `django.db.Error` if the database accepts
        none."""
        good: list[_Row] = []
        for attempt in attempts:
            try:
                good.append((attempt, columns(attempt)))
            except ValueError as error:
                self._set_aside(settled_line(attempt), error)
        try:
            if good:
                self._add(good)
        finally:
            self._log()

    def decode(self, lines: Iterable[bytes]) -> Iterator[AttemptOpened | AttemptSettled]:
        """Yields the attempts of lines, and sets aside lines that cannot be read."""
        for line in lines:
            try:
                yield read(line)
            except ValueError as error:
                self._set_aside(line, error)

    def _add(self, batch: Sequence[_Row]) -> None:
        began = time.monotonic()
        try:
            UsageRecord.objects.add_rows([row for _attempt, row in batch])
        except Exception as error:  # the row's, the table's or the connection's
            if _is_wait(error, time.monotonic() - began) or not accepts_records():
                raise
            if len(batch) > 1:
                middle = len(batch) // 2
                self._add(batch[:middle])
                self._add(batch[middle:])
                return
            self._refused(batch[0][0], error)
        else:
            if self._tries:
                for attempt, _row in batch:
                    self._tries.pop(attempt.opened.id, None)

    def _refused(self, attempt: AttemptSettled, error: Exception) -> None:
        if isinstance(error, OperationalError | InterfaceError):
            name = attempt.opened.id
            self._tries[name] = self._tries.get(name, 0) + 1
            if self._tries[name] < MAX_TRIES:
                raise error
            del self._tries[name]
        self._set_aside(settled_line(attempt), error, attempt.opened.id)

    def _set_aside(self, line: bytes, error: Exception, name: str = "") -> None:
        # The message of the error may quote values.
        reason = type(error).__name__
        try:
            is_kept = _append(self._path, line)
        except OSError as failure:
            is_kept, reason = False, f"{reason}; then {failure.strerror}"
        if is_kept:
            self.set_aside += 1
        else:
            self.lost += 1
        if not self._unlogged:
            self._example = f"attempt {name or 'unknown'}, {reason}"
        self._unlogged += 1

    def _log(self) -> None:
        """Logs one line for all records since the last call."""
        if self._unlogged:
            logger.error(
                "%d usage records could not be stored, for example that of %s. %d are set aside in "
                "%s, %d are lost.",
                self._unlogged,
                self._example,
                self.set_aside,
                self._path,
                self.lost,
            )
            self._unlogged = 0


def reason_of(error: Exception) -> str:
    """Returns why the database accepts no records, without any of their values."""
    if isinstance(error, NotSupportedError):
        return str(error)  # Django's message or ours, neither of which quotes values
    name = type(error).__name__
    cause = getattr(error.__cause__, "args", ())
    number = cause[0] if cause and isinstance(cause[0], int) else None
    state = getattr(error.__cause__, "sqlstate", None) or number
    known = name if state is None else f"{name} {state}"
    of_sqlite = ("no such table", "no such column", "has no column named", "readonly database")
    if (
        isinstance(error, ProgrammingError)
        or number in (1054, 1142)  # MySQL: unknown column, command denied
        or any(text in str(error) for text in of_sqlite)
    ):
        return f"{known}: the table or a column is missing, or may not be written to"
    return known


def _is_wait(error: Exception, seconds: float) -> bool:
    """Returns whether the database did not respond in time: another record would wait as long."""
    return isinstance(error, OperationalError | InterfaceError) and seconds > MAX_REFUSAL_SECONDS


def accepts_records() -> bool:
    """Returns whether the database accepts a plain record, which is rolled back."""
    plain = AttemptSettled(
        opened=AttemptOpened(
            id=f"probe-{uuid4().hex}",
            request_id="probe",
            caller=Caller("default", "probe"),
            operation="chat",
            use_case="",
            tier="",
            provider="probe",
            model="probe",
            number=1,
            started_at=datetime.now(UTC),
            input_tokens=0,
            input_price=None,
        ),
        outcome=AttemptOutcome.SUCCESS,
        error_code="",
        status=200,
        usage=Usage(0, 0),
        cost=None,
        latency_ms=0.0,
        time_to_first_token_ms=None,
    )
    try:
        UsageRecord.objects.check_row(columns(plain))
    except Exception:  # noqa: BLE001  # any fault means no
        return False
    return True


def _append(path: Path, line: bytes) -> bool:
    """Appends a line and returns whether there was room for it. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        end = os.fstat(descriptor).st_size
        if end + len(line) > MAX_FILE_BYTES:
            return False
        try:
            written = os.write(descriptor, line)
        except OSError:
            written = 0
            raise
        finally:
            if written < len(line):
                os.ftruncate(descriptor, end)
        return written == len(line)
    finally:
        os.close(descriptor)
