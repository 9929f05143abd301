"""Reads the existing rows for an import: their author, removed rows, earlier targets of routes.

`write` decides what to write.
"""

from collections.abc import Callable
from typing import Any, Final

from django.db.models import Max, Model

from llm_routing.core.capabilities import Capability
from llm_routing.discovery import record as discovery
from llm_routing.models import ModelConfig, RouteTarget
from llm_routing.models.provenance import IMPORT, history_of
from llm_routing.setup import configure as set_up

REASON: Final = IMPORT
OURS: Final = frozenset({REASON, set_up.REASON, discovery.REASON})

# A planned target: its model, its position and its weight.
TargetToWrite = tuple[ModelConfig, int, int]


def path_of(wanted: list[TargetToWrite]) -> str:
    """Returns the models of a route for a report: equal positions side by side, fallbacks in
    order."""
    levels: dict[int, list[str]] = {}
    for model, position, weight in wanted:
        text = model.address if weight == 1 else f"{model.address} ×{weight}"
        levels.setdefault(position, []).append(text)
    return " > ".join(" | ".join(levels[level]) for level in sorted(levels))


def _embeds(model: ModelConfig) -> bool:
    return Capability.EMBEDDINGS in model.capabilities


def embeddings_beside(
    wanted: list[TargetToWrite], present: list[RouteTarget]
) -> list[TargetToWrite]:
    """Returns the embedding targets of a route that the file does not mention, to be placed after
    the file's targets: requests for chat do not reach them."""
    if any(_embeds(model) for model, _, _ in wanted):
        return []
    behind = max(position for _, position, _ in wanted) + 1
    kept = sorted((row for row in present if _embeds(row.model)), key=lambda row: row.position)
    return [(row.model, behind + number, row.weight) for number, row in enumerate(kept)]


def removed_since(model: type[Model], name: Callable[[Any], Any]) -> set[Any]:
    """Returns the names of all rows that an import has written, even of deleted ones."""
    return {name(entry) for entry in history_of(model).filter(history_change_reason=REASON)}


def routes_with_touched_targets() -> set[Any]:
    """Returns the routes of which an operator added, changed or removed a target."""
    newest = history_of(RouteTarget).order_by().values("id").annotate(newest=Max("history_id"))
    entries = history_of(RouteTarget).filter(history_id__in=newest.values("newest"))
    return set(entries.exclude(history_change_reason__in=OURS).values_list("route_id", flat=True))
