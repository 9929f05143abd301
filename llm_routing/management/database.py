"""The error of a command that cannot use the database."""

from django.core.management.base import CommandError
from django.db import OperationalError, ProgrammingError


def database_error(error: Exception, *, returncode: int) -> CommandError:
    """The command's last word. A database error's own message may quote a query's values, so that
    only its class is named."""
    text = f"The database cannot be used: {type(error).__name__}."
    if isinstance(error, OperationalError | ProgrammingError):
        text += " If it has no tables yet: manage.py migrate"
    return CommandError(text, returncode=returncode)
