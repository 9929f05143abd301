"""Every attempt written to the ledger is stored in the database, once, whatever is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.db.transaction import TransactionManagementError
from msgspec.structs import replace

from llm_routing.core.types import Usage
from llm_routing.ledger import journal, shipping
from llm_routing.ledger.lines import columns, opened_line, settled_line
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


def test_nothing_is_lost_while_the_database_is_unavailable(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object, **__: object) -> None:
        raise OperationalError

    write(ledger)
    with monkeypatch.context() as patch:
        refuse_records(patch, unavailable)
        with pytest.raises(OperationalError):
            ledger.ship()
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
        assert may_fail.wait(30)
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
        assert under_way.wait(30)
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


def test_the_attempts_of_a_killed_process_are_recovered(directory: Path) -> None:
    script = dedent(
        """
        import django, sys; django.setup()
        from pathlib import Path
        from tests.ledger.attempts import Ledger, opened, write
        ledger = Ledger(Path(sys.argv[1]))
        write(ledger); write(ledger); ledger.opened(opened())
        print("written", flush=True)
        sys.stdin.read()
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    survivor = Ledger(directory)
    assert survivor.recover() == 0, "the segment of a running process is not recovered"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert survivor.recover() == 3
    outcomes = list(UsageRecord.objects.order_by("outcome").values_list("outcome", flat=True))
    assert outcomes == ["interrupted", "success", "success"]
    lost = UsageRecord.objects.get(outcome="interrupted")
    assert (lost.input_tokens, lost.output_tokens, lost.is_estimated) == (7, 0, True)
    assert lost.cost == Decimal("0.0000175")
    assert not list(directory.iterdir())
    assert survivor.recover() == 0


@pytest.mark.parametrize(
    "price",
    [
        {},
        *({"input_price": price} for price in (None, "much", "Infinity", "9E+999999")),
    ],
)
def test_an_attempt_without_a_price_is_interrupted_without_a_cost(
    directory: Path, price: Mapping[str, str | None]
) -> None:
    attempt = json.loads(opened_line(opened())[1:])
    del attempt["input_price"]
    directory.mkdir()
    (directory / "1-dead.jsonl").write_text(f"O{json.dumps(attempt | price)}\n")
    assert Ledger(directory).recover() == 1
    assert UsageRecord.objects.get().cost is None


def test_an_unreadable_line_loses_only_itself(directory: Path) -> None:
    first = Ledger(directory)
    write(first)
    (path,) = directory.glob("*.jsonl")
    good = path.read_bytes()
    first.close()
    UsageRecord.objects.all().delete()
    deep = b'S{"junk":' + b"[" * 5_000 + b"]" * 5_000 + b"}\n"
    (directory / "1-dead.jsonl").write_bytes(
        b"garbage\nO[1]\nO7\n" + deep + good + b'S{"opened": {"id"'
    )
    assert Ledger(directory).recover() == 1
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


def no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_records_wait_in_memory_while_the_disk_is_full(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    ledger = Ledger(directory, monotonic=lambda: now)
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1000)
    write(ledger)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", no_space)
        for _ in range(20):
            write(ledger)
        assert ledger.unwritten
        assert caplog.text.count("The ledger cannot be written") == 1, "it pauses after a failure"
    now += journal.PAUSE_SECONDS
    write(ledger)
    assert ledger.ship() == 22
    assert UsageRecord.objects.count() == 22
    assert ledger.lost == 0
    ledger.close()


def test_records_in_memory_survive_a_failed_shipment(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_another(*_: object, **__: object) -> None:
        write(ledger)
        raise OperationalError

    def refuse(*_: object, **__: object) -> None:
        raise OperationalError

    monkeypatch.setattr(shipping, "MAX_IN_MEMORY", 5)
    monkeypatch.setattr(os, "posix_fallocate", no_space)
    for _ in range(5):
        write(ledger)
    with monkeypatch.context() as patch:
        refuse_records(patch, refuse)
        patch.setattr(UsageRecord.objects, "add_rows", write_another)
        with pytest.raises(OperationalError):
            ledger.ship()
    assert (ledger.unwritten, ledger.lost) == (5, 1)
    assert ledger.ship() == 5
    assert UsageRecord.objects.count() == 5


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


def test_an_unfinished_segment_of_an_ended_process_is_removed(directory: Path) -> None:
    directory.mkdir()
    (directory / "1-dead.new").write_bytes(bytes(4096))
    assert Ledger(directory).recover() == 0
    assert not list(directory.iterdir())


def test_only_the_owner_can_read_segments(ledger: Ledger, directory: Path) -> None:
    write(ledger)
    (path,) = directory.glob("*.jsonl")
    assert path.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_full_segment_survives_a_failed_shipment(
    ledger: Ledger, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object, **__: object) -> None:
        raise OperationalError

    monkeypatch.setattr(journal, "SEGMENT_BYTES", 2000)
    for _ in range(3):
        write(ledger)
    with monkeypatch.context() as patch:
        refuse_records(patch, unavailable)
        with pytest.raises(OperationalError):
            ledger.ship()
        write(ledger)
    assert len(list(directory.glob("*.jsonl"))) > 1
    assert ledger.ship() == 4
    assert UsageRecord.objects.count() == 4
    assert len(list(directory.glob("*.jsonl"))) == 1


def test_an_attempt_in_two_abandoned_segments_is_stored_once(
    directory: Path,
) -> None:
    first = Ledger(directory)
    attempt = opened()
    first.opened(attempt)
    (path,) = directory.glob("*.jsonl")
    carried = path.read_bytes()
    first.settled(settled(attempt))
    whole = path.read_bytes()
    first.close()
    UsageRecord.objects.all().delete()
    (directory / "1-aaa.jsonl").write_bytes(carried)
    (directory / "1-bbb.jsonl").write_bytes(whole)
    assert Ledger(directory).recover() == 1
    assert UsageRecord.objects.get().outcome == "success"


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


def test_a_directory_named_like_a_segment_is_skipped(directory: Path) -> None:
    first = Ledger(directory)
    write(first)
    (path,) = directory.glob("*.jsonl")
    good = path.read_bytes()
    first.close()
    UsageRecord.objects.all().delete()
    (directory / "1-dir.jsonl").mkdir()
    (directory / "2-good.jsonl").write_bytes(good)
    assert Ledger(directory).recover() == 1
    assert UsageRecord.objects.count() == 1


def test_rows_are_refused_in_a_transaction_that_will_be_rolled_back(ledger: Ledger) -> None:
    """They would be lost without an error."""
    write(ledger)
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            UsageRecord.objects.add_rows([columns(settled(opened()))])
    assert ledger.ship() == 1
    assert UsageRecord.objects.count() == 1
