"""Providers and their models: where they are, what they can do, what they cost.

The routes that lead a use case to a model are in `routing`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self

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


class Capability(models.TextChoices):
    """What a model can do, as the planner asks it."""

    CHAT = "chat", _("Chat")
    STREAMING = "streaming", _("Streaming")
    TOOLS = "tools", _("Tools")
    VISION = "vision", _("Images")
    JSON_SCHEMA = "json_schema", _("JSON schema")
    REASONING = "reasoning", _("Reasoning")
    EMBEDDINGS = "embeddings", _("Embeddings")
    PREFILL = "prefill", _("Prefill")
    NO_SAMPLING = "no_sampling", _("No sampling")


def default_capabilities() -> list[str]:
    """What nearly every chat model can do."""
    return [Capability.CHAT.value, Capability.STREAMING.value]


class ProviderQuerySet(ConfigurationQuerySet["Provider"]):
    """Reads providers."""


class Provider(ConfigurationModel):
    """An account at a vendor, or a server of one's own: where it is and how it is spoken to."""

    name = ExactSlugField(
        _("name"),
        max_length=64,
        unique=True,
        error_messages={"unique": _("There is already a provider of this name.")},
        help_text=_("Short and lasting, such as “openai”: it is part of every model's address."),
    )
    vendor = ExactCharField(
        _("vendor"),
        max_length=32,
        help_text=_("Whose API this is. It decides the wire format and how the key is sent."),
    )
    base_url = ExactCharField(
        _("base URL"),
        max_length=500,
        blank=True,
        help_text=_(
            "Empty: the vendor's own. Private addresses only where the settings allow their "
            "network (LLM_ALLOWED_UPSTREAM_NETWORKS)."
        ),
    )
    api_key_env = ExactCharField(
        _("key variable"),
        max_length=128,
        blank=True,
        validators=[fields.key_variable],
        help_text=_(
            "The environment variable that holds the API key: the preferred way, for then the key "
            "is not in the database. Empty: the vendor's own variable."
        ),
    )
    encrypted_key = models.TextField(_("stored API key"), blank=True, editable=False)
    key_changed_at = models.DateTimeField(
        _("API key changed"),
        null=True,
        editable=False,
        help_text=_("When the stored key was last set or cleared."),
    )
    is_active = fields.is_active(_("Off: no request goes to any of its models."))
    priority = models.PositiveSmallIntegerField(
        _("priority"),
        default=100,
        help_text=_("Of targets in one position of a route, those of the lower number come first."),
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
        _("Seconds a stream may be silent between tokens. Empty: as in the settings."),
    )
    total_timeout = fields.seconds(
        _("total timeout"), _("Seconds one attempt may take in all. Empty: as in the settings.")
    )
    max_connections = models.PositiveIntegerField(
        _("most connections"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("Open connections at one time, for each process. Empty: as in the settings."),
    )
    notes = models.TextField(_("notes"), blank=True, help_text=_("For colleagues; never sent."))
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    objects = ProviderQuerySet.as_manager()
    history = ConfigurationHistory(excluded_fields=["encrypted_key", "created_at", "updated_at"])

    class Meta:
        verbose_name = _("provider")
        verbose_name_plural = _("providers")
        ordering = ("priority", "name")
        permissions = (
            ("discover_models", _("Can discover the models of providers")),
            ("send_environment_keys", _("Can have keys of the environment sent to any address")),
        )
        constraints = (
            fields.filled("name", "provider", _("A provider needs a name.")),
            fields.filled("vendor", "provider", _("A provider needs a vendor.")),
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
                    fields.SHORTEST_TIMEOUT,
                    fields.LONGEST_TIMEOUT,
                    "provider",
                    _("A timeout is more than 0 and at most 3600 seconds."),
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
        """Whether the row holds a key of its own."""
        return bool(self.encrypted_key)

    def set_api_key(self, api_key: str) -> None:
        """Encrypts `api_key` into the row, which is not saved. Raises `ValueError` for what cannot
        be a key, a masked one above all; the message does not repeat it."""
        key = api_key.strip()
        if not key:
            raise ValueError("An empty key cannot be stored; clear it instead.")
        if is_mask(key):
            raise ValueError("This is a masked key, not a key. Paste the whole key.")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("A key has no blanks, line breaks or characters outside ASCII.")
        self.encrypted_key = encrypt(key)
        self.key_changed_at = timezone.now()

    def clear_api_key(self) -> None:
        """Takes the stored key out of the row, which is not saved."""
        if self.encrypted_key:
            self.encrypted_key = ""
            self.key_changed_at = timezone.now()

    def clean(self) -> None:
        """Raises `ValidationError` for an unknown vendor or a base URL that must not be used."""
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
                "%(variable)s holds a key of %(vendor)s, and this provider is elsewhere: it would "
                "be given away. Use a variable of its own."
            ) % {"variable": self.api_key_env, "vendor": owner}
        if errors:
            raise ValidationError(errors)

    @property
    def is_at_vendor(self) -> bool:
        """Whether its address is the vendor's own, or this machine."""
        vendor = VENDORS.get(self.vendor)
        return vendor is not None and get_settings().is_at_vendor(vendor, self.base_url)

    def _owner_of_variable(self) -> str:
        """The vendor whose variable is named, if the provider's address is not the vendor's."""
        own, settings = VENDORS.get(self.vendor), get_settings()
        address = settings.provider_base_url(own, self.base_url) if own else self.base_url
        for vendor in VENDORS.values():
            is_at_vendor = bool(address) and settings.is_at_vendor(vendor, address)
            if self.api_key_env in vendor.api_key_envs and not is_at_vendor:
                return vendor.title
        return ""


PRICES = (
    "input_price",
    "output_price",
    "cached_input_price",
    "cache_write_price",
    "cache_write_1h_price",
    "web_search_price",
)
"""The fields of a model that hold a price."""


class ModelConfigQuerySet(ConfigurationQuerySet["ModelConfig"]):
    """Reads models."""

    def active(self) -> Self:
        """Models that are in use, their provider too; the provider is read along."""
        return self.filter(is_active=True, provider__is_active=True).select_related("provider")

    def mark_vanished(self, keys: Sequence[Any], at: datetime | None) -> int:
        """Notes since when the models of these keys are missing from their providers' lists; None:
        they are back. An observation and no configuration: it moves no version, leaves no history,
        and does not make a row one that an operator has touched. Returns how many changed."""
        plain: models.QuerySet[ModelConfig] = models.QuerySet(self.model, using=self.db)
        other = plain.filter(vanished_at__isnull=at is not None)
        return sum(
            other.filter(pk__in=keys[start : start + 500]).update(vanished_at=at)
            for start in range(0, len(keys), 500)
        )


class ModelConfig(ConfigurationModel):
    """A model as one provider offers it."""

    provider = models.ForeignKey(
        Provider,
        verbose_name=_("provider"),
        on_delete=models.CASCADE,
        related_name="models",
        help_text=_("Who runs it."),
    )
    model_id = ExactCharField(
        _("model ID"),
        max_length=200,
        validators=[fields.no_blanks],
        help_text=_("The provider's own identifier, sent as it is: “gpt-5-mini”."),
    )
    alias = ExactCharField(
        _("alias"),
        max_length=200,
        unique=True,
        null=True,
        blank=True,
        validators=[fields.callable_name],
        error_messages={"unique": _("Another model has this alias.")},
        help_text=_(
            "Any name callers may use instead of “provider/model ID”, such as “gpt-4o” or "
            "“team/fast”. It comes before an address of the same spelling."
        ),
    )
    display_name = ExactCharField(
        _("display name"), max_length=100, blank=True, help_text=_("For people.")
    )
    capabilities = models.JSONField(
        _("capabilities"),
        default=default_capabilities,
        blank=True,
        help_text=_(
            "A request goes only to models that can do what it asks for. Prefill: the model "
            "continues an answer that another began. No sampling: the model refuses temperature "
            "and top_p, so they are left out."
        ),
    )
    context_window = fields.tokens(
        _("context window"), _("Tokens of prompt and answer together. Empty: unknown.")
    )
    max_output_tokens = fields.tokens(
        _("longest answer"), _("Tokens one answer may have. Empty: unknown.")
    )
    input_price = fields.usd_per_million(
        _("input price"), _("USD for a million tokens of prompt. Empty: costs are not known.")
    )
    output_price = fields.usd_per_million(
        _("output price"),
        _(
            "USD for a million tokens of answer. Empty: the cost of an answer is not known. "
            "Embeddings need none."
        ),
    )
    cached_input_price = fields.usd_per_million(
        _("cached input price"),
        _("USD for a million tokens read from the provider's cache. Empty: as the input price."),
    )
    cache_write_price = fields.usd_per_million(
        _("cache write price"),
        _(
            "USD for a million tokens written to the provider's cache for five minutes. Empty: "
            "1.25 times the input price."
        ),
    )
    cache_write_1h_price = fields.usd_per_million(
        _("1-hour cache write price"),
        _(
            "USD for a million tokens written to the provider's cache for an hour. Empty: twice "
            "the input price."
        ),
    )
    web_search_price = fields.usd_per_million(
        _("web search price"),
        _(
            "USD for a thousand web searches that the provider runs. Empty: costs of answers with "
            "searches are not known."
        ),
    )
    is_active = fields.is_active(_("Off: no request goes to this model."))
    vanished_at = models.DateTimeField(
        _("vanished"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("When the provider's list of models was first seen without it."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    objects = ModelConfigQuerySet.as_manager()
    history = ConfigurationHistory(excluded_fields=["vanished_at", "created_at", "updated_at"])

    class Meta:
        verbose_name = _("model")
        verbose_name_plural = _("models")
        ordering = ("provider", "model_id")
        constraints = (
            models.UniqueConstraint(
                fields=("provider", "model_id"),
                name="llm_model_unique",
                violation_error_message=_("This provider already has a model with this ID."),
            ),
            fields.filled("model_id", "model", _("A model needs an ID.")),
            models.CheckConstraint(
                condition=Q(alias__isnull=True) | ~Q(alias=""),
                name="llm_model_alias",
                violation_error_message=_("An alias is not empty."),
                violation_error_code="alias",
            ),
            *(fields.at_least(name, 0, "model", _("A price is not below 0.")) for name in PRICES),
            *(
                fields.at_least(name, 1, "model", _("A number of tokens is at least 1."))
                for name in ("context_window", "max_output_tokens")
            ),
        )

    def __str__(self) -> str:
        return self.address

    @property
    def address(self) -> str:
        """`provider/model_id`, as callers write it."""
        return f"{self.provider.name}/{self.model_id}" if self.provider_id else self.model_id

    @property
    def is_priced(self) -> bool:
        """Whether what an answer costs can be told. Models that embed alone have no output."""
        if self.input_price is None:
            return False
        return self.output_price is not None or self.capabilities == [Capability.EMBEDDINGS.value]

    def save(self, *args: Any, **kwargs: Any) -> None:
        """As in Django; an empty alias is no alias."""
        self.alias = self.alias or None
        super().save(*args, **kwargs)

    def clean(self) -> None:
        """Raises `ValidationError` for unknown capabilities, an alias that names a use case, or an
        answer longer than the context window."""
        super().clean()
        self.alias = self.alias or None
        errors: dict[str, Any] = {}
        if not isinstance(self.capabilities, list) or not all(
            capability in Capability.values for capability in self.capabilities
        ):
            errors["capabilities"] = _("A list of known capabilities: %(known)s.") % {
                "known": ", ".join(Capability.values)
            }
        # The routes build on the models, not the other way round.
        from .routing import is_route_address

        if self.alias and is_route_address(self.alias):
            errors["alias"] = _("“%(alias)s” addresses a use case, which comes first.") % {
                "alias": self.alias
            }
        if (
            self.context_window is not None
            and self.max_output_tokens is not None
            and self.max_output_tokens > self.context_window
        ):
            errors["max_output_tokens"] = _("An answer cannot be longer than the context window.")
        if errors:
            raise ValidationError(errors)
