"""Routes in the admin: the targets of a use case in a tier, in order."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.db.models import (
    CharField,
    Exists,
    Field,
    ForeignKey,
    OuterRef,
    Prefetch,
    QuerySet,
    Value,
)
from django.db.models.functions import Concat
from django.forms.models import ModelChoiceField
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from llm_routing.formats.restrictions import RESTRICTED
from llm_routing.models import ModelConfig, RouteTarget, UseCaseRoute

from .base import ConfigurationAdmin, status
from .history import Timeline
from .lookups import MAX_SEARCH_CHARACTERS, NUL
from .models import model_state
from .permissions import ParentPermissions
from .reach import has_open_breaker, is_out, is_sandbox, reachable
from .theme import TabularInline, themed

_IS_OUT = has_open_breaker("model__provider__name", "model__model_id")


class KnownChoice(AutocompleteSelect):
    """An autocomplete field that gets the label of the row's current choice, which saves a query
    for every row of an inline."""

    known: tuple[Any, str] | None = None

    def optgroups(
        self, name: str, value: Sequence[str], attrs: dict[str, Any] | None = None
    ) -> Any:
        """Returns the row's current choice; others are looked up as usual."""
        if self.known is None or list(value) != [str(self.known[0])]:
            return super().optgroups(name, value, attrs)
        return [(None, [self.create_option(name, *self.known, selected=True, index=0)], 0)]


class RouteTargetForm(forms.ModelForm):  # type: ignore[type-arg]  # not at run time
    """The form of one target."""

    class Meta:
        model = RouteTarget
        fields = ("position", "model", "weight")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (position := self.fields.get("position")) is not None:
            position.required = False
            position.widget.attrs["placeholder"] = _("next")
            if not self.instance.pk:
                self.initial["position"] = None
        field = self.fields.get("model")
        if field is not None and self.instance.pk:
            wrapped = getattr(field.widget, "widget", field.widget)
            if isinstance(wrapped, KnownChoice):
                wrapped.known = (self.instance.model_id, str(self.instance.model))


class RouteTargetFormSet(forms.models.BaseInlineFormSet):  # type: ignore[type-arg]  # not at run time
    """The targets of a route. A target without a position is appended after those above it."""

    def clean(self) -> None:
        """Numbers the targets. Raises `ValidationError` if an active route has no target."""
        super().clean()
        if any(self.errors):
            return
        kept = [
            form
            for form in self.forms
            if form.cleaned_data.get("model") and not form.cleaned_data.get("DELETE")
        ]
        if not kept and self.instance.is_active:
            raise forms.ValidationError(
                _(
                    "A route needs a target to answer its requests. Add one, or deactivate "
                    "the route."
                )
            )
        last = -1
        for form in kept:
            if form.cleaned_data.get("position") is None:
                form.instance.position = last + 1
            last = max(last, form.instance.position)


class RouteTargetInline(ParentPermissions, TabularInline):  # type: ignore[type-arg]  # not at run time
    """The targets of a route, in the order they are tried."""

    model = RouteTarget
    form = RouteTargetForm
    formset = RouteTargetFormSet
    fields = ("position", "model", "weight", "state")
    readonly_fields = ("state",)
    ordering = ("position", "id")
    verbose_name_plural = gettext_lazy("targets, in the order they are tried")

    def get_extra(
        self, request: HttpRequest, obj: UseCaseRoute | None = None, **kwargs: Any
    ) -> int:
        """A new route starts with a line for its first target."""
        return 0 if obj else 1

    def get_queryset(self, request: HttpRequest) -> QuerySet[RouteTarget]:
        """Adds model and provider, which name a target, and whether its breaker is open."""
        rows: QuerySet[RouteTarget] = super().get_queryset(request)
        return rows.select_related("model__provider").annotate(is_out=_IS_OUT)

    def formfield_for_foreignkey(
        self, db_field: "ForeignKey[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> "ModelChoiceField[Any] | None":
        """Searches models together with their provider."""
        if db_field.name == "model":
            kwargs["widget"] = KnownChoice(db_field, self.admin_site)
            kwargs["queryset"] = ModelConfig.objects.select_related("provider")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    @admin.display(description=gettext_lazy("status"))
    def state(self, target: RouteTarget) -> str:
        """Whether the target can be reached."""
        if not target.pk:
            return "—"
        return model_state(target.model, is_out=is_out(target))


@admin.register(UseCaseRoute)
class UseCaseRouteAdmin(ConfigurationAdmin[UseCaseRoute]):
    """The page of routes."""

    list_display = ("address", "state", "targets", "updated_at")
    list_filter = ("is_active", "tier", "use_case")
    search_fields = ("address", "targets__model__model_id", "targets__model__alias")
    search_help_text = gettext_lazy(
        "A use case, “use case:tier”, a model, an alias, or “provider/model”."
    )
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
            gettext_lazy("Fields that callers may send"),
            {"classes": ("collapse",), "fields": ("allowed_fields",)},
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
            {"fields": ("stream_recovery", ("is_hedged", "probes_when_all_open"))},
        ),
        (
            gettext_lazy("Dates"),
            {"classes": ("collapse",), "fields": (("created_at", "updated_at"),)},
        ),
    )

    def formfield_for_dbfield(
        self, db_field: "Field[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> forms.Field | None:
        """Renders the allowed fields as check boxes."""
        if db_field.name == "allowed_fields":
            return forms.TypedMultipleChoiceField(
                label=capfirst(db_field.verbose_name),
                choices=[(name, name) for name in RESTRICTED],
                coerce=str,
                required=False,
                widget=themed(forms.CheckboxSelectMultiple),
                help_text=db_field.help_text,
            )
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[UseCaseRoute]:
        """Adds every target, and whether its breaker is open."""
        rows: QuerySet[UseCaseRoute] = super().get_queryset(request)
        targets = RouteTarget.objects.select_related("model__provider").annotate(is_out=_IS_OUT)
        return rows.alias(
            address=Concat("use_case", Value(":"), "tier", output_field=CharField())
        ).prefetch_related(Prefetch("targets", queryset=targets))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[UseCaseRoute], search_term: str
    ) -> tuple[QuerySet[UseCaseRoute], bool]:
        """Like Django's; also finds routes with a target of the given address."""
        found, may_have_duplicates = super().get_search_results(request, queryset, search_term)
        provider, slash, model = search_term.replace(NUL, "").strip().partition("/")
        if slash:
            targets = RouteTarget.objects.filter(
                route=OuterRef("pk"),
                model__provider__name__iexact=provider,
                model__model_id__icontains=model[:MAX_SEARCH_CHARACTERS],
            )
            found = found | queryset.filter(Exists(targets))
        return found, may_have_duplicates

    def timelines_of(self, row: UseCaseRoute | None = None) -> list[Timeline]:
        """Returns the history of the route's targets."""
        return [Timeline(RouteTarget, route_id=row.pk) if row else Timeline(RouteTarget)]

    @admin.display(description=gettext_lazy("address"), ordering="use_case")
    def address(self, route: UseCaseRoute) -> str:
        """The value that callers send as `model`."""
        return format_html("<code>{}</code>", route)

    @admin.display(description=gettext_lazy("status"), ordering="is_active")
    def state(self, route: UseCaseRoute) -> str:
        """Whether the route has a reachable target, and whether it survives the failure of one
        provider."""
        if not route.is_active:
            return status("off", _("Off"))
        targets = reachable(route.targets.all())
        if not targets:
            return status("bad", _("No target can serve it"))
        providers = {target.model.provider_id for target in targets}
        answering = {target.model.provider_id for target in targets if not is_out(target)}
        if not answering:
            return status("bad", _("Every circuit breaker is open"))
        if is_sandbox(targets[0].model.provider):
            return status("warning", _("Sandbox only"))
        if len(answering) < len(providers):
            counts = {"count": len(answering), "all": len(providers)}
            return status("warning", _("%(count)d of %(all)d providers") % counts)
        if len(providers) == 1:
            return status("warning", _("One provider, no fallback"))
        return status("good", _("%(count)d providers") % {"count": len(providers)})

    @admin.display(description=gettext_lazy("targets"))
    def targets(self, route: UseCaseRoute) -> str:
        """The reachable targets in order, and the number of the others."""
        found = reachable(route.targets.all())
        mark = format_html(" {}", status("bad", _("Circuit open")))
        rows = ((row.position, row.model, mark if is_out(row) else "") for row in found)
        items = format_html_join("", "<li><b>{}</b> {}{}</li>", rows)
        missing = len(route.targets.all()) - len(found)
        if missing:
            text = _("%(count)d inactive") % {"count": missing}
            items = format_html('{}<li class="quiet">{}</li>', items, text)
        return format_html('<ol class="llm-targets">{}</ol>', items) if items else "—"
