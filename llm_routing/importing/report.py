"""The result of an import or of its dry run, as plain data and as JSON.

The command decides how to show it.
"""

from dataclasses import asdict, dataclass
from typing import Any

from llm_routing.setup.report import Change

from .plan import Remark


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """`changes` are the written rows, `unchanged` counts the rows that already match the file.
    `conflicts` are rows that an operator changed, which stay; `unmapped` has no equivalent, `notes`
    was mapped with a difference."""

    source: str
    changes: tuple[Change, ...]
    unchanged: int
    conflicts: tuple[Remark, ...]
    unmapped: tuple[Remark, ...]
    notes: tuple[Remark, ...]
    is_dry_run: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether everything in the file is now in the configuration."""
        return not self.conflicts and not self.unmapped

    def as_json(self) -> dict[str, Any]:
        """Returns the report as JSON-serializable data."""
        return {
            "source": self.source,
            "dry_run": self.is_dry_run,
            "changed": bool(self.changes),
            "unchanged": self.unchanged,
            **{
                name: [asdict(row) for row in getattr(self, name)]
                for name in ("changes", "conflicts", "unmapped", "notes")
            },
        }
