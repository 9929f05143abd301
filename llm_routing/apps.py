"""The app's configuration."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class LLMRoutingConfig(AppConfig):
    """`llm_routing`, the only line a project needs in INSTALLED_APPS."""

    name = "llm_routing"
    verbose_name = _("LLM routing")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connects the receivers and registers the checks."""
        from . import checks, receivers  # noqa: F401  # importing the checks registers them

        receivers.connect()
