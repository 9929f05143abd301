"""System checks of this app's settings: errors always, unsafe values with --deploy."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from django.conf import settings as django_settings
from django.core import checks
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router

from .backends.http.aiohttp_internals import versions as aiohttp_versions
from .conf import Settings, get_settings
from .configuration.credentials import fits_header, setting_values, unusable_variables
from .core.codec import decode
from .models import UsageRecord
from .serving.uvicorn_internals import versions as uvicorn_versions


@checks.register()
def check_settings(**_: Any) -> Sequence[checks.CheckMessage]:
    """Checks that the settings can be read and are consistent."""
    try:
        settings = get_settings()
    except ImproperlyConfigured as error:
        return [checks.Error(str(error), id="llm_routing.E001")]
    return [
        *_timeouts(settings),
        *_bodies(settings),
        *_snapshot_cache(settings),
        *_encryption_keys(settings),
        *_headers(settings),
        *_vendor_keys(),
    ]


@checks.register(checks.Tags.security, deploy=True)
def check_deployment(**_: Any) -> Sequence[checks.CheckMessage]:
    """Warns of settings that are unsafe in production (`check --deploy`)."""
    try:
        settings = get_settings()
    except ImproperlyConfigured:
        return []  # `check_settings` reports it
    return [*_secrets(settings), *_access(settings), *_library_versions(), *_database_limits()]


def _secrets(settings: Settings) -> Sequence[checks.CheckMessage]:
    found = []
    if settings.key_pepper is None:
        found.append(
            checks.Warning(
                "API keys are digested with a pepper derived from SECRET_KEY.",
                hint="Set LLM_KEY_PEPPER to a secret of its own before the first key is made: "
                "with it, SECRET_KEY can be rotated without invalidating every API key.",
                id="llm_routing.W001",
            )
        )
    if not settings.encryption_keys:
        found.append(
            checks.Warning(
                "Stored provider keys are encrypted with a key derived from SECRET_KEY.",
                hint="Set LLM_ENCRYPTION_KEYS, or keep provider keys only in the environment.",
                id="llm_routing.W002",
            )
        )
    return found


def _access(settings: Settings) -> Sequence[checks.CheckMessage]:
    found = []
    private = [str(network) for network in settings.allowed_upstream_networks]
    if private:
        found.append(
            checks.Warning(
                f"Base URLs of providers may lead into {', '.join(private)}.",
                hint="Users who may edit providers can reach the servers there. Reduce "
                "LLM_ALLOWED_UPSTREAM_NETWORKS to what your own models need.",
                id="llm_routing.W003",
            )
        )
    if settings.metrics_access == "open":
        found.append(
            checks.Warning(
                "Any client that reaches the server may read its metrics.",
                hint="They show what is spent, and on which models. Set LLM_METRICS_ACCESS to key, "
                "unless only Prometheus can reach /metrics.",
                id="llm_routing.W004",
            )
        )
    return found


def _library_versions() -> Sequence[checks.CheckMessage]:
    found = []
    if problems := uvicorn_versions.problems():
        found.append(
            checks.Warning(
                f"uvicorn cannot be extended: {'; '.join(problems)}.",
                hint="Without that, endless request heads fill the server's memory and connections "
                "that send nothing stay open. Install a known release, or put a proxy that limits "
                "both in front (docs/limits.md).",
                id="llm_routing.W006",
            )
        )
    if problems := aiohttp_versions.problems():
        found.append(
            checks.Warning(
                f"Requests go through aiohttp's own client: {'; '.join(problems)}.",
                hint="They cost more CPU, and a new connection each. Install a known release of "
                "aiohttp.",
                id="llm_routing.W008",
            )
        )
    return found


def _database_limits() -> Sequence[checks.CheckMessage]:
    connection = connections[router.db_for_write(UsageRecord)]
    options = connection.settings_dict.get("OPTIONS", {})
    limits = "connect_timeout", "tcp_user_timeout", "keepalives_idle"
    if connection.vendor != "postgresql" or any(name in options for name in limits):
        return []
    if "statement_timeout" in str(options.get("options", "")):
        return []
    return [
        checks.Warning(
            f"Connections to the database {connection.alias} wait without a limit.",
            hint="If it stops answering, revoked keys stay valid and records pile up until TCP "
            "gives up. Set connect_timeout, tcp_user_timeout and a statement_timeout in its "
            "OPTIONS (docs/outages.md).",
            id="llm_routing.W005",
        )
    ]


def _timeouts(settings: Settings) -> Sequence[checks.CheckMessage]:
    return [
        checks.Error(
            f"{name.upper()} ({getattr(settings, name):g} s) is longer than TOTAL_TIMEOUT "
            f"({settings.total_timeout:g} s), which ends a request before it.",
            hint=f"Set LLM_{name.upper()} to {settings.total_timeout:g} or less.",
            id="llm_routing.E002",
        )
        for name in ("connect_timeout", "first_token_timeout", "idle_timeout")
        if getattr(settings, name) > settings.total_timeout
    ]


def _bodies(settings: Settings) -> Sequence[checks.CheckMessage]:
    return [
        checks.Error(
            f"{name.upper()} is less than MAX_BODY_BYTES, so that one body may pass it.",
            id="llm_routing.E020",
        )
        for name in ("body_bytes_per_key", "body_bytes_per_process")
        if getattr(settings, name) < settings.max_body_bytes
    ]


def _snapshot_cache(settings: Settings) -> Sequence[checks.CheckMessage]:
    alias = settings.snapshot_cache_alias
    if alias and alias not in django_settings.CACHES:
        return [
            checks.Error(
                f"SNAPSHOT_CACHE_ALIAS is not a configured cache: {alias}.", id="llm_routing.E003"
            )
        ]
    if alias and "django.core.cache.backends.redis" in type(caches[alias]).__module__:
        return [
            checks.Error(
                f"The cache {alias} pickles what it keeps in Redis.",
                hint="Use django-redis with its JSON serializer for SNAPSHOT_CACHE_ALIAS.",
                id="llm_routing.E004",
            )
        ]
    return []


def _encryption_keys(settings: Settings) -> Sequence[checks.CheckMessage]:
    for number, key in enumerate(settings.encryption_keys, start=1):
        try:
            Fernet(key.get_secret_value())
        except ValueError:
            return [
                checks.Error(
                    f"Key {number} of ENCRYPTION_KEYS is not a Fernet key.",
                    hint="Create one with cryptography's Fernet.generate_key().",
                    id="llm_routing.E005",
                )
            ]
    return []


def _headers(settings: Settings) -> Sequence[checks.CheckMessage]:
    """Returns errors for values that HTTP headers cannot contain; requests omit them."""
    found = [
        checks.Error(
            f"{name.upper()} has characters that HTTP headers cannot contain.",
            id="llm_routing.E006",
        )
        for name, value in sorted(setting_values(settings).items())
        if not fits_header(value)
    ]
    if settings.or_site_url and not _is_site(settings.or_site_url):
        found.append(
            checks.Error(
                "OR_SITE_URL is not an http:// or https:// address.", id="llm_routing.E007"
            )
        )
    if settings.portkey_config.lstrip().startswith("{"):
        try:
            decode(settings.portkey_config.encode())
        except ValueError:
            found.append(
                checks.Error(
                    "PORTKEY_CONFIG looks like JSON but does not parse.",
                    hint="Give the ID of a config (pc-…), or the complete JSON.",
                    id="llm_routing.E008",
                )
            )
    return found


def _is_site(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _vendor_keys() -> Sequence[checks.CheckMessage]:
    return [
        checks.Error(f"{name} has characters that are not valid in a key.", id="llm_routing.E009")
        for name in unusable_variables()
    ]
