"""Every attempt written to the ledger is stored in the database, once."""

import json
import threading
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.db.transaction import TransactionManagementError
from msgspec.structs import replace

from llm_routing.core.types import Usage
from llm_routing.ledger import journal, segments, shipping
from llm_routing.ledger.lines import columns, settled_line
from llm_routing.ledger.shipping import Ledger
from llm_routing.models import UsageRecord
from llm_routing.models.usage import UsageRecordQuerySet

from .attempts import opened, refuse_records, settled, write

pytestmark = pytest.mark.django_db


def test_a_settled_attempt_is_stored_with_all_its_fields(ledger: Ledger) -> None:
    attempt = write(ledger)
    assert ledger.ship() == 1
    record = UsageRecord.objects.get()
    assert str(record.attempt_id).replace("-", "") == attempt.id
    assert (record.tenant, record.api_key_name, record.attempt) == ("acme", "ci", 2)
    assert (record.input_tokens, record.output_tokens) == (100, 20)
    assert (record.cached_input_tokens, record.reasoning_tokens) == (40, 5)
    assert record.cost == Decimal("0.0000012345")
    assert record.started_at == attempt.started_at
    assert ledger.ship() == 0


def test_an_open_attempt_is_stored_when_it_ends(ledger: Ledger) -> None:
    attempt = opened()
    ledger.opened(attempt)
    assert ledger.ship() == 0
    ledger.settled(settled(attempt))
    assert ledger.ship() == 1


def fail_to_ship(ledger: Ledger, patch: pytest.MonkeyPatch) -> None:
    """Ships while the database is unavailable, which it is until `patch` is undone."""

    def unavailable(*_: object, **__: object) -> None:
        raise OperationalError

    refuse_records(patch, unavailable)
    with pytest.raises(OperationalError):
        ledger.ship()


def test_nothing_is_lost_while_the_database_is_unavailable(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(ledger)
    with monkeypatch.context() as patch:
        fail_to_ship(ledger, patch)
        write(ledger)
    assert ledger.backlog_bytes > 0
    assert ledger.ship() == 2
    assert ledger.backlog_bytes == 0
    assert UsageRecord.objects.count() == 2


def test_records_are_shipped_in_portions_with_a_pause_after_each(ledger: Ledger) -> None:
    for _ in range(2 * shipping.PACED_ROWS + 1):
        write(ledger)
    stored: list[int] = []

    def pause(seconds: float) -> None:
        assert seconds >= 0
        stored.append(UsageRecord.objects.count())

    assert ledger.ship(pause) == 2 * shipping.PACED_ROWS + 1
    rows = shipping.PACED_ROWS
    assert stored == [rows, 2 * rows, 2 * rows + 1]


def test_a_paced_shipment_leaves_the_rest_of_a_large_backlog_to_the_next(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "MAX_IN_MEMORY", 2)
    monkeypatch.setattr(segments, "BATCH", 1)
    monkeypatch.setattr(segments, "READ_BYTES", 1000)
    now = 0.0

    def pause(_seconds: float) -> None:
        nonlocal now
        now += shipping.MAX_PACED_SECONDS

    ledger = Ledger(directory, monotonic=lambda: now)
    for _ in range(4):
        write(ledger)
    shipped = [ledger.ship(pause) for _ in range(8)]
    assert sum(shipped) == 4
    assert max(shipped) < 4
    assert ledger.backlog_bytes == 0
    ledger.close()


def test_records_past_the_limit_of_memory_are_read_from_disk(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "MAX_IN_MEMORY", 2)
    for number in range(3, 8):
        for _ in range(number):
            write(ledger)
        assert ledger.ship() == number
    write(ledger)
    assert ledger.ship() == 1
    assert ledger.backlog_bytes == 0
    assert UsageRecord.objects.count() == 26


def test_an_attempt_settled_during_a_shipment_is_in_the_next_one(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_rows = UsageRecord.objects.add_rows

    def slow(rows: Sequence[Mapping[str, Any]]) -> None:
        patch.undo()
        write(ledger)
        add_rows(rows)

    with monkeypatch.context() as patch:
        patch.setattr(UsageRecord.objects, "add_rows", slow)
        write(ledger)
        assert ledger.ship() == 1
    assert UsageRecord.objects.count() == 1
    assert ledger.backlog_bytes > 0
    assert ledger.ship() == 1
    assert UsageRecord.objects.count() == 2
    assert ledger.backlog_bytes == 0


def test_a_shipment_that_fails_loses_nothing_to_a_concurrent_one(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example when the background thread ships while another thread closes the ledger."""
    under_way, may_fail = threading.Event(), threading.Event()
    add_rows = UsageRecord.objects.add_rows

    def failing(rows: Sequence[Mapping[str, Any]]) -> None:
        patch.setattr(UsageRecord.objects, "add_rows", add_rows)
        under_way.set()
        assert may_fail.wait(90)
        raise OperationalError

    def ship() -> None:
        with pytest.raises(OperationalError):
            ledger.ship()

    write(ledger)
    with monkeypatch.context() as patch:
        patch.setattr(UsageRecord.objects, "add_rows", failing)
        patch.setattr(UsageRecordQuerySet, "check_row", failing)
        first = threading.Thread(target=ship)
        first.start()
        assert under_way.wait(90)
        write(ledger)
        threading.Timer(0.1, may_fail.set).start()
        ledger.ship()
        first.join()
    ledger.ship()
    assert UsageRecord.objects.count() == 2
    assert ledger.backlog_bytes == 0


def test_a_record_shipped_twice_is_stored_once(directory: Path) -> None:
    first = Ledger(directory)
    write(first)
    (path,) = directory.glob("*.jsonl")
    copy = path.read_bytes()
    first.close()
    assert not list(directory.iterdir())
    (directory / "1-dead.jsonl").write_bytes(copy)
    Ledger(directory).recover()
    assert UsageRecord.objects.count() == 1


def test_open_attempts_are_carried_over_to_the_next_segment(
    ledger: Ledger, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 2000)
    pending = opened()
    ledger.opened(pending)
    (first,) = directory.glob("*.jsonl")
    for _ in range(5):
        write(ledger)
    later = set(directory.glob("*.jsonl")) - {first}
    assert len(later) >= 2
    assert all(pending.id in path.read_text() for path in later)
    assert ledger.ship() == 5
    (last,) = directory.glob("*.jsonl")
    assert pending.id in last.read_text()
    ledger.settled(settled(pending))
    assert ledger.ship() == 1
    assert UsageRecord.objects.count() == 6


def test_a_segment_has_room_for_all_open_attempts(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1000)
    pending = [opened() for _ in range(20)]
    for attempt in pending:
        ledger.opened(attempt)
    for attempt in pending:
        ledger.settled(settled(attempt))
    assert ledger.ship() == 20
    assert UsageRecord.objects.count() == 20


def test_records_of_many_threads_are_all_stored(ledger: Ledger) -> None:
    threads = [
        threading.Thread(target=lambda: [write(ledger) for _ in range(50)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.ship() == 400
    assert UsageRecord.objects.count() == 400


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("opened.request_id", {"a": 1}),
        ("opened.caller.tenant", None),
        ("opened.number", -1),
        ("cost", "NaN"),
        ("cost", -1),
        ("latency_ms", None),
        ("outcome", "splendid"),
    ],
)
def test_a_line_with_an_invalid_value_loses_only_itself(
    directory: Path, caplog: pytest.LogCaptureFixture, path: str, value: object
) -> None:
    lines = []
    for number in range(3):
        attempt = opened()
        line = json.loads(settled_line(settled(attempt))[1:])
        *owners, name = path.split(".")
        owner = line
        for each in owners:
            owner = owner[each]
        if number == 1:
            owner[name] = value
        lines.append(f"S{json.dumps(line)}\n")
    directory.mkdir()
    (directory / "1-dead.jsonl").write_text("".join(lines))
    Ledger(directory).recover()
    assert UsageRecord.objects.count() == 2
    assert "set aside" in caplog.text
    (aside,) = directory.iterdir()
    assert aside.name == "set_aside"
    assert aside.read_bytes().count(b"\n") == 1


def test_a_full_segment_survives_a_failed_shipment(
    ledger: Ledger, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 2000)
    for _ in range(3):
        write(ledger)
    with monkeypatch.context() as patch:
        fail_to_ship(ledger, patch)
        write(ledger)
    assert len(list(directory.glob("*.jsonl"))) > 1
    assert ledger.ship() == 4
    assert UsageRecord.objects.count() == 4
    assert len(list(directory.glob("*.jsonl"))) == 1


def test_a_count_that_is_too_large_is_capped(ledger: Ledger) -> None:
    write(ledger)
    attempt = opened()
    ledger.opened(attempt)
    ledger.settled(replace(settled(attempt), usage=Usage(10**30, 5)))
    write(ledger)
    assert ledger.ship() == 3
    assert UsageRecord.objects.filter(input_tokens=2**31 - 1).count() == 1


def test_a_record_that_the_database_refuses_loses_only_itself(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    write(ledger)
    attempt = opened()
    ledger.opened(attempt)
    ledger.settled(replace(settled(attempt), status=2**70))
    write(ledger)
    ledger.ship()
    assert UsageRecord.objects.count() == 2
    assert attempt.id in caplog.text
    write(ledger)
    ledger.ship()
    assert UsageRecord.objects.count() == 3


def test_rows_are_refused_in_a_transaction_that_will_be_rolled_back(ledger: Ledger) -> None:
    """They would be lost without an error."""
    write(ledger)
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            UsageRecord.objects.add_rows([columns(settled(opened()))])
    assert ledger.ship() == 1
    assert UsageRecord.objects.count() == 1
