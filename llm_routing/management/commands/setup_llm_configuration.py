"""`manage.py setup_llm_configuration`: creates the first providers, models and routes.

`llm_routing.setup.configure` decides what to write.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from llm_routing.core.types import ModelTier
from llm_routing.management.database import database_error
from llm_routing.models.databases import DATABASE_ERRORS
from llm_routing.setup.configure import configure
from llm_routing.setup.report import Action, ProviderState, Report, RouteState
from llm_routing.vendors import VENDORS


class Command(BaseCommand):
    """Runs setup and prints its changes: nothing (0), a summary (1) or every row (2)."""

    help = (
        "Creates the providers, models and routes that are missing. It may run "
        "any number of times: rows that an operator edited, deleted or added "
        "stay unchanged. A provider is active if its API key is in the "
        "environment; without any key, the sandbox answers."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="Show what would be done, and change nothing."
        )
        parser.add_argument("--json", action="store_true", help="Print the report as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = configure(dry_run=options["dry_run"])
        except DATABASE_ERRORS as error:
            raise database_error(error) from error
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json(), indent=2))
            return
        if options["verbosity"] >= 1:
            self._print(report, in_full=options["verbosity"] >= 2)
        for warning in report.warnings:
            self.stderr.write(self.style.WARNING(warning))

    def _print(self, report: Report, *, in_full: bool) -> None:
        if in_full and report.changes:
            self._table(
                ("", "what", "name", ""),
                [(row.action, row.kind, row.name, row.reason) for row in report.changes],
            )
        self._table(
            ("provider", "vendor", "state", "key"),
            [
                (row.name, row.vendor, "active" if row.is_active else "-", row.key)
                for row in report.providers
            ],
        )
        self._table(("use case", *ModelTier), _by_use_case(report.routes))
        if any(row.is_active and _is_sandbox(row) for row in report.providers):
            self.stdout.write("The sandbox answers while it runs: python manage.py llm_sandbox")
        self.stdout.write(_summary(report))

    def _table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        lines = [tuple(head), *(tuple(row) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for number, line in enumerate(lines):
            text = "  ".join(map(str.ljust, line, widths)).rstrip()
            self.stdout.write(self.style.MIGRATE_HEADING(text) if number == 0 else text)
        self.stdout.write("")


def _is_sandbox(provider: ProviderState) -> bool:
    vendor = VENDORS.get(provider.vendor)
    return vendor is not None and vendor.is_sandbox


def _by_use_case(routes: Iterable[RouteState]) -> list[tuple[str, ...]]:
    """Returns a line per use case: the first model of every tier, and the number of fallbacks."""
    cells: dict[str, dict[str, str]] = {}
    for route in routes:
        first, others = (route.models or ("none",))[0], len(route.models) - 1
        text = f"{first} +{others}" if others > 0 else first
        cells.setdefault(route.use_case, {})[route.tier] = text
    return [
        (use_case, *(tiers.get(tier, "-") for tier in ModelTier))
        for use_case, tiers in cells.items()
    ]


def _summary(report: Report) -> str:
    counts = {
        action: sum(change.action is action for change in report.changes) for action in Action
    }
    if not report.made:
        text = "Nothing to do."
    else:
        done = ", ".join(
            f"{count} {action}"
            for action, count in counts.items()
            if count and action is not Action.SKIPPED
        )
        text = f"Would be: {done}." if report.is_dry_run else f"Done: {done}."
    if counts[Action.SKIPPED]:
        text += f" Left alone, because an operator removed or renamed it: {counts[Action.SKIPPED]}."
    return text
