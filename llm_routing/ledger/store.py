"""Stores records in the database, and sets aside in a file those that it does not take.

Where records wait until then is in `ledger`.
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from django.db import InterfaceError, NotSupportedError, OperationalError, ProgrammingError

from llm_routing.core.ports import AttemptOpened, AttemptSettled
from llm_routing.core.types import AttemptOutcome, Caller, Usage
from llm_routing.models import UsageRecord

from .lines import columns, settled_line

logger = logging.getLogger(__name__)

_Row = tuple[AttemptSettled, Mapping[str, Any]]

FILE: Final = "set_aside"
MAX_FILE_BYTES = 16 * 1024 * 1024
LONGEST_REFUSAL = 5.0
TRIES = 3
"""So often is a record tried whose error may have been the database's: a deadlock, a lock."""


class RecordStore:
    """Stores records. `set_aside` and `lost` count those that are in the file and nowhere.

    A record is set aside only if the database takes another one right after it has refused this
    one. If it takes none, the table or its permissions are at fault, and all records wait.
    """

    def __init__(self, directory: Path) -> None:
        self.set_aside = 0
        self.lost = 0
        self._path = directory / FILE
        self._tries: dict[str, int] = {}
        self._untold = 0
        self._example = ""

    def add(self, attempts: Iterable[AttemptSettled]) -> None:
        """Stores what is not there yet. Raises `django.db.Error` if the database takes nothing."""
        good: list[_Row] = []
        for attempt in attempts:
            try:
                good.append((attempt, columns(attempt)))
            except ValueError as error:
                self._put_aside(settled_line(attempt), error)
        try:
            if good:
                self._add(good)
        finally:
            self._tell()

    def put_aside_line(self, line: bytes) -> None:
        """Sets aside a line that cannot be read."""
        self._put_aside(line, ValueError())

    def _add(self, batch: Sequence[_Row]) -> None:
        began = time.monotonic()
        try:
            UsageRecord.objects.add_rows([row for _attempt, row in batch])
        except Exception as error:  # any fault: the row's, the table's or the connection's
            if _is_wait(error, time.monotonic() - began) or not takes_records():
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
            if self._tries[name] < TRIES:
                raise error
            del self._tries[name]
        self._put_aside(settled_line(attempt), error, attempt.opened.id)

    def _put_aside(self, line: bytes, error: Exception, name: str = "") -> None:
        # The error's own words may quote values.
        reason = type(error).__name__
        try:
            is_kept = _append(self._path, line)
        except OSError as failure:
            is_kept, reason = False, f"{reason}, and then {failure.strerror}"
        if is_kept:
            self.set_aside += 1
        else:
            self.lost += 1
        if not self._untold:
            self._example = f"attempt {name or 'unknown'}, {reason}"
        self._untold += 1

    def _tell(self) -> None:
        """One line in the log, however many records it is about."""
        if self._untold:
            logger.error(
                "%d usage records do not fit into the database, such as that of %s. %d are set "
                "aside in %s, %d are lost.",
                self._untold,
                self._example,
                self.set_aside,
                self._path,
                self.lost,
            )
            self._untold = 0


def reason_of(error: Exception) -> str:
    """Why the database takes no records, in words that hold no values."""
    if isinstance(error, NotSupportedError):
        return str(error)  # Django's words or ours, which hold no values
    name = type(error).__name__
    cause = getattr(error.__cause__, "args", ())
    number = cause[0] if cause and isinstance(cause[0], int) else None
    state = getattr(error.__cause__, "sqlstate", None) or number
    known = name if state is None else f"{name} {state}"
    of_sqlite = ("no such table", "no such column", "has no column named", "readonly database")
    if (
        isinstance(error, ProgrammingError)
        or number in (1054, 1142)  # of MySQL: an unknown column, a command that is denied
        or any(words in str(error) for words in of_sqlite)
    ):
        return f"{known}: the table or a column is missing, or may not be written to"
    return known


def _is_wait(error: Exception, seconds: float) -> bool:
    """Whether the database was waited for, in vain: another record would wait as long."""
    return isinstance(error, OperationalError | InterfaceError) and seconds > LONGEST_REFUSAL


def takes_records() -> bool:
    """Whether the database takes a plain record; the record is not kept."""
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
    """Whether there was room for the line. Raises `OSError`."""
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
