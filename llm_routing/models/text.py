"""Text columns that compare by code point on every database.

PostgreSQL and SQLite do so by default. MySQL and MariaDB use the database's collation, and nearly
all collations ignore case, accents and trailing blanks: two models, aliases or keys would be equal,
and a request for `GPT` would be answered as `gpt`.
"""

from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.lookups import IContains
from django.db.models.sql.compiler import SQLCompiler

CASELESS = "utf8mb4_general_ci"


def binary_collation(connection: BaseDatabaseWrapper) -> str | None:
    """Returns the collation that compares code points, or None if the database does so by
    default."""
    if connection.vendor != "mysql":
        return None
    is_mariadb: bool = connection.mysql_is_mariadb  # type: ignore[attr-defined]  # of this vendor
    return "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"


if TYPE_CHECKING:
    # Django's own field types, which depend on `null`.
    ExactCharField = models.CharField
    ExactSlugField = models.SlugField
else:

    class _ByCodePoint:
        """Adds the collation to the column of a field."""

        def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
            """Like Django's, with the collation."""
            parameters = super().db_parameters(connection)
            if collation := binary_collation(connection):
                parameters["collation"] = collation
            return parameters

    class ExactCharField(_ByCodePoint, models.CharField):
        """A `CharField` whose values are equal only if they are the same text."""

    class ExactSlugField(_ByCodePoint, models.SlugField):
        """A `SlugField` whose values are equal only if they are the same text."""


class _Search(IContains):
    """The admin's search, which ignores case whatever the column's collation."""

    def process_lhs(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, lhs: Any = None
    ) -> Any:
        """Like Django's, with a collation that ignores case."""
        sql, parameters = super().process_lhs(compiler, connection, lhs)
        if connection.vendor == "mysql":
            sql = f"{sql} COLLATE {CASELESS}"
        return sql, parameters


ExactCharField.register_lookup(_Search)
ExactSlugField.register_lookup(_Search)
