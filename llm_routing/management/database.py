"""The error of a command that cannot use the database."""

from typing import Final

from django.core.management.base import CommandError
from django.db import OperationalError, ProgrammingError

COULD_NOT_RUN: Final = 2
"""The exit status of a command that could not run. 1 is that of a refused or partial run."""


def database_error(error: Exception) -> CommandError:
    """Returns the error that ends a command. It names only the class of a database error, whose
    message may quote a query's values."""
    text = f"The database cannot be used: {type(error).__name__}."
    if isinstance(error, OperationalError | ProgrammingError):
        text += " If it has no tables yet: manage.py migrate"
    return CommandError(text, returncode=COULD_NOT_RUN)
