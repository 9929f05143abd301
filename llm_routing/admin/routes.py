"""Routes: what a use case means in a tier, with its targets in order."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.db.models import ForeignKey, QuerySet
from django.forms.models import ModelChoiceField
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from llm_routing.models import ModelConfig, RouteTarget, UseCaseRoute

from .base import ConfigurationAdmin, status
from .history import Timeline
from .models import model_state


class KnownChoice(AutocompleteSelect):
    """An autocomplete that is told the name of the row's own choice, which is a query saved for
    every row of an inline."""

    known: tuple[Any, str] | None = None

    def optgroups(
        self, name: str, value: Sequence[str], attrs: dict[str, Any] | None = None
    ) -> Any:
        """The row's own choice; any other is looked up as usual."""
        if self.known is None or list(value) != [str(self.known[0])]:
            return super().optgroups(name, value, attrs)
        return [(None, [self.create_option(name, *self.known, selected=True, index=0)], 0)]


class RouteTargetForm(forms.ModelForm):  # type: ignore[type-arg]  # not at run time
    """One target of a route."""

    class Meta:
        model = RouteTarget
        fields = ("position", "model", "weight")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields.get("model")
        if field is not None and self.instance.pk:
            wrapped = getattr(field.widget, "widget", field.widget)
            if isinstance(wrapped, KnownChoice):
                wrapped.known = (self.instance.model_id, str(self.instance.model))


class RouteTargetInline(admin.TabularInline):  # type: ignore[type-arg]  # not at run time
    """The targets of a route, in the order they are tried."""

    model = RouteTarget
    form = RouteTargetForm
    fields = ("position", "model", "weight", "state")
    readonly_fields = ("state",)
    ordering = ("position", "id")
    extra = 0
    verbose_name_plural = gettext_lazy("targets, in the order they are tried")

    def get_queryset(self, request: HttpRequest) -> QuerySet[RouteTarget]:
        """With model and provider, which name a target."""
        return super().get_queryset(request).select_related("model__provider")

    def formfield_for_foreignkey(
        self, db_field: "ForeignKey[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> "ModelChoiceField[Any] | None":
        """Models to search for, each read with its provider."""
        if db_field.name == "model":
            kwargs["widget"] = KnownChoice(db_field, self.admin_site)
            kwargs["queryset"] = ModelConfig.objects.select_related("provider")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    @admin.display(description=gettext_lazy("status"))
    def state(self, target: RouteTarget) -> str:
        """Whether it can be reached."""
        return model_state(target.model) if target.pk else "—"


@admin.register(UseCaseRoute)
class UseCaseRouteAdmin(ConfigurationAdmin[UseCaseRoute]):
    """The page of routes."""

    list_display = ("address", "state", "targets", "updated_at")
    list_filter = ("is_active", "tier", "use_case")
    search_fields = ("use_case", "targets__model__model_id", "targets__model__alias")
    readonly_fields = ("created_at", "updated_at")
    inlines = (RouteTargetInline,)
    ordering = ("use_case", "tier")
    fieldsets: ClassVar = (
        (None, {"fields": (("use_case", "tier"), "is_active")}),
        (
            gettext_lazy("Defaults of a request"),
            {"fields": ("system_prompt", ("temperature", "max_tokens"))},
        ),
        (
            gettext_lazy("Time and cache"),
            {
                "fields": (
                    ("deadline", "cache_ttl"),
                    ("connect_timeout", "first_token_timeout", "idle_timeout"),
                )
            },
        ),
        (
            gettext_lazy("When something fails"),
            {"fields": ("stream_recovery", ("is_hedged", "asks_when_all_open"))},
        ),
        (
            gettext_lazy("Dates"),
            {"classes": ("collapse",), "fields": (("created_at", "updated_at"),)},
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[UseCaseRoute]:
        """With every target."""
        rows: QuerySet[UseCaseRoute] = super().get_queryset(request)
        return rows.with_targets()  # type: ignore[attr-defined,no-any-return]  # our QuerySet

    def timelines_of(self, row: UseCaseRoute | None = None) -> list[Timeline]:
        """The history of its targets."""
        return [Timeline(RouteTarget, route_id=row.pk) if row else Timeline(RouteTarget)]

    @admin.display(description=gettext_lazy("address"), ordering="use_case")
    def address(self, route: UseCaseRoute) -> str:
        """What callers write as the model."""
        return format_html("<code>{}</code>", route)

    @admin.display(description=gettext_lazy("status"), ordering="is_active")
    def state(self, route: UseCaseRoute) -> str:
        """Whether it can be served, and whether it survives the failure of one provider."""
        if not route.is_active:
            return status("off", _("Off"))
        providers = {target.model.provider_id for target in _reachable(route)}
        if not providers:
            return status("bad", _("Nothing to serve it"))
        if len(providers) == 1:
            return status("warning", _("One provider, no fallback"))
        return status("good", _("%(count)d providers") % {"count": len(providers)})

    @admin.display(description=gettext_lazy("targets"))
    def targets(self, route: UseCaseRoute) -> str:
        """The targets that can be reached, in order, and how many cannot."""
        reachable = _reachable(route)
        rows = ((target.position, target.model) for target in reachable)
        items = format_html_join("", "<li><b>{}</b> {}</li>", rows)
        missing = len(route.targets.all()) - len(reachable)
        if missing:
            text = _("%(count)d switched off") % {"count": missing}
            items = format_html('{}<li class="quiet">{}</li>', items, text)
        return format_html('<ol class="llm-targets">{}</ol>', items) if items else "—"


def _reachable(route: UseCaseRoute) -> list[RouteTarget]:
    return [
        target
        for target in route.targets.all()
        if target.model.is_active and target.model.provider.is_active
    ]
