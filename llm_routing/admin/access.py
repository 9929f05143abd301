"""API keys in the admin: create, show once, revoke."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from pydantic import SecretStr

from llm_routing.models import ApiKey

from .base import ConfigurationAdmin, status
from .secret_forms import hides_secrets


@admin.register(ApiKey)
class ApiKeyAdmin(ConfigurationAdmin[ApiKey]):
    """The page of API keys."""

    list_display = ("name", "tenant", "begins_with", "state", "expires_at", "created_at")
    list_filter = ("is_active", "reads_metrics", "tenant")
    search_fields = ("name", "tenant", "prefix")
    readonly_fields = ("begins_with", "state", "created_at")
    ordering = ("name",)
    actions: tuple[str, ...] = ("revoke", "delete_selected")

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        """Returns the fields that can be set for a new key: name, tenant, expiry date, deadline and
        rights."""
        asked = ("name", "tenant", "expires_at", "deadline", "reads_metrics")
        return asked if obj is None else ("state", "begins_with", *asked, "is_active", "created_at")

    @method_decorator(never_cache)
    @hides_secrets()
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Like Django's, with the key hidden from error pages."""
        return super().changeform_view(request, object_id, form_url, extra_context)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """Creates the key of a new row."""
        if not change:
            obj.issued = SecretStr(obj.renew())  # type: ignore[attr-defined]  # read just below
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Renders the page that shows the new key. It does not redirect, because then a session or
        a cookie would have to hold the key."""
        issued: SecretStr = obj.issued  # type: ignore[attr-defined]  # by save_model
        context = {
            **self.admin_site.each_context(request),
            "title": _("API key issued"),
            "opts": self.opts,
            "key": obj,
            "clear_text": issued.get_secret_value(),
            "media": self.media,
        }
        return render(request, "llm_routing/admin/key_issued.html", context)

    @admin.action(permissions=["switch"], description=gettext_lazy("Revoke selected API keys"))
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """Revokes the selected keys; requests with them are refused."""
        self.switch(request, queryset, False, _("Revoked."))

    @admin.display(description=gettext_lazy("begins with"), ordering="prefix")
    def begins_with(self, key: ApiKey) -> str:
        """The prefix of the key, which identifies it."""
        return f"{key.prefix}…"

    @admin.display(description=gettext_lazy("status"), ordering="is_active")
    def state(self, key: ApiKey) -> str:
        """Whether requests with the key are accepted."""
        if not key.is_active:
            return status("off", _("Revoked"))
        if key.is_expired:
            return status("off", _("Expired"))
        return status("good", _("Valid"))
