"""Secrets at rest: Fernet for provider keys, and derived keys for each purpose.

The models decide where secrets are stored; `models.access` computes the digests of our own API
keys.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

from llm_routing.conf import get_settings

_ENCRYPTION = b"llm_routing encryption of provider keys"
_HIDDEN = "••••"


class Purpose(StrEnum):
    """A use of ENCRYPTION_KEYS. Each has its own derived keys, so a token of one purpose cannot be
    decrypted as another's. The value is part of the derivation: changing it invalidates every
    token."""

    PROVIDER_KEYS = "stored provider keys"
    ROUTING_TABLE = "routing table in the shared cache"
    KNOWN_KEYS = "file of known API keys"
    CACHED_ANSWERS = "cached answers"
    IDEMPOTENT_ANSWERS = "answers under idempotency keys"
    BREAKERS = "circuit breakers in Redis"


class SecretUnreadable(ValueError):
    """A stored secret that none of our keys decrypts. The message contains nothing of the
    secret."""


def encrypt(clear_text: str) -> str:
    """Returns a Fernet token of a provider key, encrypted with the first of our keys."""
    return _fernet().encrypt(clear_text.encode()).decode("ascii")


def decrypt(token: str) -> str:
    """Returns the clear text of a token of `encrypt`. Raises `SecretUnreadable`."""
    try:
        return _fernet().decrypt(token.encode()).decode()
    except InvalidToken:
        raise SecretUnreadable("The key that encrypted the secret is not configured.") from None


def mask(clear_text: str) -> str:
    """Returns the mask of a secret: bullets, and its last four characters if it is long enough. The
    bullets keep a mask from being taken for a secret (`is_mask`)."""
    return _HIDDEN + clear_text[-4:] if len(clear_text) >= 16 else _HIDDEN


def is_mask(text: str) -> bool:
    """Returns whether `text` is or contains a masked value, whether we, a vendor or a log masked
    it."""
    return any(sign in text for sign in ("•", "●", "…", "***", "..."))


def encryption_keys(purpose: Purpose) -> Sequence[bytes]:
    """Returns the keys for one purpose, 32 bytes each: new values are encrypted with the first.
    Raises `ImproperlyConfigured`."""
    return _keys_of(purpose, *_configured())


def derived_key(label: bytes) -> bytes:
    """Returns 32 bytes for one purpose from SECRET_KEY (RFC 5869); another `label` gives another
    key."""
    return _derive(label, django_settings.SECRET_KEY)


@lru_cache(maxsize=32)
def _derive(label: bytes, secret: str | bytes) -> bytes:
    master = secret.encode() if isinstance(secret, str) else secret
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=label).derive(master)


def _fernet() -> MultiFernet:
    return _fernet_of(*_configured())


def _configured() -> tuple[tuple[str, ...], tuple[str | bytes, ...]]:
    own = tuple(key.get_secret_value() for key in get_settings().encryption_keys)
    return own, (django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS)


@lru_cache(maxsize=4)
def _fernet_of(own: tuple[str, ...], secrets: tuple[str | bytes, ...]) -> MultiFernet:
    keys = _keys_of(Purpose.PROVIDER_KEYS, own, secrets)
    return MultiFernet([Fernet(urlsafe_b64encode(key)) for key in keys])


@lru_cache(maxsize=32)
def _keys_of(
    purpose: Purpose, own: tuple[str, ...], secrets: tuple[str | bytes, ...]
) -> Sequence[bytes]:
    """Returns the keys of settings first, then those of SECRET_KEY. So a project can switch from
    the default to its own keys without entering every provider key again."""
    try:
        for key in own:
            Fernet(key)  # raises if it is not a Fernet key
    except ValueError:
        raise ImproperlyConfigured(
            "LLM_ENCRYPTION_KEYS must be Fernet keys: 32 random bytes in URL-safe "
            "base64, as cryptography.fernet.Fernet.generate_key() returns them."
        ) from None
    masters = [*map(urlsafe_b64decode, own), *(_derive(_ENCRYPTION, key) for key in secrets)]
    label = f"llm_routing {purpose}".encode()
    return tuple(_derive(label, master) for master in masters)
