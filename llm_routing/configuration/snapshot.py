"""An immutable snapshot of the configuration: a routing table and the providers' credentials.

`source` reads it from the database and replaces it; `built_in` makes one without a database.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

from llm_routing.core.ports import Credential, CredentialStore
from llm_routing.core.routing_table import RoutingTable

from .credentials import ProviderCredentials

_NO_OVERRIDES: Final[Mapping[str, Credential]] = MappingProxyType({})


class SnapshotOrigin(StrEnum):
    """The origin of a snapshot."""

    NOWHERE = "nowhere"
    STATIC = "static"
    CACHE = "cache"
    FILE = "file"
    DATABASE = "database"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A routing table with its credentials. `is_confirmed` is False if the database did not answer
    the last check whether the snapshot is current.

    `forbidden_addresses` says why settings do not allow a base URL, `unused_keys` names the
    variables whose keys are not used, both by provider (see `provider_problems`).
    """

    table: RoutingTable
    credentials: CredentialStore
    origin: SnapshotOrigin
    is_confirmed: bool = True
    forbidden_addresses: Mapping[str, str] = field(default_factory=dict)
    unused_keys: Mapping[str, str] = field(default_factory=dict)


EMPTY_SNAPSHOT = Snapshot(RoutingTable(version=-1), ProviderCredentials({}), SnapshotOrigin.NOWHERE)


class SnapshotReader(Protocol):
    """Provides the current snapshot."""

    @property
    def current(self) -> Snapshot:
        """The current snapshot: an attribute read, never I/O."""


@dataclass(frozen=True, slots=True)
class FixedSnapshot:
    """A `SnapshotReader` whose snapshot never changes."""

    current: Snapshot


class CurrentCredentials:
    """A `CredentialStore` that reads the current snapshot. `overrides` are credentials by vendor,
    which take precedence."""

    __slots__ = ("__weakref__", "_overrides", "_snapshots")

    def __init__(
        self, snapshots: SnapshotReader, overrides: Mapping[str, Credential] = _NO_OVERRIDES
    ) -> None:
        self._snapshots = snapshots
        self._overrides = overrides

    def get(self, provider: str) -> Credential | None:
        """Returns the provider's credential; None if it needs one and has none."""
        snapshot = self._snapshots.current
        if self._overrides:
            spec = snapshot.table.providers.get(provider)
            override = self._overrides.get(spec.vendor) if spec else None
            if override is not None:
                return override
        return snapshot.credentials.get(provider)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
