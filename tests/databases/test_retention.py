"""Old usage records are removed, in batches; the others stay."""

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from llm_routing.ledger import retention
from llm_routing.models import UsageRecord
from tests import rows

from .conftest import NewHost

pytestmark = pytest.mark.django_db


def write(days_old: float, count: int = 1) -> None:
    started = datetime.now(UTC) - timedelta(days=days_old)
    before = UsageRecord.objects.count()
    for number in range(count):
        rows.usage(f"{before + number}", started)


def test_old_records_go_in_batches_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_routing.ledger.retention.BATCH", 3)
    monkeypatch.setattr("llm_routing.management.commands.llm_prune.BATCH", 3)
    write(31, 7)
    write(29, 2)
    output = io.StringIO()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        call_command("llm_prune", "--days", "30", stdout=output)
    assert "Removed 7 usage records" in output.getvalue()
    assert UsageRecord.objects.count() == 2
    assert sum(query["sql"].startswith("DELETE") for query in queries.captured_queries) == 3
    call_command("llm_prune", "--days", "30", stdout=output)
    assert UsageRecord.objects.count() == 2


def test_the_settings_say_how_long_they_are_kept(settings, tmp_path: Path) -> None:
    write(31)
    settings.LLM_ROUTING = {"STATE_DIR": tmp_path}
    with pytest.raises(CommandError, match="USAGE_RETENTION_DAYS"):
        call_command("llm_prune")
    settings.LLM_ROUTING = {"STATE_DIR": tmp_path, "USAGE_RETENTION_DAYS": 30}
    call_command("llm_prune", stdout=io.StringIO())
    assert not UsageRecord.objects.exists()


@pytest.mark.parametrize("days", ["0", "-1", "nan", "1e9"])
def test_an_invalid_number_of_days_removes_nothing(days: str) -> None:
    write(31)
    with pytest.raises(CommandError):
        call_command("llm_prune", "--days", days)
    assert UsageRecord.objects.count() == 1


def test_a_batch_takes_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 1)
    write(40)
    write(50)
    assert retention.prune_batch(30) == 1
    (left,) = UsageRecord.objects.all()
    assert left.attempt_id == "0"


def test_a_running_process_removes_them_by_itself(new_host: NewHost) -> None:
    host = new_host('LLM_ROUTING = {"USAGE_RETENTION_DAYS": 30}')
    ended = host.script(
        """
        import time
        from datetime import UTC, datetime, timedelta
        from django.core.management import call_command
        call_command("migrate", verbosity=0)
        from llm_routing.models import UsageRecord
        from tests import rows
        rows.usage("old", datetime.now(UTC) - timedelta(days=31))
        rows.usage("new", datetime.now(UTC))
        from llm_routing import get_llm_router_sync
        get_llm_router_sync()
        deadline = time.monotonic() + 60
        while UsageRecord.objects.count() > 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        print(UsageRecord.objects.get().attempt_id)
        """
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "new\n"
