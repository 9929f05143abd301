"""Rows that an import writes, and rows that it must not change."""

from decimal import Decimal

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError

from llm_routing import close_routers, get_llm_router
from llm_routing.models import (
    ConfigurationVersion,
    ModelConfig,
    Provider,
    RouteTarget,
    UseCaseRoute,
)
from llm_routing.models.routing import UseCaseRouteQuerySet
from llm_routing.setup.configure import configure
from tests import rows
from tests.rows import contents
from tests.threads import at_once

from .conftest import KEYS, SAMPLES, SECRETS, said, take_over, targets_of

pytestmark = pytest.mark.django_db

ROUTER = SAMPLES / "hard_coded_router.py"
LITELLM = SAMPLES / "config.yaml"


@pytest.fixture
def simple(written):
    return written("MODEL_MAPPINGS = {'debugging': ['openai/gpt-6-luna', 'claude-haiku-5-5']}\n")


def edited(simple):
    """The same file with another model."""
    simple.write_text(simple.read_text().replace("gpt-6-luna", "gpt-6-astra"))
    return simple


class TestIntoAnEmptyConfiguration:
    def test_a_hard_coded_router(self):
        report = take_over(ROUTER)
        assert targets_of("code_generation", "premium") == [
            ("anthropic/claude-opus-5-5", 0, 1),
            ("openai/gpt-6-astra", 1, 1),
            ("google/gemini-4-argon", 2, 1),
        ]
        route = UseCaseRoute.objects.get(use_case="code_generation", tier="premium")
        assert (route.temperature, route.max_tokens) == (0.2, 8192)
        assert report.conflicts == ()
        model = ModelConfig.objects.get(model_id="claude-opus-5-5")
        assert (model.input_price, model.context_window) == (Decimal(4), 1_000_000)
        assert model.quirks == ["no_sampling"]

    def test_a_proxy(self):
        take_over(LITELLM)
        assert targets_of("support")[:2] == [
            ("anthropic/claude-sonnet-5-5", 0, 6),
            ("openai-helpdesk/gpt-6.1-sol", 0, 2),
        ]
        assert ModelConfig.objects.get(model_id="openai/gpt-oss-20b").input_price == Decimal("0.1")
        helpdesk = Provider.objects.get(name="openai-helpdesk")
        assert helpdesk.api_key_env == "OPENAI_API_KEY_HELPDESK"

    @pytest.mark.parametrize("path", [ROUTER, LITELLM, SAMPLES / "mappings.json"])
    def test_rows_stand_the_checks_of_the_admin_and_a_second_run_changes_nothing(self, path):
        take_over(path)
        for model in (Provider, ModelConfig, UseCaseRoute, RouteTarget):
            for row in model.objects.all():
                row.full_clean()
        before = contents(), ConfigurationVersion.objects.current("routing")
        again = take_over(path)
        assert not again.changes
        assert not again.conflicts
        assert (contents(), ConfigurationVersion.objects.current("routing")) == before

    def test_a_provider_without_its_key_is_inactive_until_it_has_one(self, simple):
        report = take_over(simple, environ={"OPENAI_API_KEY": "k"})
        assert [row.name for row in Provider.objects.active()] == ["openai"]
        reasons = {change.name: change.reason for change in report.changes}
        assert reasons["anthropic"] == "inactive: ANTHROPIC_API_KEY is not set"
        report = take_over(simple)
        assert [(row.name, row.action.value) for row in report.changes] == [
            ("anthropic", "activated")
        ]

    def test_the_history_names_the_import(self, simple):
        take_over(simple)
        for model in (Provider, ModelConfig, UseCaseRoute, RouteTarget):
            assert set(model.history.values_list("history_change_reason", flat=True)) == {
                "migrate_llm_router"
            }

    def test_no_key_is_stored_or_reported(self):
        for path in (ROUTER, LITELLM):
            report = take_over(path)
            text = f"{report!r} {report.as_json()} {contents()}"
            assert not any(secret in text for secret in SECRETS)
        assert not Provider.objects.get(name="groq").has_stored_key

    def test_a_key_is_encrypted_with_store_keys(self):
        take_over(LITELLM, store_keys=True)
        row = Provider.objects.get(name="groq")
        assert row.has_stored_key
        assert row.is_active
        assert not any(secret in str(contents()) for secret in SECRETS)
        from llm_routing.crypto.at_rest import decrypt

        assert decrypt(row.encrypted_key) == "gsk_0123456789abcdefghijGROQ"
        assert take_over(LITELLM, store_keys=True).changes == ()

    def test_an_address_that_settings_do_not_allow_is_a_conflict(self, settings):
        settings.LLM_ROUTING = {"ALLOWED_UPSTREAM_NETWORKS": ()}
        report = take_over(LITELLM)
        listed = said(report.conflicts)
        assert "not public" in listed["provider vllm-127-0-0-1-8001"]
        assert "model vllm-127-0-0-1-8001/acme/helper-8b" in listed
        assert len(targets_of("support")) == 3


class TestBesideSetUp:
    def test_untouched_routes_are_replaced_and_embeddings_stay(self, written):
        configure(environ=KEYS)
        embedding = "openai/text-embedding-3-small"
        path = written("MODEL_MAPPINGS = {'general_purpose': 'anthropic/claude-haiku-5-5'}\n")
        take_over(path)
        assert [address for address, _, _ in targets_of("general_purpose")] == [
            "anthropic/claude-haiku-5-5", embedding, "sandbox/sandbox-embedding",
        ]  # fmt: skip
        assert take_over(path).changes == ()
        before = contents()
        configure(environ=KEYS)
        assert contents() == before

    def test_its_models_are_used_as_they_are(self, simple):
        configure(environ=KEYS)
        count = ModelConfig.objects.count()
        take_over(simple)
        assert ModelConfig.objects.count() == count

    def test_inactive_providers_that_the_file_uses_are_activated(self, simple):
        configure(environ={})
        take_over(simple)
        assert {"openai", "anthropic"} <= {row.name for row in Provider.objects.active()}

    def test_set_up_activates_a_provider_of_an_import_once_its_key_is_there(self, simple):
        take_over(simple, environ={})
        assert not Provider.objects.active().exists()
        report = configure(environ={"OPENAI_API_KEY": "k"})
        assert [row.name for row in Provider.objects.active()] == ["openai"]
        assert ("openai", "activated") in {(row.name, row.action.value) for row in report.changes}
        configure(environ={"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"})
        assert {row.name for row in Provider.objects.active()} == {"openai", "anthropic"}

    def test_its_aliases_make_room_for_groups_of_the_same_name(self):
        configure(environ=KEYS)
        report = take_over(LITELLM)
        assert set(said(report.conflicts)) == {"model groq/openai/gpt-oss-20b"}
        assert targets_of("gpt-6-astra")[0] == ("openai/gpt-6-astra", 0, 1)
        assert ModelConfig.objects.get(model_id="gpt-6-astra").alias is None
        assert targets_of("main") == targets_of("gpt-6-astra")
        assert targets_of("embeddings") == [("openai/text-embedding-3-small", 0, 1)]
        before = contents()
        again = take_over(LITELLM)
        assert not again.changes
        assert again.conflicts == report.conflicts
        assert contents() == before


class TestOperators:
    def test_an_edited_route_stays_and_is_a_conflict(self, simple):
        take_over(simple)
        route = UseCaseRoute.objects.get()
        route.temperature = 1.5
        route.save()
        before = contents()
        report = take_over(edited(simple))
        assert "temperature, targets" in said(report.conflicts)["route debugging:standard"]
        assert contents()[2:] == before[2:]

    @pytest.mark.parametrize("edit", ["weight", "delete", "add"])
    def test_an_edited_target_is_an_edited_route(self, simple, edit):
        take_over(simple)
        target = RouteTarget.objects.order_by("position").last()
        assert target is not None
        if edit == "weight":
            target.weight = 7
            target.save()
        elif edit == "delete":
            target.delete()
        else:
            RouteTarget.objects.create(
                route=target.route, model=rows.model("own", of="openai"), position=9
            )
        before = contents()[3]
        assert "route debugging:standard" in said(take_over(edited(simple)).conflicts)
        assert contents()[3] == before

    def test_an_untouched_route_follows_the_file(self, simple):
        take_over(simple)
        report = take_over(edited(simple))
        assert report.conflicts == ()
        assert [address for address, _, _ in targets_of("debugging")] == [
            "openai/gpt-6-astra", "anthropic/claude-haiku-5-5",
        ]  # fmt: skip
        assert take_over(simple).changes == ()

    def test_an_equal_route_is_no_conflict(self, simple):
        configure(environ=KEYS)
        UseCaseRoute.objects.all().delete()
        models = [
            ModelConfig.objects.get(model_id=name) for name in ("gpt-6-luna", "claude-haiku-5-5")
        ]
        rows.route("debugging", *models)
        report = take_over(simple)
        assert not report.changes
        assert not report.conflicts

    def test_a_provider_elsewhere_stays_with_its_models(self, simple):
        rows.provider("openai", vendor="vllm", base_url="http://127.0.0.1:1/v1")
        report = take_over(simple)
        listed = said(report.conflicts)
        assert "a different vendor" in listed["provider openai"]
        assert "model openai/gpt-6-luna" in listed
        assert not ModelConfig.objects.filter(provider__name="openai").exists()
        assert [address for address, _, _ in targets_of("debugging")] == [
            "anthropic/claude-haiku-5-5"
        ]

    def test_deactivated_rows_stay_inactive(self, simple):
        rows.provider("openai", is_active=False)
        rows.model("gpt-6-luna", of="openai", is_active=False)
        report = take_over(simple)
        assert not Provider.objects.get(name="openai").is_active
        assert not ModelConfig.objects.get(model_id="gpt-6-luna").is_active
        assert len([note for note in report.notes if "operator" in note.text]) == 2

    def test_rows_removed_after_an_import_are_not_created_again(self, simple):
        take_over(simple)
        UseCaseRoute.objects.get().delete()
        ModelConfig.objects.get(model_id="gpt-6-luna").delete()
        report = take_over(simple)
        assert report.changes == ()
        assert set(said(report.conflicts)) == {
            "model openai/gpt-6-luna", "route debugging:standard",
        }  # fmt: skip

    def test_an_alias_that_is_taken_or_chosen_is_a_conflict(self, written):
        rows.model("other", of="mine", alias="main")
        rows.model("gpt-6-luna", of="openai", alias="luna")
        path = written(
            "model_list:\n"
            "- {model_name: main, litellm_params: {model: openai/gpt-6-astra}}\n"
            "- {model_name: cheap, litellm_params: {model: openai/gpt-6-luna}}\n",
            "config.yaml",
        )
        report = take_over(path)
        assert set(said(report.conflicts)) == {"alias main"}
        assert targets_of("cheap") == [("openai/gpt-6-luna", 0, 1)]
        assert ModelConfig.objects.get(model_id="gpt-6-astra").alias is None
        assert ModelConfig.objects.get(model_id="gpt-6-luna").alias == "luna"

    def test_another_price_stays_and_is_a_conflict(self):
        rows.provider("groq", vendor="groq")
        rows.model("openai/gpt-oss-20b", of="groq", input_price="7", output_price="0.5")
        report = take_over(LITELLM)
        assert "input_price" in said(report.conflicts)["model groq/openai/gpt-oss-20b"]
        assert ModelConfig.objects.get(model_id="openai/gpt-oss-20b").input_price == 7

    def test_a_discovered_model_is_switched_on(self, simple):
        rows.provider("openai")
        row = ModelConfig(
            provider=Provider.objects.get(name="openai"), model_id="gpt-6-luna", is_active=False
        )
        row._change_reason = "llm_discover_models"  # type: ignore[attr-defined]
        row.save()
        take_over(simple)
        row.refresh_from_db()
        assert row.is_active


class TestAllOrNothing:
    def test_a_dry_run_says_the_same_and_writes_nothing(self):
        configure(environ=KEYS)
        before = contents(), ConfigurationVersion.objects.current("routing")
        would = take_over(LITELLM, dry_run=True)
        assert would.is_dry_run
        assert (contents(), ConfigurationVersion.objects.current("routing")) == before
        does = take_over(LITELLM)
        assert (would.changes, would.conflicts, would.notes) == (
            does.changes, does.conflicts, does.notes,
        )  # fmt: skip

    def test_a_failure_rolls_everything_back(self, monkeypatch):
        def fail(*_):
            assert ModelConfig.objects.exists()
            raise DatabaseError

        monkeypatch.setattr(UseCaseRouteQuerySet, "bulk_create", fail)
        with pytest.raises(DatabaseError):
            take_over(LITELLM)
        assert contents() == [[], [], [], []]


@pytest.mark.django_db(transaction=True)
def test_runs_at_the_same_time_wait_for_each_other():
    reports, errors = at_once(3, lambda _: take_over(LITELLM))
    assert errors == []
    assert sorted(bool(report.changes) for report in reports) == [False, False, True]


class TestServed:
    """Callers are served by the imported configuration."""

    @pytest.fixture
    def router_file(self, written, sandbox):
        return written(
            "model_list:\n"
            "- model_name: team/help desk\n"
            "  litellm_params:\n"
            f"    {{model: hosted_vllm/alpha, api_base: {sandbox.url}/v1, order: 1}}\n"
            "- model_name: team/help desk\n"
            "  litellm_params:\n"
            f"    {{model: hosted_vllm/beta, api_base: {sandbox.url}/v1, order: 2}}\n"
            "- model_name: Gemini 9.9 Flash\n"
            f"  litellm_params: {{model: hosted_vllm/gamma, api_base: {sandbox.url}/v1}}\n",
            "config.yaml",
        )

    @pytest.mark.django_db(transaction=True)
    async def test_a_group_falls_over_and_an_alias_is_served(
        self, router_file, clean_process, connections_given_back
    ):
        report = await sync_to_async(take_over)(router_file)
        assert report.is_whole
        router = await get_llm_router()
        try:
            first = await router.complete("Hi", use_case="team/help desk")
            second = await router.complete(
                "Hi [[status=503 model=alpha]]", model_override="team/help desk"
            )
            third = await router.complete("Hi", model_override="Gemini 9.9 Flash")
        finally:
            await close_routers()
        models = [answer.routing.model for answer in (first, second, third)]
        assert models == ["alpha", "beta", "gamma"]
