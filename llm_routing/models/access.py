"""API keys of callers, each with its tenant.

This module creates, digests and stores keys; `llm_routing.access` authenticates requests.
"""

import hmac
import secrets
from datetime import datetime
from hashlib import sha256
from typing import Self

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from llm_routing.conf import get_settings
from llm_routing.crypto.at_rest import derived_key

from . import fields
from .text import ExactCharField, ExactSlugField
from .version import (
    ConfigurationHistory,
    ConfigurationModel,
    ConfigurationQuerySet,
    ConfigurationVersion,
)

KEY_START = "sk-llm-"
PREFIX_LENGTH = 12
_PEPPER = b"llm_routing pepper of API keys"


def key_digest(clear_text: str) -> str:
    """Returns the stored digest of an API key: HMAC-SHA-256 in hex, with the pepper of the settings
    or one derived from SECRET_KEY. A key has 256 random bits, so a slow hash adds nothing."""
    pepper = get_settings().key_pepper
    key = pepper.get_secret_value().encode() if pepper else derived_key(_PEPPER)
    return hmac.new(key, clear_text.encode("utf-8", "surrogatepass"), sha256).hexdigest()


class ApiKeyQuerySet(ConfigurationQuerySet["ApiKey"]):
    """Creates and reads API keys."""

    def issue(
        self,
        name: str,
        tenant: str = "default",
        expires_at: datetime | None = None,
        *,
        reads_metrics: bool = False,
    ) -> tuple["ApiKey", str]:
        """Creates a key. Returns it with its clear text, which is stored nowhere. Raises
        `IntegrityError` if the name exists."""
        key = self.model(
            name=name, tenant=tenant, expires_at=expires_at, reads_metrics=reads_metrics
        )
        clear_text = key.renew()
        key.save(using=self.db)
        return key, clear_text

    def usable(self, now: datetime | None = None) -> Self:
        """Returns the keys that are neither revoked nor expired."""
        not_expired = Q(expires_at__isnull=True) | Q(expires_at__gt=now or timezone.now())
        return self.active().filter(not_expired)


class ApiKey(ConfigurationModel):
    """An API key of a caller. Its clear text is shown once and never stored."""

    area = ConfigurationVersion.Area.ACCESS

    name = ExactCharField(
        _("name"),
        max_length=100,
        unique=True,
        validators=[fields.address_name],
        error_messages={"unique": _("There is already a key with this name.")},
        help_text=_("The person or service that uses the key; recorded with its usage."),
    )
    tenant = ExactSlugField(
        _("tenant"),
        max_length=64,
        default="default",
        help_text=_("Caches and usage records are separate for each tenant."),
    )
    prefix = ExactCharField(
        _("prefix"),
        max_length=PREFIX_LENGTH,
        editable=False,
        help_text=_("The start of the key, which identifies it."),
    )
    digest = ExactCharField(_("digest"), max_length=64, unique=True, editable=False)
    is_active = fields.is_active(_("Off: the key is revoked, and requests with it are rejected."))
    expires_at = models.DateTimeField(
        _("expires"),
        null=True,
        blank=True,
        help_text=_("The key is rejected from then on. Empty: never."),
    )
    deadline = fields.seconds(
        _("deadline"),
        _("Maximum seconds for a request with this key. Empty: as in the route or the settings."),
    )
    reads_metrics = models.BooleanField(
        _("reads metrics"),
        default=False,
        help_text=_("On: the key may read /metrics, which includes all tenants."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = ApiKeyQuerySet.as_manager()
    history = ConfigurationHistory(excluded_fields=["digest", "created_at"])

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        ordering = ("name",)
        constraints = (
            fields.filled("name", "key", _("A key needs a name.")),
            fields.filled("tenant", "key", _("A key needs a tenant.")),
            fields.trimmed("name", "key"),
            fields.trimmed("tenant", "key"),
            models.CheckConstraint(
                condition=Q(digest__regex=r"^[0-9a-f]{64}$"),
                name="llm_key_digest",
                violation_error_message=_("A key is stored only as its digest."),
                violation_error_code="digest",
            ),
            fields.between(
                "deadline",
                fields.MIN_TIMEOUT,
                fields.MAX_TIMEOUT,
                "key",
                _("A deadline must be more than 0 and at most 3600 seconds."),
            ),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def is_expired(self) -> bool:
        """Whether its expiry date has passed."""
        return self.expires_at is not None and self.expires_at <= timezone.now()

    def renew(self) -> str:
        """Gives the unsaved row a new key, and returns its clear text."""
        clear_text = KEY_START + secrets.token_urlsafe(32)
        self.prefix = clear_text[:PREFIX_LENGTH]
        self.digest = key_digest(clear_text)
        return clear_text
