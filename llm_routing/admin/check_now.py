"""The action “Check health now”: sweeps the selected providers within the admin request."""

from collections.abc import Iterable, Iterator

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.http import HttpRequest
from django.utils.translation import gettext as _

from llm_routing.factory import sweep_health
from llm_routing.health.sweep import LeaseLost, NothingToCheck, Selection, SweepReport
from llm_routing.models import Provider

MAX_WAIT = 5.0
"""Maximum seconds to wait for a sweep that is already running."""

MAX_MESSAGES = 10


def check_now(request: HttpRequest, providers: Iterable[Provider]) -> Iterator[tuple[int, str]]:
    """Checks the active providers among `providers` and their models. Returns messages with their
    levels, and logs the results in the admin log."""
    rows = {row.name: row for row in providers if row.is_active}
    if not rows:
        yield messages.WARNING, _("Only active providers are checked.")
        return
    try:
        report = sweep_health(Selection(tuple(rows)), max_wait=MAX_WAIT)
    except (NothingToCheck, LeaseLost):
        report = None
    if report is None:
        yield messages.WARNING, _("The check could not run just now. Try again in a moment.")
        return
    user = request.user.pk
    for result in report.results:
        if not result.model and user is not None:
            words = _("Checked: %(result)s.") % {"result": result.error_code or _("healthy")}
            LogEntry.objects.log_actions(user, [rows[result.provider]], CHANGE, words)
    yield from _messages(report)


def _messages(report: SweepReport) -> Iterator[tuple[int, str]]:
    bad = [result for result in report.results if not result.is_healthy]
    for result in bad[:MAX_MESSAGES]:
        name = f"{result.provider}/{result.model}" if result.model else result.provider
        text = (
            _("“%(name)s” is unhealthy: %(code)s. %(reason)s")
            if result.is_about_target
            else _("“%(name)s” was not asked: %(code)s. %(reason)s")
        )
        parts = {"name": name, "code": result.error_code, "reason": result.message}
        yield messages.ERROR, text % parts
    total = len(report.results)
    text = _("%(good)d of %(total)d checks succeeded.")
    level = messages.SUCCESS if report.is_healthy else messages.WARNING
    yield level, text % {"good": total - len(bad), "total": total}
