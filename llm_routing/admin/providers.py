"""Providers in the admin: address, status, and write-only keys."""

from collections.abc import Iterable
from typing import Any, ClassVar

from asgiref.sync import async_to_sync
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import Count, Field, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from llm_routing.conf import get_settings
from llm_routing.configuration.credentials import STORED, find_key
from llm_routing.configuration.provider_problems import forbidden_address
from llm_routing.core.types import TargetKey
from llm_routing.factory import discover_models
from llm_routing.health.monitor import open_breakers
from llm_routing.models import Provider
from llm_routing.vendors import VENDORS

from .base import ConfigurationAdmin, status
from .check_now import check_now
from .last_24_hours import Last24HoursColumn
from .permissions import may
from .secret_forms import ProviderForm, hides_secrets
from .theme import themed

CHECK = "llm_routing.check_health"
DISCOVER = "llm_routing.discover_models"


@admin.register(Provider)
class ProviderAdmin(Last24HoursColumn, ConfigurationAdmin[Provider]):
    """The page of providers."""

    form = ProviderForm
    list_display = (
        "name",
        "vendor_title",
        "state",
        "key",
        "day",
        "active_models",
        "priority",
    )
    list_filter = ("is_active", "vendor")
    actions = (*ConfigurationAdmin.actions, "discover_models", "check_health")
    search_fields = ("name", "vendor", "base_url", "notes")
    readonly_fields = ("key_changed_at", "created_at", "updated_at")
    ordering = ("priority", "name")
    fieldsets: ClassVar = (
        (None, {"fields": ("name", "vendor", "base_url", "is_active", "priority")}),
        (
            gettext_lazy("API key"),
            {
                "fields": ("api_key_env", "api_key", "clear_api_key", "key_changed_at"),
                "description": gettext_lazy(
                    "A key in the environment takes precedence over the stored one."
                ),
            },
        ),
        (
            gettext_lazy("Timeouts and connections"),
            {
                "classes": ("collapse",),
                "fields": (
                    ("connect_timeout", "first_token_timeout"),
                    ("idle_timeout", "total_timeout"),
                    "max_connections",
                ),
            },
        ),
        (gettext_lazy("Notes"), {"fields": ("notes", ("created_at", "updated_at"))}),
    )

    @hides_secrets("api_key")
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Like Django's, with the key hidden from error pages."""
        return super().changeform_view(request, object_id, form_url, extra_context)

    def get_form(
        self, request: HttpRequest, obj: Provider | None = None, change: bool = False, **kwargs: Any
    ) -> type[ProviderForm]:
        """Like Django's; the form gets the user's permission to send environment keys anywhere."""
        form = super().get_form(request, obj, change, **kwargs)
        assert issubclass(form, ProviderForm), "it is made from `self.form`"
        name = f"{self.opts.app_label}.send_environment_keys"
        form.may_send_environment_keys = may(request, name, obj)
        return form

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        """Adds the number of active models, and the reason why a credential is disabled."""
        active = Count("models", filter=Q(models__is_active=True))
        out = open_breakers().filter(provider=OuterRef("name"), model="")
        rows: QuerySet[Provider] = super().get_queryset(request)
        return rows.annotate(
            active_model_count=active, credential_cause=Subquery(out.values("cause")[:1])
        )

    def get_fieldsets(self, request: HttpRequest, obj: Provider | None = None) -> Any:
        """Hides fields that a user with view permission cannot use, and the box to clear a key if
        none is stored."""
        can_write = self.has_change_permission(request, obj) if obj else True
        hidden = set() if can_write else {"api_key", "clear_api_key"}
        if obj is None or not obj.has_stored_key:
            hidden.add("clear_api_key")
        if obj is None:
            hidden |= {"key_changed_at", "created_at", "updated_at"}
        return [
            (title, {**options, "fields": _without(options["fields"], hidden)})
            for title, options in self.fieldsets
        ]

    def save_model(
        self, request: HttpRequest, obj: Provider, form: ProviderForm, change: bool
    ) -> None:
        """Like Django's; adds a hint if the address looks incomplete."""
        super().save_model(request, obj, form, change)
        vendor = VENDORS.get(obj.vendor)
        if vendor is not None and (hint := vendor.path_hint(obj.base_url)):
            self.message_user(request, hint, messages.WARNING)

    def has_discover_permission(self, request: HttpRequest) -> bool:
        """Whether the user may request model lists from a provider and store them."""
        return self.may_for_any(request, DISCOVER)

    @admin.action(
        permissions=["discover"], description=gettext_lazy("Discover models of selected providers")
    )
    def discover_models(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        """Reads the providers' lists of models and shows the result of each."""
        queryset = self.permitted(request, queryset, DISCOVER)
        rows, user = {row.name: row for row in queryset}, request.user.pk
        if not rows or user is None:
            return
        report = async_to_sync(discover_models)(list(rows))
        for found in report.providers:
            if found.error:
                text, level = found.message, messages.ERROR
            else:
                text = _(
                    "%(offered)d models offered, %(added)d added (inactive), %(vanished)d marked "
                    "as vanished, %(returned)d back."
                ) % {
                    "offered": len(found.models),
                    "added": len(found.added),
                    "vanished": len(found.vanished),
                    "returned": len(found.returned),
                }
                level = messages.SUCCESS
            self.message_user(request, f"{found.provider}: {text}", level)
            if found.provider in rows:
                row = rows[found.provider]
                LogEntry.objects.log_actions(user, [row], CHANGE, f"Discovery: {text}")

    def target_of(self, row: Provider) -> TargetKey:
        """Returns the target of the provider itself."""
        return row.name, ""

    def has_check_permission(self, request: HttpRequest) -> bool:
        """Whether the user may check the health of a provider, which sends requests to it."""
        return self.may_for_any(request, CHECK)

    @admin.action(
        permissions=["check"], description=gettext_lazy("Check health of selected providers now")
    )
    def check_health(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        """Sweeps the providers and their models, and shows the results."""
        for level, text in check_now(request, self.permitted(request, queryset, CHECK)):
            self.message_user(request, text, level)

    def formfield_for_dbfield(
        self, db_field: "Field[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> forms.Field | None:
        """Offers the known vendors."""
        if db_field.name == "vendor":
            choices = [("", "---------"), *((v.name, v.title) for v in VENDORS.values())]
            return forms.ChoiceField(
                label=capfirst(db_field.verbose_name),
                choices=choices,
                widget=themed(forms.Select),
                help_text=db_field.help_text,
            )
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    @admin.display(description=gettext_lazy("vendor"), ordering="vendor")
    def vendor_title(self, provider: Provider) -> str:
        """The display name of the vendor."""
        vendor = VENDORS.get(provider.vendor)
        return vendor.title if vendor else provider.vendor

    @admin.display(description=gettext_lazy("status"), ordering="is_active")
    def state(self, provider: Provider) -> str:
        """Whether requests can be sent to the provider, and if not, why."""
        vendor = VENDORS.get(provider.vendor)
        if not provider.is_active:
            return status("off", _("Off"))
        if vendor is None:
            return status("bad", _("Unknown vendor"))
        if vendor.needs_key and not find_key(provider).value:
            return status("bad", _("No key"))
        if cause := provider.credential_cause:  # type: ignore[attr-defined]  # annotated
            return status("bad", _("Credential disabled: %s") % cause)
        address = get_settings().provider_base_url(vendor, provider.base_url)
        if forbidden_address(address, get_settings()):
            return status("bad", _("Address not allowed"))
        if not provider.active_model_count:  # type: ignore[attr-defined]  # annotated
            return status("warning", _("No models"))
        return status("good", _("Ready"))

    @admin.display(description=gettext_lazy("key"))
    def key(self, provider: Provider) -> str:
        """The source of the key; never the key itself."""
        found = find_key(provider)
        if found.origin == STORED:
            return status("good", _("Stored"))
        if found.value:
            return status("good", found.origin)
        vendor = VENDORS.get(provider.vendor)
        if vendor is not None and not vendor.needs_key:
            return status("off", _("None needed"))
        if provider.has_stored_key:
            return status("bad", _("Cannot be read"))
        return status("bad" if provider.is_active else "off", _("Missing"))

    @admin.display(description=gettext_lazy("active models"), ordering="active_model_count")
    def active_models(self, provider: Provider) -> int:
        """The number of active models."""
        count: int = provider.active_model_count  # type: ignore[attr-defined]  # annotated
        return count


def _without(fields: Iterable[Any], hidden: set[str]) -> tuple[Any, ...]:
    kept: list[Any] = []
    for field in fields:
        if isinstance(field, tuple):
            if inner := _without(field, hidden):
                kept.append(inner)
        elif field not in hidden:
            kept.append(field)
    return tuple(kept)
