"""`manage.py llm_migrate`: Django's `migrate`, one process at a time."""

from typing import Any

from django.core.management.base import CommandParser
from django.core.management.commands import migrate

from llm_routing.management.migration_lock import migration_lock


class Command(migrate.Command):
    """Takes a lock in the database first, so that several pods may start at the same time."""

    help = (
        "Migrates like Django's migrate, with the same options. If several "
        "processes run it at the same time, one migrates and the others wait."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--lock-timeout",
            type=float,
            default=600.0,
            metavar="SECONDS",
            help="Maximum seconds to wait for another process. Default: %(default)s.",
        )

    def handle(self, *args: Any, **options: Any) -> str | None:
        timeout = options.pop("lock_timeout")

        def waiting() -> None:
            self.stderr.write("Waiting for another process that migrates this database.")

        with migration_lock(options["database"], timeout, waiting):
            return super().handle(*args, **options)
