"""Models: the capabilities and prices of a model at one provider.

`routing` has the routes from use cases to models.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from llm_routing.core.capabilities import Capability
from llm_routing.core.quirks import ModelQuirk

from . import fields
from .providers import Provider
from .text import ExactCharField
from .use_cases import is_route_address
from .version import ConfigurationHistory, ConfigurationModel, ConfigurationQuerySet

CAPABILITY_LABELS: "Mapping[str, fields.Text]" = {
    Capability.CHAT.value: _("Chat"),
    Capability.STREAMING.value: _("Streaming"),
    Capability.TOOLS.value: _("Tools"),
    Capability.VISION.value: _("Images"),
    Capability.JSON_SCHEMA.value: _("JSON schema"),
    Capability.REASONING.value: _("Reasoning"),
    Capability.EMBEDDINGS.value: _("Embeddings"),
    Capability.PREFILL.value: _("Prefill"),
}
QUIRK_LABELS: "Mapping[str, fields.Text]" = {ModelQuirk.NO_SAMPLING.value: _("No sampling")}


def default_capabilities() -> list[str]:
    """Returns the capabilities of nearly every chat model."""
    return [Capability.CHAT.value, Capability.STREAMING.value]


PRICES = (
    "input_price",
    "output_price",
    "cached_input_price",
    "cache_write_price",
    "cache_write_1h_price",
    "web_search_price",
)
"""The fields of a model that hold a price."""


def _all_among(names: Any, known: Mapping[str, Any]) -> bool:
    """Returns whether `names` is a list of keys of `known`."""
    return isinstance(names, list) and all(
        isinstance(name, str) and name in known for name in names
    )


class ModelConfigQuerySet(ConfigurationQuerySet["ModelConfig"]):
    """Reads models."""

    def active(self) -> Self:
        """Returns the active models of active providers, with their providers."""
        return self.filter(is_active=True, provider__is_active=True).select_related("provider")

    def mark_vanished(self, keys: Sequence[Any], at: datetime | None) -> int:
        """Sets since when the models with these keys are missing from their providers' lists; None:
        they are listed again. Returns how many rows changed.

        This is an observation, not configuration: it does not bump the version, has no history and
        does not count as an operator's edit.
        """
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
        help_text=_("The provider that runs the model."),
    )
    model_id = ExactCharField(
        _("model ID"),
        max_length=200,
        validators=[fields.no_whitespace],
        help_text=_("The provider's own identifier, sent unchanged: “gpt-5-mini”."),
    )
    alias = ExactCharField(
        _("alias"),
        max_length=200,
        unique=True,
        null=True,
        blank=True,
        validators=[fields.address_name],
        error_messages={"unique": _("Another model has this alias.")},
        help_text=_(
            "A name that callers may use instead of “provider/model ID”, such as "
            "“gpt-4o” or “team/fast”. It takes precedence over an equal address."
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
            "Requests go only to models that support what they need. Prefill: the "
            "model can continue a partial answer of another model."
        ),
    )
    quirks = models.JSONField(
        _("quirks"),
        default=list,
        blank=True,
        help_text=_("No sampling: the model rejects temperature and top_p, so they are left out."),
    )
    context_window = fields.tokens(
        _("context window"), _("Maximum tokens of prompt and answer together. Empty: unknown.")
    )
    max_output_tokens = fields.tokens(
        _("longest answer"), _("Maximum tokens of an answer. Empty: unknown.")
    )
    input_price = fields.usd_per_million(
        _("input price"), _("USD per million tokens of prompt. Empty: costs are unknown.")
    )
    output_price = fields.usd_per_million(
        _("output price"),
        _(
            "USD per million tokens of answer. Empty: the cost of an answer is "
            "unknown. Embeddings need no output price."
        ),
    )
    cached_input_price = fields.usd_per_million(
        _("cached input price"),
        _("USD per million tokens read from the provider's cache. Empty: the input price."),
    )
    cache_write_price = fields.usd_per_million(
        _("cache write price"),
        _(
            "USD per million tokens written to the provider's cache for five "
            "minutes. Empty: 1.25 times the input price."
        ),
    )
    cache_write_1h_price = fields.usd_per_million(
        _("1-hour cache write price"),
        _(
            "USD per million tokens written to the provider's cache for an hour. "
            "Empty: twice the input price."
        ),
    )
    web_search_price = fields.usd_per_million(
        _("web search price"),
        _(
            "USD per thousand web searches that the provider runs. Empty: costs of "
            "answers with searches are unknown."
        ),
    )
    is_active = fields.is_active(_("Off: no requests go to this model."))
    vanished_at = models.DateTimeField(
        _("vanished"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("When the model was first missing from the provider's list of models."),
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
            fields.trimmed("model_id", "model"),
            fields.trimmed("alias", "model"),
            models.CheckConstraint(
                condition=Q(alias__isnull=True) | ~Q(alias=""),
                name="llm_model_alias",
                violation_error_message=_("An alias must not be empty."),
                violation_error_code="alias",
            ),
            *(
                fields.at_least(name, 0, "model", _("A price must not be below 0."))
                for name in PRICES
            ),
            *(
                fields.at_least(name, 1, "model", _("A number of tokens must be at least 1."))
                for name in ("context_window", "max_output_tokens")
            ),
        )

    def __str__(self) -> str:
        return self.address

    @property
    def address(self) -> str:
        """`provider/model_id`, as callers send it."""
        return f"{self.provider.name}/{self.model_id}" if self.provider_id else self.model_id

    @property
    def is_priced(self) -> bool:
        """Whether the cost of an answer can be computed. Models that only embed have no output
        price."""
        if self.input_price is None:
            return False
        return self.output_price is not None or self.capabilities == [Capability.EMBEDDINGS.value]

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Like Django's; stores an empty alias as NULL."""
        self.alias = self.alias or None
        super().save(*args, **kwargs)

    def clean(self) -> None:
        """Raises `ValidationError` for unknown capabilities or quirks, an alias that names a use
        case, or an answer limit above the context window."""
        super().clean()
        self.alias = self.alias or None
        errors: dict[str, Any] = {}
        if not _all_among(self.capabilities, CAPABILITY_LABELS):
            errors["capabilities"] = _("A list of known capabilities: %(known)s.") % {
                "known": ", ".join(CAPABILITY_LABELS)
            }
        if not _all_among(self.quirks, QUIRK_LABELS):
            errors["quirks"] = _("A list of known quirks: %(known)s.") % {
                "known": ", ".join(QUIRK_LABELS)
            }
        if self.alias and is_route_address(self.alias):
            errors["alias"] = _(
                "“%(alias)s” is the address of a use case, which takes precedence."
            ) % {"alias": self.alias}
        if (
            self.context_window is not None
            and self.max_output_tokens is not None
            and self.max_output_tokens > self.context_window
        ):
            errors["max_output_tokens"] = _("An answer cannot be longer than the context window.")
        if errors:
            raise ValidationError(errors)
