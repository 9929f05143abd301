"""Finds configuration changes that did not bump a version.

Writes through the models bump the version of their area in the same transaction. Cascades of the
database and foreign SQL do not, so the content is compared as well.
"""

import time
from collections.abc import Callable, Generator, Sequence
from hashlib import blake2b

from llm_routing.models import ApiKey, ModelConfig, Provider, RouteTarget, UseCaseRoute
from llm_routing.models.databases import atomic
from llm_routing.models.version import ConfigurationModel, ConfigurationVersion

INTERVAL = 10.0
"""Seconds between two checks."""
MAX_SHARE = 0.01
"""The maximum share of time for checks: large tables are checked less often."""

CHUNK_ROWS = 2000
"""Maximum rows per call and model."""

MODELS: Sequence[type[ConfigurationModel]] = (
    Provider,
    ModelConfig,
    UseCaseRoute,
    RouteTarget,
    ApiKey,
)
"""Every model of the configuration."""


class ContentCheck:
    """Compares the rows of one area with their state when its version last changed.

    A large table is read in chunks, one per call of `run`, so that a check neither holds all rows
    in memory nor blocks its caller for long.
    """

    def __init__(
        self,
        area: ConfigurationVersion.Area,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._area = area
        self._models = [model for model in MODELS if model.area == area]
        self._monotonic = monotonic
        self._version: tuple[int, str] | None = None
        self._digest: bytes | None = None
        self._scan: Generator[None, None, bytes] | None = None
        self._seconds_spent = 0.0
        self._due = float("-inf")

    def run(self, version: tuple[int, str]) -> bool:
        """Bumps the version if the rows have changed and the version has not; returns whether it
        did. `version` is that of the area, just read, with its stamp. Reads nothing else unless it
        has changed or a check is due. Raises `django.db.Error`."""
        began = self._monotonic()
        if version != self._version:
            self._version, self._digest, self._scan = version, None, self._digest_in_chunks()
        elif self._scan is None:
            if began < self._due:
                return False
            self._scan = self._digest_in_chunks()
        scan, self._scan = self._scan, None  # an error ends it
        try:
            next(scan)
        except StopIteration as end:
            digest: bytes = end.value
        else:
            self._scan = scan
            self._seconds_spent += self._monotonic() - began
            return False
        now = self._monotonic()
        self._due = now + max(INTERVAL, (self._seconds_spent + now - began) / MAX_SHARE)
        self._seconds_spent = 0.0
        if ConfigurationVersion.objects.version_and_stamp(self._area) != version:
            return False  # the next call starts again with the new version
        known, self._digest = self._digest, digest
        return known is not None and digest != known and self._move(version)

    def _move(self, seen: tuple[int, str]) -> bool:
        versions = ConfigurationVersion.objects
        with atomic(ConfigurationVersion):
            versions.lock(self._area)
            # Another process may have found the same change.
            if versions.version_and_stamp(self._area) != seen:
                return False
            versions.bump(self._area)
        return True

    def _digest_in_chunks(self) -> Generator[None, None, bytes]:
        """Yields between two chunks; returns the digest of all rows."""
        digest = blake2b(digest_size=16)
        for model in self._models:
            columns = [field.attname for field in model._meta.concrete_fields]  # noqa: SLF001  # documented API
            rows = model._default_manager.order_by("pk").values_list("pk", *columns)  # noqa: SLF001  # documented API
            chunk = list(rows[:CHUNK_ROWS])
            while chunk:
                for row in chunk:
                    digest.update(repr(row).encode())
                if len(chunk) < CHUNK_ROWS:
                    break
                yield
                chunk = list(rows.filter(pk__gt=chunk[-1][0])[:CHUNK_ROWS])
        return digest.digest()
