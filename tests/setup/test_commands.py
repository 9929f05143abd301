"""The two commands as an operator and a script meet them."""

import json
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from llm_routing.models import ApiKey, Provider
from llm_routing.models.access import key_digest
from tests.threads import at_once

pytestmark = pytest.mark.django_db


def call(*arguments: str, **options: Any) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command(*arguments, stdout=out, stderr=err, no_color=True, **options)
    return out.getvalue(), err.getvalue()


class TestSetup:
    def test_the_summary_names_providers_keys_and_routes(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
        out, err = call("setup_llm_configuration")
        lines = out.splitlines()
        assert any(line.split()[:3] == ["openai", "openai", "active"] for line in lines)
        assert any("ANTHROPIC_API_KEY is not set" in line for line in lines)
        assert any(line.startswith("debugging") and "openai/gpt-6-astra" in line for line in lines)
        assert lines[-1].startswith("Done: ")
        assert "sk-very-secret" not in out
        assert err == ""

    def test_a_sandbox_beside_a_real_provider_is_reported(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
        call("setup_llm_configuration")
        Provider.objects.filter(name="sandbox").update(is_active=True)
        _, err = call("setup_llm_configuration")
        assert "answers only if it is the only target of a route or is requested by name" in err

    def test_an_address_that_lacks_its_path_gets_a_hint(self):
        call("setup_llm_configuration")
        Provider.objects.filter(name="openai").update(
            base_url="https://llm.example", is_active=True
        )
        _, err = call("setup_llm_configuration")
        assert "openai: " in err
        assert "ends with /v1" in err

    def test_a_second_run_reports_nothing_to_do(self):
        call("setup_llm_configuration")
        assert call("setup_llm_configuration")[0].splitlines()[-1] == "Nothing to do."

    def test_verbosity_decides_between_silence_a_summary_and_every_row(self):
        assert call("setup_llm_configuration", verbosity=0, dry_run=True) == ("", "")
        summary = call("setup_llm_configuration", dry_run=True)[0]
        full = call("setup_llm_configuration", dry_run=True, verbosity=2)[0]
        assert "google/gemini-4-argon" not in summary
        assert "google/gemini-4-argon" in full

    def test_the_command_that_starts_the_sandbox_is_named_while_it_answers(self, monkeypatch):
        lines = call("setup_llm_configuration")[0].splitlines()
        assert "The sandbox answers while it runs: python manage.py llm_sandbox" in lines
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        assert "llm_sandbox" not in call("setup_llm_configuration")[0]

    def test_a_dry_run_writes_nothing(self):
        out, _ = call("setup_llm_configuration", "--dry-run")
        assert "Would be: " in out
        assert not Provider.objects.exists()

    def test_json_is_for_scripts(self):
        first = json.loads(call("setup_llm_configuration", "--json")[0])
        assert (first["dry_run"], first["changed"]) == (False, True)
        assert first["changes"][0] == {
            "kind": "provider",
            "name": "portkey",
            "action": "created",
            "reason": "inactive: PORTKEY_API_KEY is not set",
        }
        assert {
            "name": "sandbox",
            "vendor": "sandbox",
            "is_active": True,
            "key": "needs no key",
        } in first["providers"]
        assert len(first["routes"]) == 24
        second = json.loads(call("setup_llm_configuration", "--json", "--dry-run")[0])
        assert (second["dry_run"], second["changed"], second["changes"]) == (True, False, [])

    def test_warnings_go_to_the_error_stream(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        call("setup_llm_configuration")
        monkeypatch.delenv("OPENAI_API_KEY")
        out, err = call("setup_llm_configuration", verbosity=0)
        assert out == ""
        assert "openai" in err

    def test_an_active_provider_without_its_key_is_reported_with_the_variable(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        call("setup_llm_configuration")
        monkeypatch.delenv("OPENAI_API_KEY")
        _, err = call("setup_llm_configuration")
        assert "openai is active, but its key is not configured here: set OPENAI_API_KEY" in err

    def test_deletions_are_owned_up_to(self):
        call("setup_llm_configuration")
        Provider.objects.get(name="vllm").delete()
        assert "Left alone" in call("setup_llm_configuration")[0]


class TestCreateKey:
    def test_prints_a_key_that_works_and_is_not_kept(self):
        out, _ = call("create_llm_key", "ci")
        clear_text = next(line for line in out.splitlines() if line.startswith("sk-llm-"))
        row = ApiKey.objects.get(name="ci")
        assert row.digest == key_digest(clear_text)
        assert (row.tenant, row.is_active, row.expires_at) == ("default", True, None)
        assert clear_text not in str(list(ApiKey.objects.values()))

    def test_json_is_exactly_name_key_and_prefix(self):
        out, err = call("create_llm_key", "ci", "--json", "--tenant", "team-b")
        answer = json.loads(out)
        assert sorted(answer) == ["key", "name", "prefix"]
        assert answer["name"] == "ci"
        assert answer["key"].startswith(answer["prefix"])
        assert len(answer["key"]) == len("sk-llm-") + 43
        assert ApiKey.objects.get(name="ci").tenant == "team-b"
        assert err == ""

    def test_only_the_key_goes_to_stdout(self):
        out, _ = call("create_llm_key", "ci", verbosity=0)
        (key,) = out.splitlines()
        assert ApiKey.objects.get(name="ci").digest == key_digest(key)

    def test_a_key_may_read_metrics_if_it_is_to(self):
        call("create_llm_key", "ci")
        call("create_llm_key", "prometheus", "--metrics")
        may = dict(ApiKey.objects.values_list("name", "reads_metrics"))
        assert may == {"ci": False, "prometheus": True}

    def test_blanks_at_the_ends_of_a_name_are_no_part_of_it(self):
        call("create_llm_key", " ci ", "--tenant", " team-b ")
        assert ApiKey.objects.values_list("name", "tenant").get() == ("ci", "team-b")
        with pytest.raises(CommandError, match="already an API key named 'ci'"):
            call("create_llm_key", "ci ")

    def test_a_name_is_taken_once(self):
        call("create_llm_key", "ci")
        with pytest.raises(CommandError, match="already an API key named 'ci'") as caught:
            call("create_llm_key", "ci")
        assert caught.value.returncode == 1
        assert ApiKey.objects.count() == 1

    @pytest.mark.django_db(transaction=True)
    def test_the_second_of_two_processes_gets_an_error_for_a_duplicate_name(self):
        made, (error,) = at_once(2, lambda _: call("create_llm_key", "ci"))
        assert len(made) == 1
        assert isinstance(error, CommandError)
        assert str(error).startswith("There i")
        assert ApiKey.objects.count() == 1

    @pytest.mark.parametrize(
        "arguments", [("",), ("x" * 101,), ("ci", "--tenant", "no slug"), ("ci", "--tenant", "")]
    )
    def test_a_bad_name_or_tenant_is_refused(self, arguments):
        with pytest.raises(CommandError):
            call("create_llm_key", *arguments)
        assert not ApiKey.objects.exists()

    def test_a_key_may_expire_after_some_days(self):
        call("create_llm_key", "ci", "--expires", "30")
        expires_at = ApiKey.objects.get().expires_at
        assert expires_at is not None
        left = expires_at - timezone.now()
        assert timedelta(days=29, hours=23) < left <= timedelta(days=30)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2999-01-31", "2999-01-31T00:00:00+00:00"),
            ("2999-01-31T12:30", "2999-01-31T12:30:00+00:00"),
            ("2999-01-31T12:30:00+02:00", "2999-01-31T10:30:00+00:00"),
            ("2999-01-31T12:30:00Z", "2999-01-31T12:30:00+00:00"),
        ],
    )
    def test_a_key_may_expire_at_a_moment(self, text, expected):
        call("create_llm_key", "ci", "--expires", text)
        assert ApiKey.objects.get().expires_at == datetime.fromisoformat(expected)

    @pytest.mark.parametrize(
        "text",
        ["0", "-3", "soon", "2001-01-01", "2999-13-01", "99999999999", "9999-12-31T23:59-23"],
    )
    def test_an_invalid_or_past_date_is_rejected(self, text):
        with pytest.raises(CommandError):
            call("create_llm_key", "ci", f"--expires={text}")
        assert not ApiKey.objects.exists()
