"""The base URL of a provider is resolved in one place, so all parts of the app agree on it."""

from collections.abc import Collection

import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin import site

from llm_routing.admin.providers import ProviderAdmin
from llm_routing.conf import get_settings
from llm_routing.configuration.built_in import built_in_snapshot
from llm_routing.configuration.credentials import find_key, load_credentials
from llm_routing.configuration.source import SnapshotSource
from llm_routing.discovery import run
from llm_routing.discovery.fetch import ListSource
from llm_routing.models import Provider
from llm_routing.setup.configure import configure
from llm_routing.vendors import VENDORS

pytestmark = pytest.mark.usefixtures("clean_process")

ADDRESS = "http://sandbox.internal:9999/v1"


@pytest.fixture(autouse=True)
def sandbox_elsewhere(clean_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox runs on another host, and has a key."""
    monkeypatch.setenv("LLM_SANDBOX_URL", "http://sandbox.internal:9999/")
    monkeypatch.setenv("LLM_SANDBOX_API_KEY", "sk-sandbox")
    for vendor in VENDORS.values():
        if not vendor.is_sandbox:
            for name in vendor.api_key_envs:
                monkeypatch.delenv(name, raising=False)
    get_settings.cache_clear()


def compiled() -> str:
    """Returns the sandbox's address in the table that requests use."""
    source = SnapshotSource()
    source.refresh()
    return source.current.table.providers["sandbox"].base_url


async def discovered(monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns the address that discovery reads."""
    seen: list[ListSource] = []

    async def read_lists(transport: object, sources: Collection[ListSource]) -> dict[str, object]:
        seen.extend(sources)
        return {}

    monkeypatch.setattr(run, "read_lists", read_lists)
    await run.discover(None, ("sandbox",), dry_run=True)  # type: ignore[arg-type]  # unused
    return seen[0].base_url


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("base_url", ["", ADDRESS])
async def test_requests_and_discovery_use_the_sandbox_url_of_the_settings(
    base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Provider.objects.acreate(name="sandbox", vendor="sandbox", base_url=base_url)
    assert await sync_to_async(compiled)() == ADDRESS
    assert await discovered(monkeypatch) == ADDRESS


def test_the_built_in_routes_use_the_sandbox_url_of_the_settings() -> None:
    assert built_in_snapshot({}).table.providers["sandbox"].base_url == ADDRESS


@pytest.mark.django_db
@pytest.mark.parametrize("base_url", ["", ADDRESS])
def test_the_sandbox_at_its_configured_address_gets_its_own_key(base_url: str) -> None:
    row = Provider(name="sandbox", vendor="sandbox", base_url=base_url)
    row.clean()
    assert row.is_at_vendor
    assert find_key(row).value == "sk-sandbox"
    credential = load_credentials([row]).get("sandbox")
    assert credential is not None
    assert credential.headers["Authorization"] == "Bearer sk-sandbox"


@pytest.mark.django_db
def test_the_sandbox_at_another_address_does_not_get_its_key() -> None:
    row = Provider(name="sandbox", vendor="sandbox", base_url="http://elsewhere.internal/v1")
    assert not row.is_at_vendor
    assert find_key(row).value == ""


@pytest.mark.django_db
def test_set_up_writes_the_address_that_requests_use() -> None:
    configure()
    assert Provider.objects.get(name="sandbox").base_url == ADDRESS
    assert compiled() == ADDRESS


@pytest.mark.django_db
def test_the_admin_judges_the_address_that_requests_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The admin's status says so if the settings do not allow the address."""
    Provider.objects.create(name="sandbox", vendor="sandbox")
    monkeypatch.setattr("django.conf.settings.LLM_ROUTING", {"ALLOWED_UPSTREAM_NETWORKS": ()})
    monkeypatch.setenv("LLM_SANDBOX_URL", "http://127.0.0.1:9")
    get_settings.cache_clear()
    admin = ProviderAdmin(Provider, site)
    row = admin.get_queryset(None).get()  # type: ignore[arg-type]  # it does not read the request
    assert "Address not allowed" in admin.state(row)
    monkeypatch.setattr(
        "django.conf.settings.LLM_ROUTING", {"ALLOWED_UPSTREAM_NETWORKS": ("127.0.0.0/8",)}
    )
    get_settings.cache_clear()
    assert "Address not allowed" not in admin.state(row)
