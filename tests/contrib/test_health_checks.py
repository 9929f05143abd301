"""The checks for django-health-check report the state of the gateway through its own view."""

from typing import Any

import pytest
from django.db import OperationalError
from django.test import RequestFactory
from health_check.views import HealthCheckView

from llm_routing.configuration.snapshot import EMPTY_SNAPSHOT
from llm_routing.configuration.source import snapshot_source
from llm_routing.models import ConfigurationVersion
from llm_routing.system.extras import missing_extra
from tests import rows

CHECKS = "llm_routing.contrib.health_checks"


async def report(*checks: Any) -> tuple[int, str]:
    """The status code and the text of django-health-check's page for these checks."""
    view = HealthCheckView.as_view(checks=checks)
    response = await view(RequestFactory().get("/health/", {"format": "text"}))
    return response.status_code, response.content.decode()


async def test_a_gateway_that_can_serve_passes_every_check(router):
    names = ("Configuration", "Providers", "UsageRecords")
    status, text = await report(*(f"{CHECKS}.{name}" for name in names))
    assert status == 200, text
    assert text.count("OK") == 3


@pytest.fixture
def keyless(configuration):
    """A provider that lacks its API key, beside the two that work."""
    rows.model(of="keyless")


async def test_an_unusable_provider_fails_only_the_strict_check(keyless, router):
    assert (await report(f"{CHECKS}.Providers"))[0] == 200
    status, text = await report((f"{CHECKS}.Providers", {"strict": True}))
    assert status == 500
    assert "Warning: These providers cannot serve requests: keyless." in text


async def test_a_gateway_without_a_provider_fails(clean_process, connections_given_back):
    status, text = await report(f"{CHECKS}.Providers")
    assert status == 500
    assert "No provider can serve requests." in text


async def test_a_process_without_a_configuration_fails(router, monkeypatch):
    def fail(*_: Any) -> None:
        raise OperationalError

    monkeypatch.setattr(ConfigurationVersion.objects, "version_and_stamp", fail)
    monkeypatch.setattr(snapshot_source, "current", EMPTY_SNAPSHOT)
    status, text = await report(f"{CHECKS}.Configuration")
    assert status == 500, text
    assert "No routing configuration has been loaded." in text


async def test_records_that_cannot_be_written_fail(router, monkeypatch):
    status = await router.get_health_status()
    for records in ({"trouble": "OperationalError"}, {"trouble": None, "unwritten": 2}):

        async def stand(self: Any, records: Any = records) -> Any:
            return {**status, "usage_records": records}

        monkeypatch.setattr(type(router), "get_health_status", stand)
        code, text = await report(f"{CHECKS}.UsageRecords")
        assert code == 500
        assert "Usage records cannot be written." in text


def test_a_missing_package_is_reported_with_its_extra():
    assert not missing_extra("It", "redis", "json")
    message = missing_extra("REDIS_URL", "redis", "json", "not_installed_anywhere")
    assert message == "REDIS_URL needs an extra: pip install 'django-llm-routing[redis]'"
