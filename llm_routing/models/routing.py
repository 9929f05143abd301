"""Routes: the models for a use case in a tier.

The planner applies routes to requests; this module holds and validates them.
"""

from typing import Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from llm_routing.core.routing_table import StreamRecovery
from llm_routing.core.types import ModelTier
from llm_routing.formats.restrictions import RESTRICTED

from . import fields
from .model_configs import ModelConfig
from .text import ExactCharField
from .version import ConfigurationHistory, ConfigurationModel, ConfigurationQuerySet

TIERS = [
    (ModelTier.PREMIUM.value, _("Premium")),
    (ModelTier.STANDARD.value, _("Standard")),
    (ModelTier.ECONOMY.value, _("Economy")),
]

RECOVERIES = [
    (StreamRecovery.ERROR.value, _("End it with an error")),
    (StreamRecovery.CONTINUE.value, _("Have another model continue it")),
    (StreamRecovery.BUFFER.value, _("Send it only when it is complete")),
]


class UseCaseRouteQuerySet(ConfigurationQuerySet["UseCaseRoute"]):
    """Reads routes."""

    def with_targets(self) -> Self:
        """Prefetches every target with its model and provider, in two queries."""
        targets = RouteTarget.objects.select_related("model__provider")
        return self.prefetch_related(models.Prefetch("targets", queryset=targets))


class UseCaseRoute(ConfigurationModel):
    """The route of a use case in a tier: its models, their order, and its settings."""

    use_case = ExactCharField(
        _("use case"),
        max_length=64,
        db_index=True,
        validators=[fields.address_name],
        help_text=_("The name that callers request, such as “debugging”. Any name is possible."),
    )
    tier = ExactCharField(
        _("tier"),
        max_length=16,
        choices=TIERS,
        default=ModelTier.STANDARD.value,
        help_text=_("If a use case lacks the requested tier, Standard serves it."),
    )
    system_prompt = models.TextField(
        _("system prompt"),
        blank=True,
        help_text=_("Inserted before the conversation, unless the caller sends a system prompt."),
    )
    temperature = models.FloatField(
        _("temperature"),
        null=True,
        blank=True,
        validators=[MinValueValidator(0.0), MaxValueValidator(2.0)],
        help_text=_("From 0 (deterministic) to 2 (random). Empty: the vendor's default."),
    )
    max_tokens = fields.tokens(
        _("most tokens"), _("Maximum tokens of an answer. Empty: the vendor's default.")
    )
    cache_ttl = models.PositiveIntegerField(
        _("cache lifetime"),
        null=True,
        blank=True,
        help_text=_(
            "Seconds that an answer may be served from the cache. 0: never. Empty: "
            "as in the settings."
        ),
    )
    deadline = fields.seconds(
        _("deadline"),
        _("Maximum seconds for a request, including every attempt. Empty: as in the settings."),
    )
    connect_timeout = fields.seconds(
        _("connect timeout"),
        _("Seconds to wait for a connection. Empty: as in the provider or the settings."),
    )
    first_token_timeout = fields.seconds(
        _("first token timeout"),
        _(
            "Seconds to wait for the first token of a stream before the next target "
            "is tried. Empty: as in the provider or the settings."
        ),
    )
    idle_timeout = fields.seconds(
        _("idle timeout"),
        _(
            "Seconds that a stream may pause between tokens. Empty: as in the "
            "provider or the settings."
        ),
    )
    stream_recovery = ExactCharField(
        _("a stream that breaks off"),
        max_length=16,
        choices=RECOVERIES,
        default=StreamRecovery.ERROR.value,
        help_text=_(
            "What happens if a stream breaks after callers have received part of it. "
            "Only models with the capability “Prefill” can continue a stream."
        ),
    )
    is_hedged = models.BooleanField(
        _("hedged"),
        default=False,
        help_text=_(
            "Also try the next target if the first one is slower than usual; the "
            "first good answer wins, and both may be billed."
        ),
    )
    probes_when_all_open = models.BooleanField(
        _("ask even when all circuits are open"),
        default=False,
        help_text=_("Off: requests are rejected at once while every circuit breaker is open."),
    )
    allowed_fields = models.JSONField(
        _("allowed fields"),
        default=list,
        blank=True,
        help_text=_(
            "Request fields that callers of this route may send although they can "
            "change the model, the provider or the price, or make the provider send "
            "requests. Other such fields are ignored or rejected."
        ),
    )
    is_active = fields.is_active(_("Off: callers get the error that the route does not exist."))
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    objects = UseCaseRouteQuerySet.as_manager()
    history = ConfigurationHistory(excluded_fields=["created_at", "updated_at"])

    class Meta:
        verbose_name = _("route")
        verbose_name_plural = _("routes")
        ordering = ("use_case", "tier")
        constraints = (
            models.UniqueConstraint(
                fields=("use_case", "tier"),
                name="llm_route_unique",
                violation_error_message=_("There is already a route for this use case and tier."),
            ),
            fields.filled("use_case", "route", _("A route needs a use case.")),
            fields.trimmed("use_case", "route"),
            fields.one_of(
                "tier",
                [value for value, _label in TIERS],
                "route",
                _("The tier must be premium, standard or economy."),
            ),
            fields.between("temperature", 0, 2, "route", _("A temperature must be from 0 to 2.")),
            fields.at_least(
                "max_tokens", 1, "route", _("The token limit of an answer must be at least 1.")
            ),
            *(
                fields.between(
                    name,
                    fields.MIN_TIMEOUT,
                    fields.MAX_TIMEOUT,
                    "route",
                    _("Deadlines and timeouts must be more than 0 and at most 3600 seconds."),
                )
                for name in ("deadline", "connect_timeout", "first_token_timeout", "idle_timeout")
            ),
            fields.one_of(
                "stream_recovery",
                [value for value, _label in RECOVERIES],
                "route",
                _("The policy for broken streams must be error, continue or buffer."),
            ),
        )

    def __str__(self) -> str:
        return f"{self.use_case}:{self.tier}"

    def clean(self) -> None:
        """Raises `ValidationError` for unknown allowed fields, and for a use case that equals the
        alias of a model, with or without a tier, or that ends with a tier."""
        super().clean()
        allowed = self.allowed_fields
        if not isinstance(allowed, list) or not all(name in RESTRICTED for name in allowed):
            raise ValidationError(
                {
                    "allowed_fields": _("A list of known fields: %(known)s.")
                    % {"known": ", ".join(RESTRICTED)}
                }
            )
        if not self.use_case:
            return
        if self.use_case.rpartition(":")[2] in set(ModelTier) and ":" in self.use_case:
            raise ValidationError({"use_case": _("A use case must not end with “:” and a tier.")})
        if "\0" in self.use_case:
            return  # PostgreSQL raises an error for a query with NUL
        names = [self.use_case, *(f"{self.use_case}:{tier}" for tier in ModelTier)]
        hidden = ModelConfig.objects.filter(alias__in=names).values_list("alias", flat=True).first()
        if hidden is not None:
            raise ValidationError(
                {
                    "use_case": _(
                        "“%(name)s” is the alias of a model, so the name would be ambiguous."
                    )
                    % {"name": hidden}
                }
            )


class RouteTargetQuerySet(ConfigurationQuerySet["RouteTarget"]):
    """Reads targets."""

    def active(self) -> Self:
        """Returns the targets that requests can reach: route, model and provider are active.
        Prefetches model and provider."""
        return self.filter(
            route__is_active=True, model__is_active=True, model__provider__is_active=True
        ).select_related("route", "model__provider")


class RouteTarget(ConfigurationModel):
    """One model of a route, at its fallback level."""

    route = models.ForeignKey(
        UseCaseRoute, verbose_name=_("route"), on_delete=models.CASCADE, related_name="targets"
    )
    model = models.ForeignKey(
        ModelConfig,
        verbose_name=_("model"),
        on_delete=models.PROTECT,
        related_name="route_targets",
        help_text=_("The model that answers."),
    )
    position = models.PositiveSmallIntegerField(
        _("position"),
        default=0,
        help_text=_(
            "0 is tried first, then 1, and so on. Targets with equal positions share the load."
        ),
    )
    weight = models.PositiveSmallIntegerField(
        _("weight"),
        default=1,
        validators=[MinValueValidator(1)],
        help_text=_("The share of requests among targets of the same position."),
    )

    objects = RouteTargetQuerySet.as_manager()
    history = ConfigurationHistory()

    class Meta:
        verbose_name = _("target")
        verbose_name_plural = _("targets")
        ordering = ("position", "id")
        constraints = (
            models.UniqueConstraint(
                fields=("route", "model"),
                name="llm_target_unique",
                violation_error_message=_("This model is already a target of the route."),
            ),
            fields.at_least("weight", 1, "target", _("A weight must be at least 1.")),
        )

    def __str__(self) -> str:
        return f"{self.position}: {self.model}"
