"""Models in the admin: capabilities, prices and availability."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import CharField, Count, Field, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast, Concat
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from llm_routing.core.capabilities import Capability
from llm_routing.core.types import TargetKey
from llm_routing.models import CAPABILITY_LABELS, QUIRK_LABELS, ModelConfig

from .base import ConfigurationAdmin, status
from .last_24_hours import Last24HoursColumn
from .reach import has_open_breaker, is_out, is_sandbox
from .theme import themed

_PRICED = Q(input_price__isnull=False) & (
    Q(output_price__isnull=False) | Q(capabilities=[Capability.EMBEDDINGS.value])
)


_CHECK_BOXES = {"capabilities": CAPABILITY_LABELS, "quirks": QUIRK_LABELS}


class CapabilityFilter(admin.SimpleListFilter):
    """Filters models by a capability."""

    title = gettext_lazy("capability")
    parameter_name = "capability"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Returns every capability."""
        return [(value, str(label)) for value, label in CAPABILITY_LABELS.items()]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[ModelConfig]
    ) -> QuerySet[ModelConfig]:
        """Returns the models with the chosen capability. Searches the JSON text, because SQLite has
        no containment operator."""
        if self.value() not in CAPABILITY_LABELS:
            return queryset
        text = Cast("capabilities", TextField())
        return queryset.alias(capability_text=text).filter(
            capability_text__contains=f'"{self.value()}"'
        )


class PricedFilter(admin.SimpleListFilter):
    """Filters models by whether their price is known."""

    title = gettext_lazy("price")
    parameter_name = "priced"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Known or unknown."""
        return [("yes", _("Known")), ("no", _("Missing"))]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[ModelConfig]
    ) -> QuerySet[ModelConfig]:
        """Returns the models with or without a price."""
        match self.value():
            case "yes":
                return queryset.filter(_PRICED)
            case "no":
                return queryset.exclude(_PRICED)
        return queryset


@admin.register(ModelConfig)
class ModelConfigAdmin(Last24HoursColumn, ConfigurationAdmin[ModelConfig]):
    """The page of models."""

    list_display = (
        "names",
        "provider",
        "state",
        "day",
        "price",
        "context",
        "routes",
        "abilities",
    )
    list_filter = (
        "is_active",
        "provider",
        CapabilityFilter,
        PricedFilter,
        ("vanished_at", admin.EmptyFieldListFilter),
    )
    search_fields = ("provider_and_id", "alias", "display_name")
    autocomplete_fields = ("provider",)
    readonly_fields = ("vanished_at", "created_at", "updated_at")
    ordering = ("provider__name", "model_id")
    fieldsets: ClassVar = (
        (None, {"fields": ("provider", "model_id", "alias", "display_name", "is_active")}),
        (
            gettext_lazy("Abilities"),
            {"fields": ("capabilities", "quirks", ("context_window", "max_output_tokens"))},
        ),
        (
            gettext_lazy("Prices"),
            {
                "fields": (
                    ("input_price", "output_price", "web_search_price"),
                    ("cached_input_price", "cache_write_price", "cache_write_1h_price"),
                )
            },
        ),
        (
            gettext_lazy("Dates"),
            {"classes": ("collapse",), "fields": (("vanished_at", "created_at", "updated_at"),)},
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelConfig]:
        """Adds the provider, which is part of a model's name, and the number of its routes."""
        rows: QuerySet[ModelConfig] = super().get_queryset(request)
        return (
            rows.select_related("provider")
            .annotate(
                route_count=Count("route_targets"),
                is_out=has_open_breaker("provider__name", "model_id"),
            )
            .alias(
                provider_and_id=Concat(
                    "provider__name", Value("/"), "model_id", output_field=CharField()
                )
            )
        )

    def target_of(self, row: ModelConfig) -> TargetKey:
        """Returns the target that the model is."""
        return row.provider.name, row.model_id

    def formfield_for_dbfield(
        self, db_field: "Field[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> forms.Field | None:
        """Renders capabilities and quirks as check boxes."""
        if db_field.name in _CHECK_BOXES:
            return forms.TypedMultipleChoiceField(
                label=capfirst(db_field.verbose_name),
                choices=list(_CHECK_BOXES[db_field.name].items()),
                coerce=str,
                required=False,
                initial=db_field.get_default(),
                widget=themed(forms.CheckboxSelectMultiple),
                help_text=db_field.help_text,
            )
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    @admin.display(description=gettext_lazy("model"), ordering="model_id")
    def names(self, model: ModelConfig) -> str:
        """The ID, with the alias below it."""
        if model.alias is None:
            return model.model_id
        return format_html('{}<br><span class="llm-alias">{}</span>', model.model_id, model.alias)

    @admin.display(description=gettext_lazy("status"), ordering="is_active")
    def state(self, model: ModelConfig) -> str:
        """Whether requests can be sent to the model, and if not, why."""
        return model_state(model, is_out=is_out(model))

    @admin.display(description=gettext_lazy("context"), ordering="context_window")
    def context(self, model: ModelConfig) -> str:
        """The context window, abbreviated."""
        size = model.context_window
        if size is None:
            return "—"
        if size >= 1_000_000:
            return f"{size / 1_000_000:.3g}M"
        return f"{size / 1000:.3g}k" if size >= 1000 else str(size)

    @admin.display(description=gettext_lazy("beyond chat"))
    def abilities(self, model: ModelConfig) -> str:
        """Capabilities that not every model has, and quirks."""
        usual = (Capability.CHAT, Capability.STREAMING)
        labels = {**CAPABILITY_LABELS, **QUIRK_LABELS}
        beyond = (name for name in [*model.capabilities, *model.quirks] if name not in usual)
        names = (str(labels.get(name, name)) for name in beyond)
        return ", ".join(names) or "—"

    @admin.display(description=gettext_lazy("USD per million"), ordering="input_price")
    def price(self, model: ModelConfig) -> str:
        """Both prices, or a note that one is missing."""
        if not model.is_priced:
            return status("warning", _("No price"))
        prices = (model.input_price, model.output_price)
        return " / ".join(f"{price.normalize():f}" for price in prices if price is not None)

    @admin.display(description=gettext_lazy("routes"), ordering="route_count")
    def routes(self, model: ModelConfig) -> int:
        """The number of routes that use the model."""
        count: int = model.route_count  # type: ignore[attr-defined]  # annotated
        return count


def model_state(model: ModelConfig, *, is_out: bool) -> str:
    """Renders a model's status; the provider must be prefetched. `is_out`: the model's circuit
    breaker is open, or its provider's credential is disabled."""
    if model.vanished_at is not None:
        return status("bad" if model.is_active else "off", _("Vanished at the provider"))
    if not model.is_active:
        return status("off", _("Off"))
    if not model.provider.is_active:
        return status("bad", _("Provider off"))
    if is_out:
        return status("bad", _("Circuit open"))
    if is_sandbox(model.provider):
        return status("off", _("Used only if no real target is active"))
    return status("good", _("In use"))
