"""Base classes of the admin pages: acting user, history, activation, status, read-only pages."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from llm_routing.models.version import ConfigurationModel, changes_made_by

from .conflicts import EditConflictForm
from .history import Timeline
from .lookups import BoundedLookups
from .permissions import ObjectPermissions, permission_of
from .theme import ModelAdmin

M = TypeVar("M", bound=Model)
C = TypeVar("C", bound=ConfigurationModel)

_SIGNS = {"good": "✓", "warning": "!", "bad": "✕", "off": "–"}


def status(level: str, text: object) -> str:
    """Renders a status as a symbol and text, so that colour is never its only sign. `level` is
    good, warning, bad or off."""
    return format_html(
        '<span class="llm-status llm-{}"><span aria-hidden="true">{}</span> {}</span>',
        level,
        _SIGNS[level],
        text,
    )


class LLMAdmin(BoundedLookups, Generic[M], ObjectPermissions, ModelAdmin):  # type: ignore[type-arg]  # not at run time
    """The style sheet of the app's admin pages, and permissions for single rows."""

    class Media:
        css: ClassVar = {"all": ["llm_routing/admin.css"]}


class ConfigurationAdmin(LLMAdmin[C]):
    """Base class of configuration pages; the history records every change with its user."""

    form = EditConflictForm
    change_form_template = "llm_routing/admin/change_form.html"
    change_list_template = "llm_routing/admin/change_list.html"
    actions: tuple[str, ...] = ("activate", "deactivate", "delete_selected")
    list_per_page = 50

    def get_urls(self) -> list[URLPattern]:
        """Adds a page with the changes of all rows, including deleted ones."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_changes"
        view = self.admin_site.admin_view(self.changes_view)
        return [path("changes/", view, name=name), *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Like Django's; actions are recorded under the user."""
        with changes_made_by(request):
            return super().changelist_view(request, extra_context)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Like Django's; the change is recorded under the user."""
        with changes_made_by(request):
            return super().changeform_view(request, object_id, form_url, extra_context)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Like Django's; the deletion is recorded under the user."""
        with changes_made_by(request):
            return super().delete_view(request, object_id, extra_context)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Shows the changes of the row with user, time and fields."""
        row = self.get_object(request, admin.utils.unquote(object_id))
        if row is None:
            raise Http404
        if not self.has_view_or_change_permission(request, row):
            raise PermissionDenied
        timelines = self._timelines(row)
        title = _("History of %(name)s") % {"name": row}
        return self._render_history(request, title, timelines, object=row)

    def changes_view(self, request: HttpRequest) -> HttpResponse:
        """Shows the changes of all rows with user, time and fields."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        title = _("Changes of %(names)s") % {"names": self.opts.verbose_name_plural}
        return self._render_history(request, title, [Timeline(self.model), *self.timelines_of()])

    def get_form(
        self, request: HttpRequest, obj: C | None = None, change: bool = False, **kwargs: Any
    ) -> type[EditConflictForm]:
        """Like Django's; the form detects concurrent changes."""
        form = super().get_form(request, obj, change, **kwargs)
        assert issubclass(form, EditConflictForm), "it is made from `self.form`"
        form.timelines_of = self._timelines
        return form

    def _timelines(self, row: Any) -> list[Timeline]:
        return [Timeline(self.model, id=row.pk), *self.timelines_of(row)]

    def timelines_of(self, row: C | None = None) -> list[Timeline]:
        """Returns the histories of related tables for `row`, or for all rows."""
        return []

    def _render_history(
        self, request: HttpRequest, title: str, timelines: list[Timeline], **context: Any
    ) -> HttpResponse:
        entries, has_more = Timeline.merge(timelines)
        return TemplateResponse(
            request,
            "llm_routing/admin/history.html",
            {
                **self.admin_site.each_context(request),
                "title": title,
                "opts": self.opts,
                "entries": entries,
                "has_more": has_more,
                "media": self.media,
                **context,
            },
        )

    @admin.action(
        permissions=["switch"],
        description=gettext_lazy("Switch on selected %(verbose_name_plural)s"),
    )
    def activate(self, request: HttpRequest, queryset: QuerySet[C]) -> None:
        """Activates rows."""
        self.switch(request, queryset, True, _("Switched on."))

    @admin.action(
        permissions=["switch"],
        description=gettext_lazy("Switch off selected %(verbose_name_plural)s"),
    )
    def deactivate(self, request: HttpRequest, queryset: QuerySet[C]) -> None:
        """Deactivates rows."""
        self.switch(request, queryset, False, _("Switched off."))

    @admin.action(
        permissions=["remove"],
        description=gettext_lazy("Delete selected %(verbose_name_plural)s"),
    )
    def delete_selected(
        self, request: HttpRequest, queryset: QuerySet[C]
    ) -> TemplateResponse | None:
        """Like Django's, for the rows that the user may delete."""
        rows = self.permitted(request, queryset, permission_of(self.model, "delete"))
        return delete_selected(self, request, rows)

    def has_remove_permission(self, request: HttpRequest) -> bool:
        """Whether the user may delete a row."""
        return self.may_for_any(request, permission_of(self.model, "delete"))

    def has_switch_permission(self, request: HttpRequest) -> bool:
        """Whether the user may switch a row on or off."""
        return self.may_for_any(request, permission_of(self.model, "change"))

    def switch(
        self, request: HttpRequest, queryset: QuerySet[C], is_active: bool, message: str
    ) -> None:
        """Sets `is_active` where it differs, and adds an entry per row to the history and to the
        admin log. Rows that the user may not change are skipped."""
        queryset = self.permitted(request, queryset, permission_of(self.model, "change"))
        keys = [row.pk for row in queryset]
        rows = list(self.model.objects.filter(pk__in=keys, is_active=not is_active))
        changed = self.model.objects.filter(pk__in=[row.pk for row in rows])
        changed.update(is_active=is_active)
        user = request.user.pk
        if rows and user is not None:
            LogEntry.objects.log_actions(user, rows, CHANGE, message)
        text = ngettext("%(count)d row changed.", "%(count)d rows changed.", len(rows))
        self.message_user(request, text % {"count": len(rows)}, messages.SUCCESS)


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # not at run time
    """Pages over a table of any size: counts and skips at most `most` rows."""

    most = 10_000

    @cached_property
    def count(self) -> int:
        """The number of rows, at most `most`."""
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]  # the admin's
        return rows.order_by()[: self.most].count()


class ReadOnlyAdmin(LLMAdmin[M]):
    """A read-only page of rows that the gateway writes, in a table that may be huge."""

    change_list_template = "llm_routing/admin/read_only_list.html"
    actions: tuple[str, ...] | None = None
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 100
    list_max_show_all = 0

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Returns False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """Returns False."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """Returns False."""
        return False


class NamesFilter(ABC, admin.SimpleListFilter):
    """Filters by a name. The choices come from a small table, never from the filtered one."""

    @staticmethod
    @abstractmethod
    def names() -> list[str]:
        """Returns the names to choose from."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Returns the choices."""
        return [(name, name) for name in self.names()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[M]) -> QuerySet[M]:
        """Returns the rows with the chosen name."""
        value = self.value()
        return queryset if value is None else queryset.filter(**{str(self.parameter_name): value})
