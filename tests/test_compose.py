"""The compose file starts what exists, in the right order, with variables that mean something."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands
from django.urls import resolve

from llm_routing.conf import Settings
from llm_routing.vendors import VENDORS

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service.get("image") == "llm_routing"]


def words(service: dict[str, Any]) -> str:
    return " ".join(service.get("command", []))


def test_every_command_exists() -> None:
    named = {
        name
        for service in SERVICES.values()
        for name in re.findall(r"manage\.py (\w+)", words(service))
    }
    assert named == {"migrate", "setup_llm_configuration", "llm_health_sweep"}
    assert named <= set(get_commands())


def test_the_image_starts_the_application_that_ships() -> None:
    command = (ROOT / "Dockerfile").read_text().splitlines()[-1]
    assert "project.asgi:application" in command
    assert "USER llm_routing" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_runs_with_little_power(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"] == ["/tmp"]


def test_every_variable_means_something_and_no_secret_has_a_value_of_ours() -> None:
    known = {field.alias for field in Settings.model_fields.values()}
    known |= {name for vendor in VENDORS.values() for name in vendor.api_key_envs}
    documented = (ROOT / "docs" / "settings.md").read_text()
    for name, value in SERVICES["app"]["environment"].items():
        assert name in known or f"`{name}`" in documented, name
        if "KEY" in name or "PASSWORD" in name or "PEPPER" in name:
            assert re.fullmatch(r"\$\{\w+(:-|:\?[^}]*)\}", str(value)), name


def test_nothing_starts_before_what_it_needs() -> None:
    assert SERVICES["setup"]["depends_on"]["db"]["condition"] == "service_healthy"
    for name in ("app", "sweeper"):
        needs = SERVICES[name]["depends_on"]
        assert needs["setup"]["condition"] == "service_completed_successfully"
        assert needs["db"]["condition"] == "service_healthy"
    for name in ("db", "redis", "app"):
        assert SERVICES[name]["healthcheck"]["test"]


def test_the_health_check_asks_an_endpoint_that_is_there() -> None:
    (path,) = re.findall(r"8000(/[^']+)'", " ".join(SERVICES["app"]["healthcheck"]["test"]))
    assert resolve(path).url_name != "unknown_endpoint"
