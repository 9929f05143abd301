"""The command, the admin action and the router's method."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from llm_routing import close_routers, get_llm_router
from llm_routing.admin import providers as _admin  # noqa: F401  # registers the page
from llm_routing.conf import get_settings
from llm_routing.core.config import RouterConfig
from llm_routing.models import ModelConfig, Provider
from tests import rows

from .conftest import ListingVendor, provider_at

pytestmark = pytest.mark.django_db


def call(*arguments, **options):
    """Exit status, output and errors."""
    out, err = StringIO(), StringIO()
    status: int | str | None = 0
    try:
        call_command(
            "llm_discover_models", *arguments, stdout=out, stderr=err, no_color=True, **options
        )
    except SystemExit as end:
        status = end.code
    return status, out.getvalue(), err.getvalue()


class TestCommand:
    def test_prints_the_changes(self, provider, vendor):
        rows.model("gone", of="acme")
        vendor.lists("a", "b")
        status, out, err = call()
        assert (status, err) == (0, "")
        assert out.splitlines() == [
            "acme: 2 offered, 2 new, 1 vanished.",
            "Done: 2 added, 1 marked as vanished, 0 back.",
        ]
        assert call()[1].splitlines()[-1] == "Nothing has changed."

    def test_higher_verbosity_names_every_model(self, provider, vendor):
        vendor.lists("a")
        assert "  new: a" in call(verbosity=2)[1]

    def test_a_dry_run(self, provider, vendor):
        vendor.lists("a")
        assert "Would be: 1 added" in call("--dry-run")[1]
        assert not ModelConfig.objects.exists()

    def test_json_is_for_scripts(self, provider, vendor):
        vendor.lists("a")
        status, out, _ = call("--json")
        report = json.loads(out)
        assert (status, report["dry_run"], report["changed"]) == (0, False, True)
        (row,) = report["providers"]
        assert (row["provider"], row["added"], row["error"]) == ("acme", ["a"], "")

    def test_exit_status_1_means_that_a_provider_failed(self, provider, vendor):
        provider_at(vendor, "broken", base_url=f"{vendor.url}/nowhere")
        vendor.lists("a")
        status, out, err = call()
        assert status == 1
        assert "acme: 1 offered" in out
        assert err.startswith("broken: ")
        assert call("--json")[0] == 1
        assert call("--provider", "acme")[0] == 0
        assert call("--provider", "acme", "broken")[0] == 1

    def test_2_says_that_it_could_not_run(self, provider):
        with pytest.raises(CommandError, match="no provider nobody") as caught:
            call("--provider", "nobody")
        assert caught.value.returncode == 2

    def test_without_an_active_provider_there_is_nothing_to_do(self, db):
        assert call() == (0, "No provider is active.\n", "")


class TestAdminAction:
    @pytest.fixture
    def page(self, settings):
        settings.ROOT_URLCONF = "tests.admin.urls"
        return "/admin/llm_routing/provider/"

    def act(self, client, page, provider):
        data = {"action": "discover_models", "_selected_action": [provider.pk]}
        return client.post(page, data, follow=True)

    def test_shows_counts_and_records_the_user(self, provider, vendor, page, admin_client):
        vendor.lists("a", "b")
        response = self.act(admin_client, page, provider)
        (message,) = [str(message) for message in response.context["messages"]]
        assert "acme" in message
        assert "2" in message
        entry = ModelConfig.history.first()
        assert entry.history_user.username == "admin"
        log = admin_client.get(f"{page}{provider.pk}/change/")
        assert log.status_code == 200
        from django.contrib.admin.models import LogEntry

        assert LogEntry.objects.get().object_id == str(provider.pk)

    def test_a_failure_is_shown_as_one(self, provider, vendor, page, admin_client):
        vendor.says({}, status=401)
        (message,) = self.act(admin_client, page, provider).context["messages"]
        assert message.level_tag == "error"

    def test_needs_its_own_permission(self, provider, vendor, page, client, django_user_model):
        from django.contrib.auth.models import Permission

        user = django_user_model.objects.create_user("bob", is_staff=True)
        grant = Permission.objects.filter(content_type__app_label="llm_routing")
        user.user_permissions.set(grant.filter(codename__in=["view_provider", "change_provider"]))
        client.force_login(user)
        vendor.lists("a")
        self.act(client, page, provider)
        assert vendor.requests == []
        user.user_permissions.add(grant.get(codename="discover_models"))
        self.act(client, page, provider)
        assert ModelConfig.objects.count() == 1

    def test_vanished_models_are_seen_and_filtered(self, provider, vendor, page, admin_client):
        rows.model("gone-model", of="acme")
        rows.model("kept-model", of="acme")
        vendor.lists("kept-model")
        self.act(admin_client, page, provider)
        models = "/admin/llm_routing/modelconfig/"
        assert "Vanished" in admin_client.get(models).content.decode()
        gone = admin_client.get(f"{models}?vanished_at__isempty=0").content.decode()
        assert "gone-model" in gone
        assert "kept-model" not in gone


@pytest.mark.django_db(transaction=True)
class TestRouter:
    @pytest.fixture(autouse=True)
    async def process(self, clean_process: None, connections_given_back: None):
        yield
        await close_routers()

    async def test_the_dynamic_router_records_discovered_models(self, vendor: ListingVendor):
        await provider_made(vendor)
        vendor.lists("a")
        router = await get_llm_router()
        report = await router.discover_available_models(dry_run=True)
        assert await ModelConfig.objects.acount() == 0
        assert report.models == {"acme": ("a",)}
        report = await router.discover_available_models("acme")
        assert report.count("added") == 1
        assert not (await ModelConfig.objects.aget()).is_active

    async def test_a_key_of_the_config_is_used(self, vendor: ListingVendor):
        await Provider.objects.acreate(name="p", vendor="portkey", base_url=f"{vendor.url}/v1")
        vendor.says({"object": "list", "data": [{"id": "@openai/gpt-x"}], "total": 1})
        router = await get_llm_router(config=RouterConfig(portkey_api_key="pk-of-config"))
        report = await router.discover_available_models()
        assert report.models == {"p": ("@openai/gpt-x",)}
        assert vendor.requests[0][1]["x-portkey-api-key"] == "pk-of-config"

    async def test_the_static_router_reports_and_writes_nothing(self, vendor, monkeypatch):
        monkeypatch.setenv("LLM_SANDBOX_URL", vendor.url)
        get_settings.cache_clear()
        vendor.lists("sandbox-standard", "sandbox-new")
        router = await get_llm_router(dynamic=False)
        report = await router.discover_available_models()
        assert not report.is_recorded
        (row,) = report.providers
        assert row.added == ("sandbox-new",)
        assert "sandbox-premium" in row.vanished
        assert await ModelConfig.objects.acount() == 0


async def provider_made(vendor: ListingVendor) -> Provider:
    from asgiref.sync import sync_to_async

    return await sync_to_async(provider_at)(vendor)
