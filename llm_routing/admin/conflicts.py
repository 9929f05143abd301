"""Concurrent edits in the admin: rejects a save if the row changed after the form was opened."""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, ClassVar

from django import forms
from django.db.models import Model
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from .history import Timeline


class _Mark(forms.CharField):
    widget = forms.HiddenInput

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Returns False: the mark is not a field of the row."""
        return False


class EditConflictForm(forms.ModelForm):  # type: ignore[type-arg]  # not at run time
    """A form that remembers the newest change of its row and is invalid if a newer one exists. A
    second save overwrites that change.

    `timelines_of` returns the histories that belong to a row. The row is locked until the end of
    the transaction, so two concurrent saves detect each other.
    """

    timelines_of: ClassVar[Callable[[Model], Sequence[Timeline]]]
    seen = _Mark(required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["seen"] = self._mark()

    def clean(self) -> dict[str, Any] | None:
        """Adds an error if the row was changed after the form was opened."""
        cleaned = super().clean() or self.cleaned_data
        seen = cleaned.get("seen")
        if self.instance.pk and seen:
            rows = type(self.instance)._base_manager.select_for_update()  # noqa: SLF001  # documented
            rows.filter(pk=self.instance.pk).first()
            newest = self._mark()
            if seen != newest:
                self.add_error(None, self._conflict())
                data: Any = copy(self.data)
                data[self.add_prefix("seen")] = newest
                self.data = data
        return cleaned

    def _mark(self) -> str:
        """Returns the newest change of each history, as text."""
        timelines = type(self).timelines_of(self.instance)
        return "-".join(str(timeline.newest_id) for timeline in timelines)

    def _conflict(self) -> str:
        entries, _more = Timeline.merge(type(self).timelines_of(self.instance))
        entry = entries[0]
        changes = [f"{change.field}: {change.old} → {change.new}" for change in entry.changes]
        return _(
            "%(who)s changed %(subject)s at %(when)s, after you opened this page (%(changes)s). "
            "What you typed is not saved. Save again to overwrite, or see the history first."
        ) % {
            "who": entry.who or _("Somebody"),
            "subject": entry.subject,
            "when": date_format(localtime(entry.at), "DATETIME_FORMAT"),
            "changes": "; ".join(changes) or entry.action,
        }
