"""The compose file starts what exists, in the right order, with variables that mean something."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands
from django.urls import resolve

from llm_routing.conf import Settings
from llm_routing.vendors import VENDORS

from .composition import DOCKERFILE, ROOT, SERVICES, image_command, image_environment

COMPOSE = ROOT / "docker-compose.yml"
OURS = [name for name, service in SERVICES.items() if service.get("image") == "llm_routing"]


def words(service: dict[str, Any]) -> str:
    return " ".join(service.get("command", []))


def test_the_file_is_what_the_compose_specification_says(tmp_path: Path) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    found = subprocess.run([*check, COMPOSE], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(COMPOSE.read_text().replace("healthcheck:", "healtcheck:"))
    found = subprocess.run([*check, wrong], capture_output=True, text=True, check=False)
    assert "'healtcheck' was unexpected" in found.stdout


def test_every_command_exists() -> None:
    named = {
        name
        for service in SERVICES.values()
        for name in re.findall(r"manage\.py (\w+)", words(service))
    }
    assert named == {"llm_migrate", "setup_llm_configuration", "llm_health_sweep"}
    assert named <= set(get_commands())


def test_the_image_starts_the_application_that_ships() -> None:
    assert "project.asgi:application" in image_command()
    assert "USER llm_routing" in DOCKERFILE


def test_the_image_installs_the_lock_as_make_does() -> None:
    (options,) = re.findall(r"pip install (.+) -r requirements.txt", DOCKERFILE)
    assert f"{options} -r" in (ROOT / "scripts" / "install.sh").read_text()


@pytest.mark.parametrize("name", OURS)
def test_what_a_service_of_ours_keeps_is_on_its_volume(name: str) -> None:
    assert SERVICES[name]["volumes"] == [f"state:{image_environment()['DJANGO_VAR_DIR']}"]


def test_a_password_may_hold_any_character() -> None:
    assert "$" not in SERVICES["app"]["environment"]["DATABASE_URL"]


def test_a_database_that_is_being_made_is_not_healthy() -> None:
    assert "-h" in SERVICES["db"]["healthcheck"]["test"]


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_runs_with_little_power(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"] == ["/tmp:size=64m"]


def test_every_variable_means_something_and_no_secret_has_a_value_of_ours() -> None:
    known = {field.alias for field in Settings.model_fields.values()}
    known |= {name for vendor in VENDORS.values() for name in vendor.api_key_envs}
    documented = (ROOT / "docs" / "settings.md").read_text()
    for name, value in SERVICES["app"]["environment"].items():
        assert name in known or f"`{name}`" in documented, name
        if "KEY" in name or "PASSWORD" in name or "PEPPER" in name:
            assert re.fullmatch(r"\$\{\w+(:-|:\?[^}]*)\}", str(value)), name


def test_every_vendor_s_key_reaches_the_containers() -> None:
    keys = {vendor.api_key_env for vendor in VENDORS.values() if vendor.needs_key}
    assert keys - set(SERVICES["app"]["environment"]) == set(), "missing in docker-compose.yml"


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
