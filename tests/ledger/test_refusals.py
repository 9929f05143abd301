"""Records that the database refuses wait or are set aside, and the log says so."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from msgspec.structs import replace

from llm_routing.ledger import journal, shipping, store
from llm_routing.ledger.shipping import Ledger
from llm_routing.ledger.store import SET_ASIDE
from llm_routing.models import UsageRecord
from llm_routing.models.usage import UsageRecordQuerySet

from .attempts import opened, refuse_records, settled, write

DATABASE_ERRORS = (DatabaseError, InterfaceError)


def write_bad(ledger: Ledger) -> str:
    """Writes a record that fits no column and returns the id of its attempt."""
    attempt = opened()
    ledger.opened(attempt)
    ledger.settled(replace(settled(attempt), status=2**70))
    return attempt.id


@contextmanager
def renamed_column() -> Iterator[None]:
    """Has the table lack a column, as one of another version does."""
    field = UsageRecord._meta.get_field("cost")
    other = field.clone()
    other.set_attributes_from_name("other")
    with connection.schema_editor() as editor:
        for constraint in UsageRecord._meta.constraints:
            editor.remove_constraint(UsageRecord, constraint)
        editor.alter_field(UsageRecord, field, other)
    try:
        yield
    finally:
        other.model = field.model
        with connection.schema_editor() as editor:
            editor.execute(f"ALTER TABLE {UsageRecord._meta.db_table} RENAME COLUMN other TO cost")
            for constraint in UsageRecord._meta.constraints:
                editor.add_constraint(UsageRecord, constraint)


@pytest.mark.django_db(transaction=True)
def test_all_records_wait_while_a_column_is_missing(
    ledger: Ledger, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with renamed_column():
        for _ in range(3):
            write(ledger)
        for _ in range(4):
            with pytest.raises(DATABASE_ERRORS):
                ledger.ship()
        assert "column is missing" in ledger.trouble
        assert ledger.recover() == 0, "a recovery without records does not show that storing works"
        assert "column is missing" in ledger.trouble
        assert caplog.text.count("Usage records wait") == 1
        assert ledger.backlog_bytes > 0
    assert ledger.ship() == 3
    assert ledger.trouble == ""
    assert "accepts usage records again" in caplog.text
    assert UsageRecord.objects.count() == 3
    assert (ledger.set_aside, ledger.lost) == (0, 0)
    assert not (directory / SET_ASIDE).exists()


@pytest.mark.django_db
def test_refused_records_are_found_by_bisection(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0
    add_rows = UsageRecordQuerySet.add_rows

    def counted(self: UsageRecordQuerySet, rows: Sequence[Mapping[str, Any]]) -> None:
        nonlocal asked
        asked += 1
        add_rows(self, rows)

    for _ in range(100):
        write(ledger)
    bad = [write_bad(ledger), write_bad(ledger)]
    for _ in range(100):
        write(ledger)
    monkeypatch.setattr(UsageRecordQuerySet, "add_rows", counted)
    ledger.ship()
    assert UsageRecord.objects.count() == 200
    assert ledger.set_aside == 2
    assert asked < 100
    assert caplog.text.count("set aside") == 1
    assert bad[0] in caplog.text
    assert ledger.ship() == 0


@pytest.mark.django_db
def test_records_set_aside_are_shipped_again_after_their_file_is_renamed(
    ledger: Ledger, directory: Path
) -> None:
    bad = write_bad(ledger)
    ledger.ship()
    aside = directory / SET_ASIDE
    assert aside.stat().st_mode & 0o777 == 0o600
    line = json.loads(aside.read_bytes()[1:])
    line["status"] = 200
    aside.write_text(f"S{json.dumps(line)}\n")
    aside.rename(directory / "again.jsonl")
    assert ledger.recover() == 1
    assert UsageRecord.objects.get().attempt_id == bad


@pytest.mark.django_db
def test_the_file_of_records_set_aside_is_bounded(
    ledger: Ledger, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_FILE_BYTES", 2_000)
    for _ in range(10):
        write_bad(ledger)
    ledger.ship()
    assert (directory / SET_ASIDE).stat().st_size <= 2_000
    assert ledger.set_aside > 0
    assert ledger.set_aside + ledger.lost == 10


@pytest.mark.django_db
def test_a_record_with_an_error_of_the_database_is_tried_three_times(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_rows = UsageRecordQuerySet.add_rows
    refused = opened()

    def locked(self: UsageRecordQuerySet, rows: Sequence[Mapping[str, Any]]) -> None:
        if any(row["attempt_id"] == refused.id for row in rows):
            raise OperationalError(1205, "Lock wait timeout exceeded")
        add_rows(self, rows)

    monkeypatch.setattr(UsageRecordQuerySet, "add_rows", locked)
    write(ledger)
    ledger.opened(refused)
    ledger.settled(settled(refused))
    write(ledger)
    for _ in range(2):
        with pytest.raises(OperationalError):
            ledger.ship()
        assert ledger.set_aside == 0
    ledger.ship()
    assert ledger.set_aside == 1
    assert UsageRecord.objects.count() == 2


@pytest.mark.django_db
def test_segments_are_bounded_while_the_database_accepts_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object, **__: object) -> None:
        raise OperationalError

    monkeypatch.setattr(journal, "SEGMENT_BYTES", 4_000)
    monkeypatch.setattr(shipping, "MAX_IN_MEMORY", 10)
    monkeypatch.setattr(journal, "PAUSE_SECONDS", 0.0)
    ledger = Ledger(directory, max_bytes=20_000)
    with monkeypatch.context() as patch:
        refuse_records(patch, unavailable)
        for _ in range(100):
            write(ledger)
        with pytest.raises(OperationalError):
            ledger.ship()
    assert sum(path.stat().st_size for path in directory.iterdir()) <= 20_000
    assert ledger.lost > 0
    lost = ledger.lost
    ledger.ship()
    assert UsageRecord.objects.count() + lost == 100
    ledger.close()
