"""Routes: what a use case means in a tier, and which models answer.

What a route means for a request is the planner's business; here is what an operator may write down.
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
    (StreamRecovery.BUFFER.value, _("Send it only once it is whole")),
]


class UseCaseRouteQuerySet(ConfigurationQuerySet["UseCaseRoute"]):
    """Reads routes."""

    def with_targets(self) -> Self:
        """With every target, its model and its provider read along: two queries in all."""
        targets = RouteTarget.objects.select_related("model__provider")
        return self.prefetch_related(models.Prefetch("targets", queryset=targets))


class UseCaseRoute(ConfigurationModel):
    """The route of a use case in a tier: its models, their order, and its settings."""

    use_case = ExactCharField(
        _("use case"),
        max_length=64,
        db_index=True,
        validators=[fields.address_name],
        help_text=_("What callers ask for, such as “debugging”. Any name of your own will do."),
    )
    tier = ExactCharField(
        _("tier"),
        max_length=16,
        choices=TIERS,
        default=ModelTier.STANDARD.value,
        help_text=_("A use case without the tier a caller asks for is served by Standard."),
    )
    system_prompt = models.TextField(
        _("system prompt"),
        blank=True,
        help_text=_("Put before the conversation, unless the caller sends one of their own."),
    )
    temperature = models.FloatField(
        _("temperature"),
        null=True,
        blank=True,
        validators=[MinValueValidator(0.0), MaxValueValidator(2.0)],
        help_text=_("From 0 (steady) to 2 (wild). Empty: the vendor's default."),
    )
    max_tokens = fields.tokens(
        _("most tokens"), _("The longest answer, in tokens. Empty: the vendor's default.")
    )
    cache_ttl = models.PositiveIntegerField(
        _("cache lifetime"),
        null=True,
        blank=True,
        help_text=_("Seconds an answer may be served again. 0: never. Empty: as in the settings."),
    )
    deadline = fields.seconds(
        _("deadline"),
        _("Seconds a request may take in all, every attempt included. Empty: as in the settings."),
    )
    connect_timeout = fields.seconds(
        _("connect timeout"),
        _("Seconds to wait for a connection. Empty: as the provider or the settings have it."),
    )
    first_token_timeout = fields.seconds(
        _("first token timeout"),
        _(
            "Seconds to wait for the first token of a stream; then the next target is asked. "
            "Empty: as the provider or the settings have it."
        ),
    )
    idle_timeout = fields.seconds(
        _("idle timeout"),
        _(
            "Seconds a stream may be silent between tokens. Empty: as the provider or the settings "
            "have it."
        ),
    )
    stream_recovery = ExactCharField(
        _("a stream that breaks off"),
        max_length=16,
        choices=RECOVERIES,
        default=StreamRecovery.ERROR.value,
        help_text=_(
            "What happens once callers have the first words of an answer. Only models with the "
            "capability “Prefill” can continue one."
        ),
    )
    is_hedged = models.BooleanField(
        _("hedged"),
        default=False,
        help_text=_(
            "Ask the next target too where the first one is slower than it usually is; the first "
            "good answer wins, and both may be billed."
        ),
    )
    probes_when_all_open = models.BooleanField(
        _("ask even when all circuits are open"),
        default=False,
        help_text=_("Off: callers are refused at once while every target is left alone."),
    )
    allowed_fields = models.JSONField(
        _("allowed fields"),
        default=list,
        blank=True,
        help_text=_(
            "What callers of this route may ask for although it can change the model, the provider "
            "or the price, or have the provider reach out. The rest is left out or refused."
        ),
    )
    is_active = fields.is_active(_("Off: callers are told that there is no such route."))
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
                _("The tier is premium, standard or economy."),
            ),
            fields.between("temperature", 0, 2, "route", _("A temperature is from 0 to 2.")),
            fields.at_least("max_tokens", 1, "route", _("An answer has at least one token.")),
            *(
                fields.between(
                    name,
                    fields.MIN_TIMEOUT,
                    fields.MAX_TIMEOUT,
                    "route",
                    _("Deadlines and timeouts are more than 0 and at most 3600 seconds."),
                )
                for name in ("deadline", "connect_timeout", "first_token_timeout", "idle_timeout")
            ),
            fields.one_of(
                "stream_recovery",
                [value for value, _label in RECOVERIES],
                "route",
                _("A stream that breaks off ends with an error, is continued, or is held back."),
            ),
        )

    def __str__(self) -> str:
        return f"{self.use_case}:{self.tier}"

    def clean(self) -> None:
        """Raises `ValidationError` for unknown allowed fields, or for a use case that is, or with a
        tier would be, the alias of a model, or ends with a tier."""
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
            raise ValidationError({"use_case": _("A use case does not end with “:” and a tier.")})
        if "\0" in self.use_case:
            return  # PostgreSQL refuses to look for it
        names = [self.use_case, *(f"{self.use_case}:{tier}" for tier in ModelTier)]
        hidden = ModelConfig.objects.filter(alias__in=names).values_list("alias", flat=True).first()
        if hidden is not None:
            raise ValidationError(
                {
                    "use_case": _("“%(name)s” is the alias of a model; callers could not tell.")
                    % {"name": hidden}
                }
            )


class RouteTargetQuerySet(ConfigurationQuerySet["RouteTarget"]):
    """Reads targets."""

    def active(self) -> Self:
        """Targets a request can reach: route, model and provider are in use and read along."""
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
        help_text=_("Which model answers."),
    )
    position = models.PositiveSmallIntegerField(
        _("position"),
        default=0,
        help_text=_("0 is tried first, then 1, and so on. Equal positions share the load."),
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
            fields.at_least("weight", 1, "target", _("A weight is at least 1.")),
        )

    def __str__(self) -> str:
        return f"{self.position}: {self.model}"
