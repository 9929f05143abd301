"""Rows that programs write beside operators; the history records which program wrote a row.

Setup, discovery and import decide which rows to write.
"""

from collections.abc import Collection, Iterable
from typing import Any

from django.db.models import Max, Model

from . import ConfigurationVersion

SET_UP = "setup_llm_configuration"
IMPORT = "migrate_llm_router"
"""The signatures of the commands that create providers: inactive while their key is missing."""


def lock_configuration() -> None:
    """Takes the lock that every configuration change takes, before anything is read. It is held
    until the transaction ends."""
    ConfigurationVersion.objects.lock(ConfigurationVersion.Area.ROUTING)


def history_of(model: type[Model]) -> Any:
    """Returns the history of all rows of a model, including deleted ones."""
    return model.history.all()  # type: ignore[attr-defined]  # set by simple_history


def last_written_by(model: type[Model], reasons: Collection[str]) -> set[Any]:
    """Returns the keys of the rows, including deleted ones, whose newest change has one of
    `reasons`: no operator has written them since."""
    newest = history_of(model).order_by().values("id").annotate(newest=Max("history_id"))
    signatures = history_of(model).filter(
        history_id__in=newest.values("newest"), history_change_reason__in=reasons
    )
    return set(signatures.values_list("id", flat=True))


def with_change_reason(rows: Iterable[Any], reason: str) -> list[Any]:
    """Returns the rows as a list, with the change reason that the history records."""
    rows = list(rows)
    for row in rows:
        row._change_reason = reason  # noqa: SLF001  # simple_history reads it from there
    return rows


def save(row: Model, *fields: str, reason: str) -> None:
    """Saves some fields of a row with its change reason."""
    with_change_reason([row], reason)
    row.save(update_fields=[*fields, "updated_at"])
