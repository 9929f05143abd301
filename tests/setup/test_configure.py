"""Rows that setup writes, and rows that it must not change."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from llm_routing.configuration.catalogue import MODELS, ROUTES
from llm_routing.configuration.prices import ModelFacts
from llm_routing.models import (
    ConfigurationVersion,
    ModelConfig,
    Provider,
    RouteTarget,
    UseCaseRoute,
)
from llm_routing.setup import configure as module
from llm_routing.setup.configure import configure
from llm_routing.setup.report import Action, Report
from llm_routing.vendors import VENDORS
from tests.rows import contents
from tests.threads import at_once

pytestmark = pytest.mark.django_db

OPENAI = {"OPENAI_API_KEY": "sk-test"}
ANTHROPIC = {"ANTHROPIC_API_KEY": "sk-ant-test"}
DAY = date(2026, 11, 23)


def run(
    environ: Mapping[str, str] | None = None, *, today: date = DAY, dry_run: bool = False
) -> Report:
    return configure(environ=environ or {}, today=today, dry_run=dry_run)


def done(report: Report) -> set[tuple[str, str, str]]:
    return {(change.kind, change.name, change.action.value) for change in report.made}


def models_of(report: Report, use_case: str, tier: str = "standard") -> tuple[str, ...]:
    return next(r.models for r in report.routes if (r.use_case, r.tier) == (use_case, tier))


class TestFirstRun:
    def test_creates_every_provider_model_and_route(self):
        report = run()
        assert set(Provider.objects.values_list("name", "vendor")) == {(n, n) for n in VENDORS}
        assert ModelConfig.objects.count() == len(MODELS)
        assert UseCaseRoute.objects.count() == len(ROUTES) == 24
        assert {action for _, _, action in done(report)} == {"created"}

    def test_rows_stand_the_checks_of_the_admin(self):
        run(OPENAI)
        for row in (*Provider.objects.all(), *UseCaseRoute.objects.all()):
            row.full_clean()
        for row in (*ModelConfig.objects.all(), *RouteTarget.objects.all()):
            row.full_clean()

    def test_without_any_key_only_the_sandbox_is_active_and_every_route_ends_there(self):
        report = run()
        assert [p.name for p in Provider.objects.active()] == ["sandbox"]
        for route in report.routes:
            assert route.models == (f"sandbox/sandbox-{route.tier}",)
        assert report.warnings == ()

    def test_the_sandbox_has_the_address_from_the_settings(self, settings):
        settings.LLM_ROUTING = {"SANDBOX_URL": "http://127.0.0.1:9/"}
        run()
        assert Provider.objects.get(name="sandbox").base_url == "http://127.0.0.1:9/v1"

    @pytest.mark.parametrize("name", [name for name, v in VENDORS.items() if v.needs_key])
    def test_one_key_whichever_it_is_serves_every_route_and_the_sandbox_none(self, name):
        report = run({VENDORS[name].api_key_env: "k"})
        assert [p.name for p in Provider.objects.active()] == [name]
        assert len(report.routes) == 24
        for route in report.routes:
            assert len(route.models) == 1
            assert route.models[0].startswith(f"{name}/")

    def test_a_route_falls_back_on_another_vendor(self):
        report = run(OPENAI | ANTHROPIC)
        assert models_of(report, "debugging", "premium") == (
            "anthropic/claude-opus-5-5",
            "openai/gpt-6-astra",
        )
        assert models_of(report, "general_purpose") == (
            "openai/gpt-6.1-sol",
            "anthropic/claude-sonnet-5-5",
        )

    def test_embeddings_never_fall_back_on_other_vectors(self):
        report = run({"MISTRAL_API_KEY": "k", "GEMINI_API_KEY": "k"})
        found = {route.embeddings for route in report.routes if route.embeddings}
        assert found == {("google/gemini-embedding-2",)}

    def test_models_have_prices_windows_and_the_alias_an_unchanged_client_uses(self):
        run()
        model = ModelConfig.objects.get(alias="claude-opus-5-5")
        assert model.provider.name == "anthropic"
        assert (model.input_price, model.output_price) == (Decimal(4), Decimal(20))
        assert model.context_window == 1_000_000
        assert model.quirks == ["no_sampling"]

    def test_the_sandbox_costs_nothing(self):
        run()
        assert set(
            ModelConfig.objects.filter(provider__name="sandbox").values_list(
                "input_price", "output_price"
            )
        ) == {(Decimal(0), Decimal(0))}

    def test_the_history_names_the_import(self):
        run()
        for model in (Provider, ModelConfig, UseCaseRoute, RouteTarget):
            reasons = set(model.history.values_list("history_change_reason", flat=True))
            assert reasons == {"setup_llm_configuration"}

    def test_beside_an_operators_own_configuration_nothing_of_theirs_changes(self):
        theirs = Provider.objects.create(name="openai", vendor="vllm", base_url="http://[::1]/v1")
        ModelConfig.objects.create(provider=theirs, model_id="m", alias="gemini-4-argon")
        route = UseCaseRoute.objects.create(use_case="debugging", tier="premium")
        run(OPENAI)
        theirs.refresh_from_db()
        assert theirs.vendor == "vllm"
        assert [model.model_id for model in theirs.models.all()] == ["m"]
        assert route.targets.count() == 0
        assert ModelConfig.objects.get(alias="gemini-4-argon").provider == theirs
        assert ModelConfig.objects.get(model_id="gemini-4-argon").alias is None

    def test_an_operators_own_provider_replaces_the_sandbox(self):
        Provider.objects.create(name="ours", vendor="vllm", base_url="http://127.0.0.1:1/v1")
        run()
        assert not Provider.objects.get(name="sandbox").is_active


class TestLaterRuns:
    def test_a_second_run_changes_nothing_not_even_the_version(self):
        run(OPENAI)
        before = contents(), ConfigurationVersion.objects.current("routing")
        report = run(OPENAI)
        assert report.changes == ()
        assert (contents(), ConfigurationVersion.objects.current("routing")) == before

    def test_a_key_that_is_there_now_activates_its_provider_and_ends_the_sandbox(self):
        run()
        report = run(ANTHROPIC)
        assert done(report) == {
            ("provider", "anthropic", "activated"),
            ("provider", "sandbox", "deactivated"),
        }
        assert [p.name for p in Provider.objects.active()] == ["anthropic"]

    def test_a_provider_that_an_operator_switched_off_stays_off(self):
        run(OPENAI)
        provider = Provider.objects.get(name="openai")
        provider.is_active = False
        provider.save()
        assert run(OPENAI).made == ()
        assert not Provider.objects.get(name="openai").is_active

    def test_a_provider_that_was_merely_edited_is_not_activated(self):
        run()
        Provider.objects.filter(name="groq").update(notes="not before the contract is signed")
        assert run({"GROQ_API_KEY": "k"}).made == ()

    def test_a_provider_without_its_key_here_stays_active_and_the_sandbox_inactive(self):
        run(OPENAI)
        report = run()
        assert report.made == ()
        assert [p.name for p in Provider.objects.active()] == ["openai"]
        assert len(report.warnings) == 1
        assert "openai" in report.warnings[0]

    def test_an_operators_own_active_sandbox_is_left_on_with_a_warning(self):
        run()
        Provider.objects.filter(name="sandbox").update(notes="for the demo")
        report = run(OPENAI)
        assert Provider.objects.get(name="sandbox").is_active
        assert any("sandbox" in warning for warning in report.warnings)

    def test_the_sandbox_stays_while_a_route_has_nothing_else(self):
        run()
        own = Provider.objects.create(name="own", vendor="vllm", base_url="https://llm.example/v1")
        own.set_api_key("sk-of-my-own-server")
        own.save()
        run()
        assert Provider.objects.get(name="sandbox").is_active
        model = ModelConfig.objects.create(provider=own, model_id="m")
        for route in UseCaseRoute.objects.all():
            route.targets.create(model=model)
        run()
        assert not Provider.objects.get(name="sandbox").is_active

    def test_an_untouched_sandbox_moves_with_the_settings(self, settings):
        run()
        settings.LLM_ROUTING = {"SANDBOX_URL": "http://127.0.0.1:9"}
        assert done(run()) == {("provider", "sandbox", "updated")}
        assert Provider.objects.get(name="sandbox").base_url == "http://127.0.0.1:9/v1"

    def test_edits_are_never_overwritten(self):
        run(OPENAI)
        model = ModelConfig.objects.get(alias="gpt-6-luna")
        model.input_price, model.alias, model.is_active = Decimal("0.05"), "cheap", False
        model.save()
        route = UseCaseRoute.objects.get(use_case="debugging", tier="economy")
        route.system_prompt = "Be brief."
        route.save()
        route.targets.exclude(position=0).delete()
        Provider.objects.filter(name="openai").update(priority=1, connect_timeout=2.0)
        before = contents()
        run(OPENAI | ANTHROPIC)
        assert contents()[1:] == before[1:]
        model.refresh_from_db()
        assert (model.input_price, model.alias, model.is_active) == (
            Decimal("0.05"),
            "cheap",
            False,
        )
        route.refresh_from_db()
        assert (route.system_prompt, route.targets.count()) == ("Be brief.", 1)

    def test_rows_deleted_by_an_operator_are_not_created_again(self):
        run()
        UseCaseRoute.objects.get(use_case="documentation", tier="premium").delete()
        RouteTarget.objects.filter(model__provider__name="deepseek").delete()
        Provider.objects.get(name="deepseek").delete()
        RouteTarget.objects.filter(model__model_id="mistral-large-4").delete()
        ModelConfig.objects.filter(model_id="mistral-large-4").delete()
        before = contents()
        report = run({"DEEPSEEK_API_KEY": "k"})
        assert contents() == before
        skipped = {c.name for c in report.changes if c.action is Action.SKIPPED}
        assert skipped >= {"documentation:premium", "deepseek", "mistral/mistral-large-4"}

    def test_a_sandbox_that_was_deleted_does_not_come_back(self):
        run()
        RouteTarget.objects.filter(model__provider__name="sandbox").delete()
        Provider.objects.get(name="sandbox").delete()
        report = run()
        assert not Provider.objects.filter(vendor="sandbox").exists()
        assert any("Routes without an active model" in warning for warning in report.warnings)

    def test_a_route_without_any_model_is_not_made(self, monkeypatch):
        monkeypatch.setattr(module, "MODELS", ())
        report = run()
        assert not UseCaseRoute.objects.exists()
        assert len([c for c in report.changes if c.kind == "route"]) == 24
        monkeypatch.undo()
        run()
        assert UseCaseRoute.objects.count() == 24

    def test_a_row_with_an_unknown_vendor_is_named(self):
        Provider.objects.create(name="odd", vendor="acme")
        report = run()
        assert any("acme" in warning for warning in report.warnings)
        assert Provider.objects.get(name="sandbox").is_active

    def test_rows_renamed_by_an_operator_are_not_created_again(self):
        run()
        Provider.objects.filter(name="openai").update(name="openai-eu")
        UseCaseRoute.objects.filter(use_case="debugging").update(use_case="bugs")
        before = contents()
        run(OPENAI)
        assert contents() == before

    def test_a_provider_made_anew_after_a_deletion_is_the_operators(self):
        run()
        RouteTarget.objects.filter(model__provider__name="groq").delete()
        Provider.objects.get(name="groq").delete()
        anew = Provider.objects.create(name="groq", vendor="groq", is_active=False)
        run({"GROQ_API_KEY": "k"})
        anew.refresh_from_db()
        assert not anew.is_active
        assert anew.models.count() == 0

    def test_prices_of_untouched_models_follow_the_data(self):
        run(today=date(2026, 11, 23))
        report = run(today=date(2026, 12, 5))
        assert ("model", "google/gemini-4-argon", "updated") in done(report)
        assert ModelConfig.objects.get(alias="gemini-4-argon").input_price > 2

    def test_a_price_that_the_data_no_longer_has_is_kept(self, monkeypatch):
        run()
        monkeypatch.setattr(module, "model_facts", lambda *_: ModelFacts())
        assert run().made == ()

    def test_a_new_model_of_the_catalogue_is_added_and_running_routes_stay(self, monkeypatch):
        later = MODELS
        monkeypatch.setattr(module, "MODELS", tuple(m for m in MODELS if m.provider != "google"))
        run()
        targets = RouteTarget.objects.count()
        monkeypatch.setattr(module, "MODELS", later)
        report = run()
        assert {kind for kind, _, _ in done(report)} == {"model"}
        assert ModelConfig.objects.filter(provider__name="google").count() == 4
        assert RouteTarget.objects.count() == targets


class TestDryRun:
    def test_a_dry_run_reports_the_changes_and_makes_none(self):
        before = contents(), ConfigurationVersion.objects.current("routing")
        would = run(OPENAI, dry_run=True)
        assert (contents(), ConfigurationVersion.objects.current("routing")) == before
        assert would.is_dry_run
        does = run(OPENAI)
        assert would.changes == does.changes
        assert would.providers == does.providers
        assert would.routes == does.routes

    def test_announces_nothing(self, django_capture_on_commit_callbacks):
        with django_capture_on_commit_callbacks() as callbacks:
            run(dry_run=True)
        assert callbacks == []

    def test_a_surrounding_transaction_stays_usable(self):
        with transaction.atomic():
            Provider.objects.create(name="mine", vendor="vllm")
            run(dry_run=True)
        assert [p.name for p in Provider.objects.all()] == ["mine"]


class TestAllOrNothing:
    def test_a_failure_rolls_everything_back(self, monkeypatch):
        monkeypatch.setattr(module, "ROUTES", (*ROUTES, ROUTES[0]))
        with pytest.raises(IntegrityError):
            run()
        assert contents() == [[], [], [], []]

    def test_no_key_is_in_the_report(self):
        report = run({"OPENAI_API_KEY": "sk-very-secret"})
        assert "sk-very-secret" not in f"{report} {report.as_json()}"


@pytest.mark.django_db(transaction=True)
def test_runs_at_the_same_time_wait_for_each_other():
    reports, errors = at_once(3, lambda _: run(OPENAI))
    assert errors == []
    made = len(VENDORS) + len(MODELS) + len(ROUTES)
    assert sorted(len(report.made) for report in reports) == [0, 0, made]
    assert UseCaseRoute.objects.count() == 24
