"""`manage.py llm_migrate`: Django's `migrate`, one process at a time."""

from typing import Any

from django.core.management.base import CommandParser
from django.core.management.commands import migrate

from llm_routing.management.migration_lock import migration_lock


class Command(migrate.Command):
    """Takes a lock in the database first, so that any number of pods may start at once."""

    help = (
        "Migrates as Django's migrate does, with the same options. Of processes that do so at the "
        "same time one migrates, and the others wait for it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--lock-timeout",
            type=float,
            default=600.0,
            metavar="SECONDS",
            help="How long to wait for another process. Default: %(default)s.",
        )

    def handle(self, *args: Any, **options: Any) -> str | None:
        timeout = options.pop("lock_timeout")

        def waiting() -> None:
            self.stderr.write("Waiting for another process that migrates this database.")

        with migration_lock(options["database"], timeout, waiting):
            return super().handle(*args, **options)
