"""`manage.py llm_prune`: removes old usage records."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from llm_routing.conf import get_settings
from llm_routing.ledger.retention import BATCH, prune_batch
from llm_routing.management.database import database_error


class Command(BaseCommand):
    """Deletes in batches; an interrupted run keeps the deletions so far."""

    help = "Removes usage records that are older than a number of days."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--days", type=float, help="Default: USAGE_RETENTION_DAYS of the settings."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        days = options["days"]
        if days is None:
            days = get_settings().usage_retention_days or None
        if days is None:
            raise CommandError("Give an age: --days, or USAGE_RETENTION_DAYS in the settings.")
        if not 0 < days <= 36_500:
            raise CommandError("--days must be more than 0 and at most 36500.")
        try:
            removed = batch = prune_batch(days)
            while batch == BATCH:
                batch = prune_batch(days)
                removed += batch
        except (DatabaseError, InterfaceError) as error:
            raise database_error(error) from None
        self.stdout.write(f"Removed {removed} usage records older than {days:g} days.")
