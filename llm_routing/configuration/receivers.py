"""Reacts to configuration changes: bumps the version of the area and, after the commit, refreshes
the snapshot of this process. Other processes see the version in their next poll.

Deletions and bulk changes bump the version in `models.version`, because not all send signals;
`content_check` finds changes that bypass the models.
"""

from typing import Any

from django.db.models.signals import post_save

from llm_routing.models.version import ConfigurationModel, ConfigurationVersion
from llm_routing.signals import configuration_changed

from .content_check import MODELS
from .snapshot import EMPTY_SNAPSHOT
from .source import snapshot_source


def connect() -> None:
    """Connects the receivers, once."""
    for model in MODELS:
        post_save.connect(_bump, sender=model, dispatch_uid=f"llm_routing.{model.__name__}")
    configuration_changed.connect(_refresh, dispatch_uid="llm_routing.configuration_changed")


def _refresh(area: str, **_: Any) -> None:
    if area == ConfigurationVersion.Area.ROUTING and snapshot_source.current is not EMPTY_SNAPSHOT:
        snapshot_source.refresh()


def _bump(sender: type[ConfigurationModel], using: str, **_: Any) -> None:
    # A signal instead of `save`, because loading a raw fixture does not call `save`.
    ConfigurationVersion.objects.using(using).bump(sender.area)
