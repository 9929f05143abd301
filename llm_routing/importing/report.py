"""The result of an import or of its dry run, as plain data and as JSON.

How it reads on a terminal is the command's business.
"""

from dataclasses import asdict, dataclass
from typing import Any

from llm_routing.setup.report import Change

from .plan import Remark


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """`changes` are the rows that were written, `unchanged` counts those that were as the file has
    them. `conflicts` are rows that an operator has otherwise, which stay; `unmapped` has no place
    here, `notes` was mapped with a difference."""

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
        """The report as JSON can say it."""
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
