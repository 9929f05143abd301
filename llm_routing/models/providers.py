"""Providers: their address, vendor, credential and timeouts.

`model_configs` has their models, and `routing` the routes from use cases to models.
"""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from llm_routing.conf import get_settings
from llm_routing.core.addresses import check_base_url
from llm_routing.crypto.at_rest import encrypt, is_mask
from llm_routing.vendors import VENDORS

from . import fields
from .text import ExactCharField, ExactSlugField
from .version import ConfigurationHistory, ConfigurationModel, ConfigurationQuerySet


class ProviderQuerySet(ConfigurationQuerySet["Provider"]):
    """Reads providers."""


class Provider(ConfigurationModel):
    """An account at a vendor, or a self-hosted server: its address, and how to call it."""

    name = ExactSlugField(
        _("name"),
        max_length=64,
        unique=True,
        error_messages={"unique": _("There is already a provider with this name.")},
        help_text=_(
            "A short and permanent name, such as “openai”: it is part of every model's address."
        ),
    )
    vendor = ExactCharField(
        _("vendor"),
        max_length=32,
        help_text=_(
            "The vendor whose API this is. It determines the wire format and how the key is sent."
        ),
    )
    base_url = ExactCharField(
        _("base URL"),
        max_length=500,
        blank=True,
        help_text=_(
            "Empty: the vendor's own address. Private addresses are allowed only if "
            "the settings allow their network (LLM_ALLOWED_UPSTREAM_NETWORKS)."
        ),
    )
    api_key_env = ExactCharField(
        _("key variable"),
        max_length=128,
        blank=True,
        validators=[fields.api_key_variable],
        help_text=_(
            "The environment variable with the API key. Preferred, because then the "
            "key is not in the database. Empty: the vendor's own variable."
        ),
    )
    encrypted_key = models.TextField(_("stored API key"), blank=True, editable=False)
    key_changed_at = models.DateTimeField(
        _("API key changed"),
        null=True,
        editable=False,
        help_text=_("When the stored key was last set or cleared."),
    )
    is_active = fields.is_active(_("Off: no requests go to any of its models."))
    priority = models.PositiveSmallIntegerField(
        _("priority"),
        default=100,
        help_text=_("Among targets in one position of a route, the lowest number comes first."),
    )
    connect_timeout = fields.seconds(
        _("connect timeout"), _("Seconds to wait for a connection. Empty: as in the settings.")
    )
    first_token_timeout = fields.seconds(
        _("first token timeout"),
        _("Seconds to wait for the first token of an answer. Empty: as in the settings."),
    )
    idle_timeout = fields.seconds(
        _("idle timeout"),
        _("Seconds that a stream may pause between tokens. Empty: as in the settings."),
    )
    total_timeout = fields.seconds(
        _("total timeout"), _("Maximum seconds for one attempt. Empty: as in the settings.")
    )
    max_connections = models.PositiveIntegerField(
        _("most connections"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("Maximum open connections per process. Empty: as in the settings."),
    )
    notes = models.TextField(_("notes"), blank=True, help_text=_("For operators; never sent."))
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    objects = ProviderQuerySet.as_manager()
    history = ConfigurationHistory(excluded_fields=["encrypted_key", "created_at", "updated_at"])

    class Meta:
        verbose_name = _("provider")
        verbose_name_plural = _("providers")
        ordering = ("priority", "name")
        permissions = (
            ("check_health", _("Can check the health of providers now")),
            ("discover_models", _("Can discover the models of providers")),
            ("send_environment_keys", _("Can have keys of the environment sent to any address")),
        )
        constraints = (
            fields.filled("name", "provider", _("A provider needs a name.")),
            fields.filled("vendor", "provider", _("A provider needs a vendor.")),
            fields.trimmed("name", "provider"),
            models.CheckConstraint(
                condition=Q(base_url="")
                | Q(base_url__startswith="https://")
                | Q(base_url__startswith="http://"),
                name="llm_provider_base_url",
                violation_error_message=_("The base URL must begin with https:// or http://."),
                violation_error_code="base_url",
            ),
            *(
                fields.between(
                    name,
                    fields.MIN_TIMEOUT,
                    fields.MAX_TIMEOUT,
                    "provider",
                    _("A timeout must be more than 0 and at most 3600 seconds."),
                )
                for name in (
                    "connect_timeout",
                    "first_token_timeout",
                    "idle_timeout",
                    "total_timeout",
                )
            ),
            fields.at_least(
                "max_connections", 1, "provider", _("A provider needs at least one connection.")
            ),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def has_stored_key(self) -> bool:
        """Whether the row has a stored key."""
        return bool(self.encrypted_key)

    def set_api_key(self, api_key: str) -> None:
        """Encrypts `api_key` into the row, which is not saved. Raises `ValueError` for an invalid
        key, such as a masked one; the message does not repeat it."""
        key = api_key.strip()
        if not key:
            raise ValueError("An empty key cannot be stored; clear it instead.")
        if is_mask(key):
            raise ValueError("This is a masked key. Paste the whole key.")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError(
                "A key must not contain blanks, line breaks or characters outside ASCII."
            )
        self.encrypted_key = encrypt(key)
        self.key_changed_at = timezone.now()

    def clear_api_key(self) -> None:
        """Removes the stored key from the row, which is not saved."""
        if self.encrypted_key:
            self.encrypted_key = ""
            self.key_changed_at = timezone.now()

    def clean(self) -> None:
        """Raises `ValidationError` for an unknown vendor or a base URL that is not allowed."""
        super().clean()
        errors: dict[str, Any] = {}
        if self.vendor and self.vendor not in VENDORS:
            errors["vendor"] = _("There is no such vendor. Known: %(known)s.") % {
                "known": ", ".join(VENDORS)
            }
        self.base_url = self.base_url.strip().rstrip("/")
        if self.base_url:
            try:
                check_base_url(self.base_url, get_settings().allowed_upstream_networks)
            except ValueError as error:
                errors["base_url"] = str(error)
        if "base_url" not in errors and (owner := self._owner_of_variable()):
            errors["api_key_env"] = _(
                "%(variable)s holds a key of %(vendor)s, and this provider has another "
                "address: the key would be sent to it. Use a separate variable."
            ) % {"variable": self.api_key_env, "vendor": owner}
        if errors:
            raise ValidationError(errors)

    @property
    def is_at_vendor(self) -> bool:
        """Whether its address is the vendor's own or this machine."""
        vendor = VENDORS.get(self.vendor)
        return vendor is not None and get_settings().is_at_vendor(vendor, self.base_url)

    def _owner_of_variable(self) -> str:
        """Returns the vendor of the variable if the provider's address is not that vendor's."""
        own, settings = VENDORS.get(self.vendor), get_settings()
        address = settings.provider_base_url(own, self.base_url) if own else self.base_url
        for vendor in VENDORS.values():
            is_at_vendor = bool(address) and settings.is_at_vendor(vendor, address)
            if self.api_key_env in vendor.api_key_envs and not is_at_vendor:
                return vendor.title
        return ""
