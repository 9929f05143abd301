"""The history of the configuration for display: time, user, row, and old and new values."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from django.contrib.admin.utils import display_for_value
from django.db.models import Field, ForeignKey, Model, OuterRef, QuerySet, Subquery
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext as _

from llm_routing.models.version import users_by_key

EMPTY = "—"
LONGEST_VALUE = 300


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field's value before and after, as text."""

    field: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One change of one row."""

    at: datetime
    who: str
    subject: str
    action: str
    reason: str
    changes: tuple[FieldChange, ...]


class Timeline:
    """The history of one table, for all rows or for those that `lookups` select.

    Needs a fixed number of queries, whatever the number of rows.
    """

    most = 200

    def __init__(self, model: type[Model], **lookups: Any) -> None:
        manager: Any = model.history  # type: ignore[attr-defined]  # set by simple_history
        self._history: type[Any] = manager.model
        self._rows: QuerySet[Any] = manager.filter(**lookups)

    @classmethod
    def merge(cls, timelines: Iterable[Self]) -> tuple[list[Entry], bool]:
        """Returns the newest entries of several tables, newest first, and whether there are
        more."""
        entries = [entry for timeline in timelines for entry in timeline.entries()]
        entries.sort(key=lambda entry: entry.at, reverse=True)
        return entries[: cls.most], len(entries) > cls.most

    @property
    def newest_id(self) -> int:
        """Returns the ID of the newest entry; 0 if there is none."""
        keys = self._rows.order_by("-history_id").values_list("history_id", flat=True)
        return int(keys.first() or 0)

    def entries(self) -> list[Entry]:
        """Returns the newest entries, newest first; one more than `most` if there are more."""
        earlier = (
            self._history.objects.filter(id=OuterRef("id"), history_id__lt=OuterRef("history_id"))
            .order_by("-history_id")
            .values("history_id")[:1]
        )
        rows = list(
            self._rows.annotate(earlier_id=Subquery(earlier)).order_by(
                "-history_date", "-history_id"
            )[: self.most + 1]
        )
        before = self._history.objects.in_bulk([row.earlier_id for row in rows if row.earlier_id])
        names = self._names([*rows, *before.values()])
        users = users_by_key(row.history_user_id for row in rows)
        return [
            self._entry(
                row, before.get(row.earlier_id), names, str(users.get(row.history_user_id, ""))
            )
            for row in rows
        ]

    def _entry(self, row: Any, before: Any, names: "Names", who: str) -> Entry:
        changes = [
            FieldChange(
                capfirst(str(field.verbose_name)),
                self._text(field, old, names),
                self._text(field, new, names),
            )
            for field in row.tracked_fields
            if before is not None
            and row.history_type == "~"
            and (old := getattr(before, field.attname)) != (new := getattr(row, field.attname))
        ]
        return Entry(
            at=row.history_date,
            who=who,
            subject=f"{row.instance_type._meta.verbose_name} {self._subject(row, names)}",  # noqa: SLF001  # documented API
            action=row.get_history_type_display(),
            reason=row.history_change_reason or "",
            changes=tuple(changes),
        )

    def _subject(self, row: Any, names: "Names") -> str:
        """Returns the name of the row at that time."""
        parts = []
        for name in ("route", "provider", "use_case", "tier", "model", "name", "model_id"):
            field = next((field for field in row.tracked_fields if field.name == name), None)
            if field is not None:
                parts.append(self._text(field, getattr(row, field.attname), names))
        return " / ".join(parts)

    def _text(self, field: "Field[Any, Any]", value: Any, names: "Names") -> str:
        if value is None or value in ("", []):
            return EMPTY
        if isinstance(field, ForeignKey):
            return names[field.related_model].get(value, _("#%(id)s, deleted") % {"id": value})
        if isinstance(value, bool):
            return _("yes") if value else _("no")
        if field.choices:
            return str(dict(field.flatchoices).get(value, value))
        return Truncator(display_for_value(value, EMPTY)).chars(LONGEST_VALUE)

    def _names(self, rows: list[Any]) -> "Names":
        """Returns the rows that the foreign keys of `rows` point to, by table and key."""
        keys: dict[Any, set[Any]] = defaultdict(set)
        for field in self._history.tracked_fields:
            if isinstance(field, ForeignKey):
                keys[field.related_model] |= {getattr(row, field.attname) for row in rows}
        names: Names = {}
        for model, values in keys.items():
            # The text of a row may include the name of its parent row.
            parents = [
                field.name
                for field in model._meta.concrete_fields  # noqa: SLF001  # documented API
                if isinstance(field, ForeignKey)
            ]
            related = model.objects.select_related(*parents) if parents else model.objects.all()
            found = related.in_bulk(values - {None})
            names[model] = {key: str(row) for key, row in found.items()}
        return names


Names = dict[Any, dict[Any, str]]
