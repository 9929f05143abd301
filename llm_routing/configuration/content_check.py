"""Finds changes of the configuration that moved no version.

Writes through the models move the version of their area in the same transaction. Cascades that
the database itself runs and SQL from elsewhere do not, so the content is compared as well.
"""

import time
from collections.abc import Callable, Sequence
from hashlib import blake2b

from llm_routing.models import ApiKey, ModelConfig, Provider, RouteTarget, UseCaseRoute
from llm_routing.models.databases import atomic
from llm_routing.models.version import ConfigurationModel, ConfigurationVersion

INTERVAL = 10.0
"""Seconds between two checks."""
MAX_SHARE = 0.01
"""The part of the time that checks may take: those of large tables come less often."""

MODELS: Sequence[type[ConfigurationModel]] = (
    Provider,
    ModelConfig,
    UseCaseRoute,
    RouteTarget,
    ApiKey,
)
"""Every model of the configuration."""


class ContentCheck:
    """Compares the rows of one area with what they were when its version last moved."""

    def __init__(
        self,
        area: ConfigurationVersion.Area,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._area = area
        self._models = [model for model in MODELS if model.area == area]
        self._monotonic = monotonic
        self._version: tuple[int, str] | None = None
        self._digest = b""
        self._due = float("-inf")

    def run(self) -> bool:
        """Moves the version if the rows have changed and it has not; returns whether it did. Reads
        the version alone unless that has moved or a check is due. Raises `django.db.Error`."""
        began = self._monotonic()
        version = ConfigurationVersion.objects.version_and_stamp(self._area)
        has_moved = version != self._version
        if not has_moved and began < self._due:
            return False
        digest = self._content_digest()
        now = self._monotonic()
        self._due = now + max(INTERVAL, (now - began) / MAX_SHARE)
        if ConfigurationVersion.objects.version_and_stamp(self._area) != version:
            return False  # the next call compares with the new version
        is_changed = not has_moved and digest != self._digest
        self._version, self._digest = version, digest
        return is_changed and self._move(version)

    def _move(self, seen: tuple[int, str]) -> bool:
        versions = ConfigurationVersion.objects
        with atomic(ConfigurationVersion):
            versions.lock(self._area)
            # Another process may have found the same change.
            if versions.version_and_stamp(self._area) != seen:
                return False
            versions.bump(self._area)
        return True

    def _content_digest(self) -> bytes:
        digest = blake2b(digest_size=16)
        for model in self._models:
            for row in model._default_manager.order_by("pk").values_list():  # noqa: SLF001  # documented API
                digest.update(repr(row).encode())
        return digest.digest()
