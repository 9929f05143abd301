"""Fields and constraints that several models share, with their error messages."""

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Trim
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    Text = str | _StrPromise

MAX_TIMEOUT = 3600.0
MIN_TIMEOUT = 0.001

no_whitespace = RegexValidator(
    r"^[^\s\x00-\x1f\x7f]+\Z", _("Use no blanks or line breaks."), code="blanks"
)
# Operators choose a provider's address, and the variable's value is sent there. So the variable
# must not be DATABASE_URL or DJANGO_SECRET_KEY.
api_key_variable = RegexValidator(
    r"^(?![0-9])[A-Za-z0-9_]*API_KEY[A-Za-z0-9_]*\Z",
    _(
        "Name an environment variable with API_KEY in its name, such as ACME_API_KEY: letters, "
        "digits and underscores only."
    ),
    code="api_key_variable",
)


def address_name(value: str) -> None:
    """Validates a name that callers can send as a model and people can tell from others. Raises
    `ValidationError`."""
    if not value.isprintable() or value != value.strip():
        raise ValidationError(
            _("Use printable characters only, without leading or trailing blanks."),
            code="name",
        )


def at_least(field: str, least: Any, model: str, message: "Text") -> models.CheckConstraint:
    """Checks that the column is NULL or at least `least`."""
    return models.CheckConstraint(
        condition=Q(**{f"{field}__gte": least}) | Q(**{f"{field}__isnull": True}),
        name=f"llm_{model}_{field}",
        violation_error_message=message,
        violation_error_code=field,
    )


def between(
    field: str, least: Any, most: Any, model: str, message: "Text"
) -> models.CheckConstraint:
    """Checks that the column is NULL or within both bounds."""
    return models.CheckConstraint(
        condition=Q(**{f"{field}__gte": least, f"{field}__lte": most})
        | Q(**{f"{field}__isnull": True}),
        name=f"llm_{model}_{field}",
        violation_error_message=message,
        violation_error_code=field,
    )


def one_of(
    field: str, values: Iterable[str], model: str, message: "Text"
) -> models.CheckConstraint:
    """Checks that the column holds one of `values`."""
    return models.CheckConstraint(
        condition=Q(**{f"{field}__in": list(values)}),
        name=f"llm_{model}_{field}",
        violation_error_message=message,
        violation_error_code=field,
    )


def filled(field: str, model: str, message: "Text") -> models.CheckConstraint:
    """Checks that the column is not empty."""
    return models.CheckConstraint(
        condition=~Q(**{field: ""}),
        name=f"llm_{model}_{field}_filled",
        violation_error_message=message,
        violation_error_code=field,
    )


def trimmed(field: str, model: str) -> models.CheckConstraint:
    """The column has no blanks at its ends: callers could not tell two such names apart."""
    return models.CheckConstraint(
        condition=Q(**{field: Trim(field)}),
        name=f"llm_{model}_{field}_trimmed",
        violation_error_message=_("Write this without blanks at the beginning or the end."),
        violation_error_code=field,
    )


def seconds(name: "Text", help_text: "Text") -> "models.FloatField[Any, Any]":
    """A duration in seconds; empty means the project's setting."""
    return models.FloatField(
        name,
        null=True,
        blank=True,
        validators=[MinValueValidator(MIN_TIMEOUT), MaxValueValidator(MAX_TIMEOUT)],
        help_text=help_text,
    )


def usd_per_million(name: "Text", help_text: "Text") -> "models.DecimalField[Any, Any]":
    """A price in USD per million tokens, exact."""
    return models.DecimalField(
        name,
        max_digits=14,
        decimal_places=6,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal(0))],
        help_text=help_text,
    )


def tokens(name: "Text", help_text: "Text") -> "models.PositiveIntegerField[Any, Any]":
    """A number of tokens, at least 1."""
    return models.PositiveIntegerField(
        name, null=True, blank=True, validators=[MinValueValidator(1)], help_text=help_text
    )


def is_active(help_text: "Text") -> "models.BooleanField[Any, Any]":
    """Whether a row of the configuration is in use."""
    return models.BooleanField(_("active"), default=True, help_text=help_text)
