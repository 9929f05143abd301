"""What follows from a change of a row: the version of its area moves, and after the commit this
process works with the new configuration; the others see the version in their next poll.

Bulk changes, which fire no signal, are seen to by `models.version.ConfigurationQuerySet`.
"""

from typing import Any

from django.db.models.signals import post_delete, post_save

from llm_routing.models import ApiKey, ModelConfig, Provider, RouteTarget, UseCaseRoute
from llm_routing.models.version import ConfigurationModel, ConfigurationVersion
from llm_routing.signals import configuration_changed

from .snapshot import EMPTY_SNAPSHOT
from .source import snapshot_source


def connect() -> None:
    """Connects the receivers, once."""
    for model in (Provider, ModelConfig, UseCaseRoute, RouteTarget, ApiKey):
        for signal in (post_save, post_delete):
            signal.connect(_bump, sender=model, dispatch_uid=f"llm_routing.{model.__name__}")
    configuration_changed.connect(_take_over, dispatch_uid="llm_routing.configuration_changed")


def _take_over(area: str, **_: Any) -> None:
    if area == ConfigurationVersion.Area.ROUTING and snapshot_source.current is not EMPTY_SNAPSHOT:
        snapshot_source.refresh()


def _bump(sender: type[ConfigurationModel], using: str, **_: Any) -> None:
    # Fixtures loaded raw come here too: only `post_save` sees them.
    ConfigurationVersion.objects.using(using).bump(sender.area)
