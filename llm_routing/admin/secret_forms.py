"""Form fields for write-only secrets; keeps their values off Django's error pages."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django import forms
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.views.debug import SafeExceptionReporterFilter
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from llm_routing.crypto.at_rest import SecretUnreadable, decrypt, mask
from llm_routing.models import Provider

from .conflicts import EditConflictForm
from .theme import themed

View = TypeVar("View", bound=Callable[..., Any])


class _AlwaysOn(SafeExceptionReporterFilter):
    """Django hides nothing while DEBUG is on, but a key is a secret then too."""

    def is_active(self, request: HttpRequest | None) -> bool:
        """Returns True."""
        return True


def hides_secrets(*parameters: str) -> Callable[[View], View]:
    """Wraps an admin view so that error reports show neither these POST parameters nor any local
    variable below the view, whatever DEBUG is."""

    def decorate(view: View) -> View:
        hidden = sensitive_variables()(view)

        @wraps(view)
        def wrapper(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            request.exception_reporter_filter = _AlwaysOn()

            @sensitive_post_parameters(*parameters)
            def answer(request: HttpRequest) -> Any:
                return hidden(self, request, *args, **kwargs)

            return answer(request)

        return wrapper  # type: ignore[return-value]  # the same signature

    return decorate


class ProviderForm(EditConflictForm):
    """The form of a provider, with a write-only key.

    `may_send_environment_keys` is the user's permission of that name.
    """

    may_send_environment_keys = False

    api_key = forms.CharField(
        label=_("API key"),
        required=False,
        max_length=4096,
        widget=themed(forms.PasswordInput)(
            render_value=False, attrs={"autocomplete": "new-password", "class": "vTextField"}
        ),
    )
    clear_api_key = forms.BooleanField(
        label=_("Clear the stored key"),
        required=False,
        widget=themed(forms.CheckboxInput),
        help_text=_("Deletes the key from the database."),
    )

    class Meta:
        model = Provider
        fields = "__all__"  # the admin's fieldsets select the fields

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields.get("api_key")
        if field is not None:
            field.help_text = self._hint()
        if not self.instance.has_stored_key:
            self.fields.pop("clear_api_key", None)

    def _hint(self) -> str:
        if not self.instance.has_stored_key:
            return str(
                _("Stored encrypted and never shown again. An environment variable is preferred.")
            )
        try:
            shown = mask(decrypt(self.instance.encrypted_key))
        except SecretUnreadable:
            return str(_("The stored key can no longer be read. Enter it again."))
        return str(_("Stored: %(mask)s. Leave empty to keep it.")) % {"mask": shown}

    def clean(self) -> dict[str, Any] | None:
        """Encrypts a new key into the row, or clears the old one. A stored key is not sent to a new
        address unless it is entered again."""
        cleaned = super().clean() or self.cleaned_data
        api_key = cleaned.get("api_key") or ""
        clears = cleaned.get("clear_api_key", False)
        if api_key and clears:
            self.add_error("clear_api_key", _("Either enter a new key or clear the stored one."))
        elif api_key:
            try:
                self.instance.set_api_key(api_key)
            except ValueError as error:
                self.add_error("api_key", str(error))
        elif clears:
            self.instance.clear_api_key()
        elif self.instance.has_stored_key and {"base_url", "vendor"} & set(self.changed_data):
            self.add_error(
                "api_key", _("The address has changed. Enter the key again, or clear it.")
            )
        return cleaned

    def _post_clean(self) -> None:
        """Rejects an address chosen by this user if a key of the environment would be sent there:
        permission to edit a provider must not include permission to read such a key.

        Django copies the submitted values into the row in this method.
        """
        super()._post_clean()  # type: ignore[misc]  # Django's hook, which the stubs leave out
        row = self.instance
        is_moved = {"base_url", "vendor", "api_key_env"} & set(self.changed_data)
        if not (is_moved and row.api_key_env) or row.is_at_vendor or self.may_send_environment_keys:
            return
        self.add_error(
            "api_key_env",
            _(
                "The key in %(variable)s would be sent to an address that is not the "
                "vendor's own. Leave this empty and enter the key, or ask a user who has "
                "the permission to have keys of the environment sent to any address."
            )
            % {"variable": row.api_key_env},
        )
