"""`manage.py llm_discover_models`: finds new and vanished models of the providers.

`llm_routing.discovery` reads the lists and writes the rows.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from llm_routing.discovery import DiscoveryReport, ProviderReport, UnknownProvider
from llm_routing.factory import discover_models
from llm_routing.management.database import COULD_NOT_RUN, database_error
from llm_routing.models.databases import DATABASE_ERRORS

PROVIDER_FAILED = 1


class Command(BaseCommand):
    """Runs a discovery and prints the result: counts (1), or every model by name (2)."""

    help = (
        "Reads the list of models of every active provider. New models are "
        "added, inactive, with price and context window if known; missing ones "
        "are marked as vanished, and returned ones are unmarked. Changes of "
        "operators stay. Exit status: 0 fine, 1 a provider failed, 2 could not "
        "run."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--provider",
            action="extend",
            nargs="+",
            default=[],
            metavar="NAME",
            help="Only these providers, active or not.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Show what would be done, and change nothing."
        )
        parser.add_argument("--json", action="store_true", help="Print the report as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = async_to_sync(discover_models)(options["provider"], dry_run=options["dry_run"])
        except (UnknownProvider, ImproperlyConfigured) as error:
            raise CommandError(str(error), returncode=COULD_NOT_RUN) from None
        except DATABASE_ERRORS as error:
            raise database_error(error) from error
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json(), indent=2))
        elif options["verbosity"] >= 1:
            self._print(report, in_full=options["verbosity"] >= 2)
        if not options["json"]:
            for row in report.failed:
                self.stderr.write(self.style.ERROR(f"{row.provider}: {row.message}"))
        if report.failed:
            sys.exit(PROVIDER_FAILED)

    def _print(self, report: DiscoveryReport, *, in_full: bool) -> None:
        for row in report.providers:
            if not row.error:
                self.stdout.write(f"{row.provider}: {', '.join(_counts(row))}.")
                if in_full:
                    for line in _names(row):
                        self.stdout.write(line)
        self.stdout.write(_summary(report))


def _counts(row: ProviderReport) -> Iterator[str]:
    """Returns the counts of one provider as text."""
    yield f"{len(row.models)} offered"
    for text, names in _changes(row):
        if names:
            yield f"{len(names)} {text}"
    if row.unreadable:
        yield f"{row.unreadable} unreadable"
    if not row.is_complete:
        yield "list incomplete, so no model counts as vanished"


def _names(row: ProviderReport) -> Iterator[str]:
    for text, names in _changes(row):
        for name in names:
            yield f"  {text}: {name}"


def _changes(row: ProviderReport) -> Sequence[tuple[str, tuple[str, ...]]]:
    return (
        ("new", row.added),
        ("vanished", row.vanished),
        ("returned", row.returned),
        ("not added, because its row was removed or renamed", row.left_alone),
    )


def _summary(report: DiscoveryReport) -> str:
    if not report.providers:
        return "No provider is active."
    added, vanished, returned = map(report.count, ("added", "vanished", "returned"))
    if not added and not vanished and not returned:
        return "Nothing has changed."
    done = f"{added} added, {vanished} marked as vanished, {returned} back"
    return f"Would be: {done}." if report.is_dry_run else f"Done: {done}."
