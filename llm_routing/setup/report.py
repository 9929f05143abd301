"""The result of a setup or of its dry run, as plain data and as JSON.

The command decides how to show it.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Action(StrEnum):
    """The change of a row. SKIPPED: an operator deleted or renamed it, so it is not created again,
    or a row that it needs is missing."""

    CREATED = "created"
    UPDATED = "updated"
    ACTIVATED = "activated"
    DEACTIVATED = "deactivated"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the configuration: `kind` is provider, model or route."""

    kind: str
    name: str
    action: Action
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ProviderState:
    """The state of a provider. `key` is the source of its key, never the key itself."""

    name: str
    vendor: str
    is_active: bool
    key: str


@dataclass(frozen=True, slots=True)
class RouteState:
    """The state of a route: its active models, the first one first, with embedding models listed
    separately."""

    use_case: str
    tier: str
    models: tuple[str, ...]
    embeddings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The whole run."""

    changes: tuple[Change, ...]
    providers: tuple[ProviderState, ...]
    routes: tuple[RouteState, ...]
    warnings: tuple[str, ...]
    is_dry_run: bool = False

    @property
    def made(self) -> tuple[Change, ...]:
        """Returns the changes without the skipped rows."""
        return tuple(change for change in self.changes if change.action is not Action.SKIPPED)

    def as_json(self) -> dict[str, Any]:
        """Returns the report as JSON-serializable data."""
        return {
            "dry_run": self.is_dry_run,
            "changed": bool(self.made),
            **{
                name: [asdict(row) for row in getattr(self, name)]
                for name in ("changes", "providers", "routes")
            },
            "warnings": list(self.warnings),
        }
