"""Limits what a list's URL may ask for: the offered filters, and a search of bounded length."""

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
    """Mixin for admins: refuses lookups that no link on the page uses."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Whether a list may be filtered so: by a field of `list_filter`, compared as a whole.

        Django allows every field of the table and of its neighbours, and every comparison, by which
        somebody who may only look could read a hidden column bit by bit
        (`?encrypted_key__regex=^a`).
        """
        for item in self.list_filter:
            named = item[0] if isinstance(item, tuple | list) else item
            name = named if isinstance(named, str) else getattr(named, "parameter_name", None)
            if name and (lookup == name or lookup.startswith(f"{name}__")):
                return lookup[len(name) :].removeprefix("__") in _COMPARISONS
        return False

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """As in Django. A NUL in a filter is a wrong parameter: PostgreSQL refuses it."""
        filters = (pair for pair in request.GET.lists() if pair[0] != SEARCH_VAR)
        if any(NUL in value for _name, values in filters for value in values):
            raise IncorrectLookupParameters("NUL")
        return super().get_changelist_instance(request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """As in Django, for the first words: each one is a condition of the query."""
        words = search_term.replace(NUL, "")[:MAX_SEARCH_CHARACTERS].split()[:MAX_SEARCH_WORDS]
        return super().get_search_results(request, queryset, " ".join(words))
