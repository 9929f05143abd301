"""The app's configuration."""

from django.apps import AppConfig
from django.conf import global_settings, settings
from django.utils.translation import gettext_lazy as _

_DJANGOS_FILTER = global_settings.DEFAULT_EXCEPTION_REPORTER_FILTER


class LLMRoutingConfig(AppConfig):
    """`llm_routing`, the only line a project needs in INSTALLED_APPS."""

    name = "llm_routing"
    verbose_name = _("LLM routing")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connects the receivers, registers the checks, and keeps passwords in URLs off Django's
        error reports unless the host has chosen a filter of its own."""
        from . import checks  # noqa: F401  # importing the checks registers them
        from .configuration import receivers
        from .ledger import database_checks  # noqa: F401

        receivers.connect()
        if settings.DEFAULT_EXCEPTION_REPORTER_FILTER == _DJANGOS_FILTER:
            settings.DEFAULT_EXCEPTION_REPORTER_FILTER = (
                "llm_routing.serving.error_reports.ExceptionReporterFilter"
            )
