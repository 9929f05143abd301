"""Open circuit breakers of all processes; users with the permission may reset them."""

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from llm_routing.core.breaker import BreakerState
from llm_routing.health.monitor import open_breakers, reset_breakers
from llm_routing.models import BreakerReport

from .base import ReadOnlyAdmin, status
from .usage import ProviderFilter

RESET = "llm_routing.reset_breaker"


@admin.register(BreakerReport)
class BreakerReportAdmin(ReadOnlyAdmin[BreakerReport]):
    """Lists the breakers of targets and credentials that are not closed, as each process reports
    them. A reset applies to all processes."""

    list_display = (
        "target",
        "shown_state",
        "cause",
        "openings",
        "opened_at",
        "retry_at",
        "process",
    )
    list_filter = ("state", ProviderFilter)
    actions = ("reset",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[BreakerReport]:
        """Returns the breakers of running processes."""
        rows: QuerySet[BreakerReport] = super().get_queryset(request)
        return rows & open_breakers()

    def has_reset_permission(self, request: HttpRequest) -> bool:
        """Whether the user may reset a breaker."""
        return self.may_for_any(request, RESET)

    @admin.action(
        permissions=["reset"], description=gettext_lazy("Reset selected circuit breakers")
    )
    def reset(self, request: HttpRequest, queryset: QuerySet[BreakerReport]) -> None:
        """Closes the selected breakers, in every process."""
        rows = list(self.permitted(request, queryset, RESET))
        user = request.user.pk
        if rows and user is not None:
            LogEntry.objects.log_actions(user, rows, CHANGE, _("Reset."))
        targets = {(row.provider, row.model) for row in rows}
        reset_breakers(targets, request.user.get_username())
        text = ngettext(
            "%(count)d circuit breaker is closed within seconds.",
            "%(count)d circuit breakers are closed within seconds.",
            len(targets),
        )
        self.message_user(request, text % {"count": len(targets)}, messages.SUCCESS)

    @admin.display(description=gettext_lazy("target"), ordering="provider")
    def target(self, report: BreakerReport) -> str:
        """Provider and model, or the provider's credential."""
        return str(report) if report.model else _("%s: credential") % report.provider

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def shown_state(self, report: BreakerReport) -> str:
        """Open or half open."""
        if report.state == BreakerState.OPEN.value:
            return status("bad", _("Open"))
        return status("warning", _("Half open"))
