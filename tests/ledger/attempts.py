"""Attempts for tests of the ledger, and a database that accepts no records."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest

from llm_routing.core.ports import AttemptOpened, AttemptSettled
from llm_routing.core.types import AttemptOutcome, Caller, Usage
from llm_routing.ledger.shipping import Ledger
from llm_routing.models import UsageRecord
from llm_routing.models.usage import UsageRecordQuerySet


def opened() -> AttemptOpened:
    return AttemptOpened(
        id=uuid4().hex,
        request_id="req_1",
        caller=Caller("acme", "ci"),
        operation="chat",
        use_case="debugging",
        tier="premium",
        provider="openai",
        model="gpt",
        number=2,
        started_at=datetime(2026, 11, 23, 12, 0, tzinfo=UTC),
        input_tokens=7,
        input_price=Decimal("2.5"),
    )


def settled(attempt: AttemptOpened) -> AttemptSettled:
    return AttemptSettled(
        opened=attempt,
        outcome=AttemptOutcome.SUCCESS,
        error_code="",
        status=200,
        usage=Usage(100, 20, cached_input_tokens=40, reasoning_tokens=5),
        cost=Decimal("0.0000012345"),
        latency_ms=12.5,
        time_to_first_token_ms=3.5,
    )


def write(ledger: Ledger) -> AttemptOpened:
    attempt = opened()
    ledger.opened(attempt)
    ledger.settled(settled(attempt))
    return attempt


def lines_of_an_attempt(directory: Path) -> bytes:
    """Returns the lines of an attempt that has a segment but no record."""
    ledger = Ledger(directory)
    write(ledger)
    (path,) = directory.glob("*.jsonl")
    lines = path.read_bytes()
    ledger.close()
    UsageRecord.objects.all().delete()
    return lines


def refuse_records(patch: pytest.MonkeyPatch, query: Callable[..., None]) -> None:
    """Has the database refuse every record: `query` is called in place of the queries."""
    patch.setattr(UsageRecord.objects, "add_rows", query)
    patch.setattr(UsageRecordQuerySet, "check_row", query)
