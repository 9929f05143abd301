"""Collects the outcome of an import while it runs."""

from django.core.exceptions import ValidationError
from django.db.models import Model

from llm_routing.setup.report import Action, Change

from .plan import Plan, Remark
from .report import MigrationReport
from .text import shown


class Outcome:
    """Changes, conflicts and notes of one import. `unchanged` counts rows that match the file."""

    def __init__(self) -> None:
        self._changes: list[Change] = []
        self._conflicts: list[Remark] = []
        self._notes: list[Remark] = []
        self.unchanged = 0

    def report(self, plan: Plan, *, is_dry_run: bool) -> MigrationReport:
        """Returns the report on the import of `plan`."""
        return MigrationReport(
            source=plan.source,
            changes=tuple(self._changes),
            unchanged=self.unchanged,
            conflicts=tuple(self._conflicts),
            unmapped=plan.unmapped,
            notes=(*plan.notes, *self._notes),
            is_dry_run=is_dry_run,
        )

    def change(self, kind: str, name: str, action: Action, reason: str = "") -> None:
        """Adds a change of a row."""
        self._changes.append(Change(kind, name, action, reason))

    def conflict(self, kind: str, name: str, reason: str) -> None:
        """Adds a row that stays, although the plan has another."""
        self._conflicts.append(Remark(f"{kind} {shown(name)}", reason))

    def note(self, kind: str, name: str, text: str) -> None:
        """Adds a remark for the operator."""
        self._notes.append(Remark(f"{kind} {shown(name)}", text))

    def is_valid(self, kind: str, name: str, row: Model) -> bool:
        """Returns whether a row passes the validation of the admin; adds a conflict otherwise."""
        try:
            row.full_clean()
        except ValidationError as error:
            self.conflict(kind, name, " ".join(error.messages))
            return False
        return True
