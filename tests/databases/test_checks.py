"""`manage.py check` prevents a start that would lose records, and names the remedy."""

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import NotSupportedError, connection, connections

from llm_routing.ledger.database_checks import check_database_server, check_database_settings
from llm_routing.ledger.lines import columns
from llm_routing.ledger.store import SET_ASIDE, RecordStore, reason_of
from llm_routing.models import UsageRecord
from tests.ledger.attempts import opened, settled

from .conftest import NewHost


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ('DATABASES["default"] = {}', "has no engine"),
        ('DATABASES["default"]["AUTOCOMMIT"] = False', "AUTOCOMMIT off"),
        ('DATABASE_ROUTERS = ["host_router.Router"]', "which DATABASES lacks"),
    ],
)
def test_a_project_that_would_lose_records_does_not_start(
    new_host: NewHost, settings: str, sentence: str
) -> None:
    host = new_host(settings)
    (host.directory / "host_router.py").write_text(
        "class Router:\n    def db_for_write(self, model, **hints):\n        return 'nowhere'\n"
    )
    ended = host.manage("check")
    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert "HINT" in ended.stderr


@pytest.mark.django_db
def test_without_a_check_records_wait_while_nothing_would_be_committed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server starts without `manage.py check`."""
    monkeypatch.setitem(connection.settings_dict, "AUTOCOMMIT", False)
    attempt = settled(opened())
    with pytest.raises(NotSupportedError) as refused:
        RecordStore(Path("nowhere")).add([attempt])
    assert "AUTOCOMMIT" in reason_of(refused.value)
    monkeypatch.undo()
    RecordStore(Path("nowhere")).add([attempt])
    assert UsageRecord.objects.count() == 1


def test_another_database_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "vendor", "oracle")
    monkeypatch.setattr(connection, "display_name", "Oracle")
    with pytest.raises(SystemCheckError, match="E011"):
        call_command("check")
    assert "Oracle" in str(check_database_settings()[0])


@pytest.mark.django_db
def test_a_database_that_is_not_strict_is_refused_and_gets_no_record() -> None:
    if connection.vendor != "mysql":
        pytest.skip("of MySQL and MariaDB")

    def forget() -> None:
        for name in ("mysql_server_data", "sql_mode"):
            connections["default"].__dict__.pop(name, None)

    assert check_database_server(databases=["default"]) == []
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode = ''")
    forget()
    try:
        assert [found.id for found in check_database_server(databases=["default"])] == [
            "llm_routing.E014"
        ]
        with pytest.raises(NotSupportedError, match="strict"):
            UsageRecord.objects.add_rows([columns(settled(opened()))])
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_mode = DEFAULT")
        forget()


@pytest.mark.django_db
def test_an_old_server_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "vendor": "mysql",
        "mysql_is_mariadb": True,
        "mysql_version": (10, 5, 9),
        "sql_mode": {"STRICT_TRANS_TABLES"},
    }.items():
        monkeypatch.setattr(connection, name, value, raising=False)
    (found,) = check_database_server(databases=["default"])
    assert found.id == "llm_routing.E013"
    assert "10.6" in found.msg


def test_records_that_were_set_aside_are_reported(settings: Any, tmp_path: Path) -> None:
    settings.LLM_ROUTING = {"STATE_DIR": tmp_path}
    assert check_database_settings() == []
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / SET_ASIDE).write_bytes(b"S{}\n")
    assert [found.id for found in check_database_settings()] == ["llm_routing.W007"]
