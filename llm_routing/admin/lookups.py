"""Limits list URLs: only the offered filters, and a search of bounded length."""

from typing import TYPE_CHECKING, Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

    Base = ModelAdmin[Any]
else:
    Base = object

MAX_SEARCH_WORDS = 20
MAX_SEARCH_CHARACTERS = 300
NUL = "\x00"
_COMPARISONS = frozenset(
    {"", "exact", "in", "isnull", "isempty", "gt", "gte", "lt", "lte", "id__exact"}
)


class BoundedLookups(Base):
    """A mixin for admins: rejects lookups that no link on the page uses."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Allows a lookup only for exact values of a field in `list_filter`.

        Django allows every field of the table and of related ones, with every comparison. So a user
        with view permission could read a hidden column bit by bit (`?encrypted_key__regex=^a`).
        """
        for item in self.list_filter:
            named = item[0] if isinstance(item, tuple | list) else item
            name = named if isinstance(named, str) else getattr(named, "parameter_name", None)
            if name and (lookup == name or lookup.startswith(f"{name}__")):
                return lookup[len(name) :].removeprefix("__") in _COMPARISONS
        return False

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Like Django's. Treats a NUL in a filter as an invalid parameter, because PostgreSQL
        rejects it."""
        filters = (pair for pair in request.GET.lists() if pair[0] != SEARCH_VAR)
        if any(NUL in value for _name, values in filters for value in values):
            raise IncorrectLookupParameters("NUL")
        return super().get_changelist_instance(request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Like Django's, for the first words only: each one adds a condition to the query."""
        words = search_term.replace(NUL, "")[:MAX_SEARCH_CHARACTERS].split()[:MAX_SEARCH_WORDS]
        return super().get_search_results(request, queryset, " ".join(words))
