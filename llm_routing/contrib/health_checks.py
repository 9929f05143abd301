"""Health checks of the gateway for projects that use django-health-check.

    from health_check.views import HealthCheckView

    HealthCheckView.as_view(
        checks=[
            "llm_routing.contrib.health_checks.Configuration",
            "llm_routing.contrib.health_checks.Providers",
            "llm_routing.contrib.health_checks.UsageRecords",
        ]
    )

Each check reads the state of the process that serves the view; none sends a request to a provider.
https://codingjoe.dev/django-health-check/
"""

from dataclasses import dataclass
from typing import Any

from llm_routing.system.extras import missing_extra

if message := missing_extra("llm_routing.contrib.health_checks", "health-check", "health_check"):
    raise ImportError(message)

from health_check.base import HealthCheck  # after the check that it is installed
from health_check.exceptions import ServiceUnavailable, ServiceWarning

from llm_routing.factory import get_llm_router


async def _status() -> dict[str, Any]:
    return await (await get_llm_router()).get_health_status()


@dataclass
class Configuration(HealthCheck):  # type: ignore[misc]  # it ships no types
    """Fails until this process has loaded a routing configuration."""

    async def run(self) -> None:
        """Raises `ServiceUnavailable` if there is no configuration."""
        if (await _status())["configuration"]["origin"] == "nowhere":
            raise ServiceUnavailable("No routing configuration has been loaded.")


@dataclass
class Providers(HealthCheck):  # type: ignore[misc]  # it ships no types
    """Fails if no provider can serve requests, and with `strict` if any provider cannot."""

    strict: bool = False

    async def run(self) -> None:
        """Raises `ServiceUnavailable` if no provider can serve, `ServiceWarning` if some cannot."""
        providers = (await _status())["providers"]
        failing = sorted(name for name, row in providers.items() if row["status"] == "unhealthy")
        if len(failing) == len(providers):
            raise ServiceUnavailable("No provider can serve requests.")
        if self.strict and failing:
            raise ServiceWarning(f"These providers cannot serve requests: {', '.join(failing)}.")


@dataclass
class UsageRecords(HealthCheck):  # type: ignore[misc]  # it ships no types
    """Fails if usage records cannot be written to the database or to disk."""

    async def run(self) -> None:
        """Raises `ServiceUnavailable` if this process cannot write its records."""
        records = (await _status())["usage_records"] or {}
        if records.get("trouble") or records.get("unwritten"):
            raise ServiceUnavailable("Usage records cannot be written. The log has the reason.")
