"""The result of a set-up or of its dry run, as plain data and as JSON.

How it reads on a terminal is the command's business.
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
    """A provider as it stands. `key` says where its key is from and never what it is."""

    name: str
    vendor: str
    is_active: bool
    key: str


@dataclass(frozen=True, slots=True)
class RouteState:
    """A route as it stands: the models it leads to that are in use, the first one first, and
    those of them for embeddings apart."""

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
        """The changes without what was skipped."""
        return tuple(change for change in self.changes if change.action is not Action.SKIPPED)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON can say it."""
        return {
            "dry_run": self.is_dry_run,
            "changed": bool(self.made),
            **{
                name: [asdict(row) for row in getattr(self, name)]
                for name in ("changes", "providers", "routes")
            },
            "warnings": list(self.warnings),
        }
