"""`manage.py migrate_llm_router`: imports the configuration of another router.

`llm_routing.importing` reads the files and writes the rows.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from llm_routing.importing.plan import Remark
from llm_routing.importing.report import MigrationReport
from llm_routing.importing.source import read
from llm_routing.importing.text import CannotRead
from llm_routing.importing.write import migrate
from llm_routing.management.database import COULD_NOT_RUN, database_error
from llm_routing.models.databases import DATABASE_ERRORS
from llm_routing.setup.report import Action
from llm_routing.vendors import VENDORS

NOT_WHOLE = 1


class Command(BaseCommand):
    """Imports a file, and prints the settings that have no equivalent."""

    help = (
        "Reads the mappings of a hard-coded router (Python, never executed; JSON "
        "or YAML) or LiteLLM's config.yaml, and writes providers, models, routes "
        "and fallbacks. Changes of operators stay. Exit status: 0 everything is "
        "imported, 1 something is not (it is listed), 2 could not run."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--from", dest="path", metavar="PATH", required=True, type=Path, help="The file."
        )
        parser.add_argument(
            "--through",
            metavar="VENDOR",
            default="",
            choices=["", *VENDORS],
            help="The vendor that served names with an author before the slash, such as "
            "openrouter for “anthropic/claude-opus”. Default: the author is the "
            "provider.",
        )
        parser.add_argument(
            "--store-keys",
            action="store_true",
            help="Encrypt keys from the file into their providers' rows.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Show what would be done, and change nothing."
        )
        parser.add_argument("--json", action="store_true", help="Print the report as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            plan = read(options["path"], environ=os.environ, through=options["through"])
            report = migrate(
                plan,
                environ=os.environ,
                store_keys=options["store_keys"],
                dry_run=options["dry_run"],
            )
        except CannotRead as error:
            raise CommandError(f"{options['path']}: {error}", returncode=COULD_NOT_RUN) from None
        except ImproperlyConfigured as error:
            raise CommandError(str(error), returncode=COULD_NOT_RUN) from None
        except DATABASE_ERRORS as error:
            raise database_error(error) from None
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json(), indent=2))
        elif options["verbosity"] >= 1:
            self._print(report)
        if not report.is_whole:
            sys.exit(NOT_WHOLE)

    def _print(self, report: MigrationReport) -> None:
        self.stdout.write(f"Read as: {report.source}.")
        for change in report.changes:
            reason = f" ({change.reason})" if change.reason else ""
            self.stdout.write(f"  {change.action} {change.kind} {change.name}{reason}")
        self._list("Conflicts, unchanged", report.conflicts)
        self._list("No equivalent", report.unmapped)
        self._list("Imported with a difference", report.notes)
        self.stdout.write(_summary(report))

    def _list(self, title: str, remarks: tuple[Remark, ...]) -> None:
        if remarks:
            self.stdout.write(self.style.MIGRATE_HEADING(f"{title}:"))
        for remark in remarks:
            self.stdout.write(f"  {remark.where}: {remark.text.rstrip('.')}.")


def _summary(report: MigrationReport) -> str:
    counts = {
        action: sum(change.action is action for change in report.changes) for action in Action
    }
    done = ", ".join(f"{count} {action}" for action, count in counts.items() if count)
    if not done:
        text = "Nothing to do."
    else:
        text = f"Would be: {done}." if report.is_dry_run else f"Done: {done}."
    if not report.is_whole:
        text += f" Not taken over: {len(report.conflicts) + len(report.unmapped)}, listed above."
    return text
