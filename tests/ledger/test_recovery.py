"""Records survive killed processes, full disks and damaged files."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from textwrap import dedent

import pytest
from django.db import OperationalError

from llm_routing.ledger import journal, shipping
from llm_routing.ledger.lines import opened_line
from llm_routing.ledger.shipping import Ledger
from llm_routing.models import UsageRecord

from .attempts import lines_of_an_attempt, opened, refuse_records, settled, write

pytestmark = pytest.mark.django_db


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
    good = lines_of_an_attempt(directory)
    deep = b'S{"junk":' + b"[" * 5_000 + b"]" * 5_000 + b"}\n"
    (directory / "1-dead.jsonl").write_bytes(
        b"garbage\nO[1]\nO7\n" + deep + good + b'S{"opened": {"id"'
    )
    assert Ledger(directory).recover() == 1
    assert UsageRecord.objects.count() == 1


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


def test_a_directory_named_like_a_segment_is_skipped(directory: Path) -> None:
    good = lines_of_an_attempt(directory)
    (directory / "1-dir.jsonl").mkdir()
    (directory / "2-good.jsonl").write_bytes(good)
    assert Ledger(directory).recover() == 1
    assert UsageRecord.objects.count() == 1
