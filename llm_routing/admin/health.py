"""Health checks, read-only."""

from django.contrib import admin
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from llm_routing.models import HealthCheck

from .base import ReadOnlyAdmin, status
from .usage import ProviderFilter


@admin.register(HealthCheck)
class HealthCheckAdmin(ReadOnlyAdmin[HealthCheck]):
    """The page of health checks."""

    list_display = ("checked_at", "result", "provider", "model", "kind", "latency")
    list_filter = ("checked_at", "is_healthy", ProviderFilter)
    sortable_by = ("checked_at",)
    ordering = ("-checked_at", "-id")

    @admin.display(description=gettext_lazy("result"))
    def result(self, check: HealthCheck) -> str:
        """Healthy, or the error."""
        if check.is_healthy:
            return status("good", _("Healthy"))
        return status("bad", check.error_code or _("Failed"))

    @admin.display(description=gettext_lazy("latency"))
    def latency(self, check: HealthCheck) -> str:
        """The latency in milliseconds."""
        return "—" if check.latency_ms is None else f"{check.latency_ms:.0f} ms"
