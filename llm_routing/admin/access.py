"""API keys: issued once, shown once, revoked at a click."""

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
        """A new key has a name, a tenant, a date, a deadline and rights; the rest follows."""
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
        """As in Django, with the new key off every error page."""
        return super().changeform_view(request, object_id, form_url, extra_context)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """A row that is added gets its key."""
        if not change:
            obj.issued = SecretStr(obj.renew())  # type: ignore[attr-defined]  # read just below
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The page that shows the key. It is the answer itself, and not one to be redirected to,
        for then the key would have to wait in a session or in a cookie."""
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
        """Refuses requests with these keys from now on."""
        self.switch(request, queryset, False, _("Revoked."))

    @admin.display(description=gettext_lazy("begins with"), ordering="prefix")
    def begins_with(self, key: ApiKey) -> str:
        """The start of the key, to tell it from others."""
        return f"{key.prefix}…"

    @admin.display(description=gettext_lazy("status"), ordering="is_active")
    def state(self, key: ApiKey) -> str:
        """Whether requests with it are served."""
        if not key.is_active:
            return status("off", _("Revoked"))
        if key.is_expired:
            return status("off", _("Expired"))
        return status("good", _("Valid"))
