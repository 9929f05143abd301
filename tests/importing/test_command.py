"""The command as an operator and a script meet it."""

import json
import subprocess
import sys
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from llm_routing.models import Provider, UseCaseRoute
from project.processes import ROOT

from .conftest import KEYS, SAMPLES, SECRETS

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


def call(path, *arguments):
    """Exit status and output."""
    out = StringIO()
    try:
        call_command(
            "migrate_llm_router", "--from", str(path), *arguments, stdout=out, no_color=True
        )
    except SystemExit as end:
        return end.code, out.getvalue()
    return 0, out.getvalue()


def test_exit_status_0_means_that_everything_is_imported(written):
    path = written("MODEL_MAPPINGS = {'debugging': 'openai/gpt-6-luna'}\n")
    status, out = call(path)
    assert status == 0
    assert out.splitlines() == [
        "Read as: model mappings.",
        "  created provider openai",
        "  created model openai/gpt-6-luna",
        "  created route debugging:standard (openai/gpt-6-luna)",
        "Done: 3 created.",
    ]
    assert call(path) == (0, "Read as: model mappings.\nNothing to do.\n")


def test_exit_status_1_means_that_a_setting_has_no_equivalent():
    status, out = call(SAMPLES / "config.yaml")
    assert status == 1
    assert "No equivalent:\n" in out
    assert "  guardrails: guardrails are not supported.\n" in out
    assert "Not taken over: " in out.splitlines()[-1]
    assert UseCaseRoute.objects.filter(use_case="support").exists()
    assert not any(secret in out for secret in SECRETS)


def test_2_says_that_it_could_not_run(written, tmp_path):
    for path in (written("x = 1\n"), tmp_path / "none.yaml"):
        with pytest.raises(CommandError) as caught:
            call(path)
        assert caught.value.returncode == 2
    assert not Provider.objects.exists()


def test_a_dry_run_prints_the_plan():
    _, out = call(SAMPLES / "hard_coded_router.py", "--dry-run")
    assert "created route code_generation:premium (anthropic/claude-opus-5-5 > openai/" in out
    assert "Would be: " in out
    assert not Provider.objects.exists()


def test_json_is_for_scripts():
    status, out = call(SAMPLES / "config.yaml", "--json")
    report = json.loads(out)
    assert status == 1
    assert (report["source"], report["dry_run"]) == ("LiteLLM configuration", False)
    assert {"kind": "route", "name": "chat:standard"}.items() <= next(
        change for change in report["changes"] if change["name"] == "chat:standard"
    ).items()
    assert report["unmapped"]
    assert not any(secret in out for secret in SECRETS)


def test_names_through_another_vendor(written):
    path = written("MODEL_MAPPINGS = {'debugging': 'anthropic/claude-opus-5.5'}\n")
    call(path, "--through", "openrouter")
    assert [row.name for row in Provider.objects.all()] == ["openrouter"]


@pytest.mark.parametrize(
    "command",
    [
        "create_llm_key ci",
        "llm_discover_models",
        "llm_health_sweep",
        "llm_prune --days 1",
        "migrate_llm_router --from PATH",
        "setup_llm_configuration",
    ],
)
def test_without_tables_a_command_names_the_command_that_creates_them(command, written, tmp_path):
    path = written("MODEL_MAPPINGS = {'debugging': 'openai/gpt-6-luna'}\n")
    arguments = command.replace("PATH", str(path)).split()
    outcome = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={
            "DATABASE_URL": f"sqlite:///{tmp_path}/new.sqlite3",
            "DJANGO_SECRET_KEY": "tests",
            "DJANGO_VAR_DIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert outcome.returncode == 2
    assert outcome.stderr == (
        "CommandError: The database cannot be used: OperationalError. "
        "If it has no tables yet: manage.py migrate\n"
    )
