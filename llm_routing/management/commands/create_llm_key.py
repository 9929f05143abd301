"""`manage.py create_llm_key`: creates an API key and shows it once.

`llm_routing.models.access` creates and stores keys.
"""

import json
from argparse import ArgumentTypeError
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError

from llm_routing.management.database import database_error
from llm_routing.models import ApiKey
from llm_routing.models.databases import DATABASE_ERRORS, as_stored, as_utc, atomic


def moment(text: str) -> datetime:
    """Parses a number of days from now, or an ISO 8601 date or time, by default in the time zone of
    the settings; it must be in the future. Raises `ArgumentTypeError`."""
    try:
        if text.isascii() and text.isdigit():
            expires_at = datetime.now(UTC) + timedelta(days=int(text))
        elif len(text) == len("2027-01-31"):
            expires_at = datetime.combine(date.fromisoformat(text), time())
        else:
            expires_at = datetime.fromisoformat(text)
        expires_at = as_utc(expires_at)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(
            f"{text!r} is neither a number of days nor a date such as 2027-01-31 or "
            "2027-01-31T12:00+00:00"
        ) from None
    if expires_at <= datetime.now(UTC):
        raise ArgumentTypeError(f"{text!r} is not in the future")
    return as_stored(expires_at)


class Command(BaseCommand):
    """Creates the key and prints it; it cannot be shown again."""

    help = "Creates an API key and prints it once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="The person or service that uses the key; must be new.")
        parser.add_argument(
            "--tenant",
            default="default",
            help="A slug; caches and usage records are separate for each tenant. Default: "
            "%(default)s.",
        )
        parser.add_argument(
            "--expires",
            type=moment,
            metavar="DAYS|DATE",
            help="Days from now, or an ISO 8601 date or time. Default: never.",
        )
        parser.add_argument(
            "--metrics", action="store_true", help="The key may read /metrics, of all tenants."
        )
        parser.add_argument("--json", action="store_true", help="Print name, key and prefix.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            key, clear_text = self._issue(
                options["name"].strip(),
                options["tenant"].strip(),
                options["expires"],
                options["metrics"],
            )
        except DATABASE_ERRORS as error:
            raise database_error(error) from None
        if options["json"]:
            self.stdout.write(
                json.dumps({"name": key.name, "key": clear_text, "prefix": key.prefix})
            )
            return
        if options["verbosity"] == 0:
            self.stdout.write(clear_text)
            return
        expires = "never" if key.expires_at is None else key.expires_at.isoformat()
        self.stdout.write(f"API key {key.name} of tenant {key.tenant}, expires: {expires}")
        self.stdout.write(self.style.SUCCESS(clear_text))
        self.stdout.write("It is shown only once; store it in a safe place.")

    def _issue(
        self, name: str, tenant: str, expires_at: datetime | None, reads_metrics: bool
    ) -> tuple[ApiKey, str]:
        taken = f"There is already an API key named {name!r}. Choose another name, or revoke it."
        try:
            ApiKey(name=name, tenant=tenant).clean_fields(exclude=["prefix", "digest"])
        except ValidationError as error:
            problems = [
                f"{field}: {' '.join(messages)}" for field, messages in error.message_dict.items()
            ]
            raise CommandError("; ".join(problems)) from None
        if ApiKey.objects.filter(name=name).exists():
            raise CommandError(taken)
        try:
            with atomic(ApiKey):
                return ApiKey.objects.issue(name, tenant, expires_at, reads_metrics=reads_metrics)
        except IntegrityError:
            # Another process was quicker.
            raise CommandError(taken) from None
