"""`settings.LLM_ROUTING` as one frozen object, with its defaults and its environment variables.

The only reader of Django settings and of the environment in this app.
"""

import ipaddress
import os
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from .system.extras import missing_extra
from .system.private_files import claim_directory
from .system.redis_address import FORMS, parse_redis_url
from .vendors import Vendor

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LOOPBACK = ("127.0.0.0/8", "::1/128")


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


def _networks(value: object) -> object:
    items = _split(value)
    if not isinstance(items, (tuple, list)):
        raise ValueError("expected networks, such as 10.0.0.0/8, separated by commas")
    return tuple(ipaddress.ip_network(item) for item in items)


def _redis_url(value: SecretStr | None) -> SecretStr | None:
    if value is None or not value.get_secret_value():
        return None
    if message := missing_extra("REDIS_URL", "redis", "redis", "hiredis"):
        raise ValueError(message)
    try:
        parse_redis_url(value.get_secret_value())
    except ValueError:
        # The parser's own message may quote a password.
        raise ValueError(f"expected {FORMS}") from None
    return value


def _proxy_url(value: SecretStr | None) -> SecretStr | None:
    text = "" if value is None else value.get_secret_value()
    if not text:
        return None
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise ValueError("expected http://HOST:PORT or https://HOST:PORT") from None
    return value


class Settings(BaseModel):
    """The settings that `LLM_ROUTING` may contain.

    A field's alias is the environment variable that sets it where `LLM_ROUTING` does not; an
    explicit key always wins. Durations are in seconds, sizes in bytes unless the name says so.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    portkey_config: str = Field("", alias="PORTKEY_CONFIG", repr=False)
    or_site_url: str = Field("", alias="OR_SITE_URL")
    or_app_name: str = Field("", alias="OR_APP_NAME")
    sandbox_url: str = Field("http://127.0.0.1:8099", alias="LLM_SANDBOX_URL")

    connection_pool_size: int = Field(100, alias="CONNECTION_POOL_SIZE", ge=1, le=10_000)
    connect_timeout: float = Field(5.0, alias="LLM_CONNECT_TIMEOUT", gt=0, le=3600)
    first_token_timeout: float = Field(60.0, alias="LLM_FIRST_TOKEN_TIMEOUT", gt=0, le=3600)
    idle_timeout: float = Field(30.0, alias="LLM_IDLE_TIMEOUT", gt=0, le=3600)
    total_timeout: float = Field(300.0, alias="LLM_TOTAL_TIMEOUT", gt=0, le=86_400)
    retry_budget: float = Field(0.2, alias="LLM_RETRY_BUDGET", ge=0, le=1)
    hedge_budget: float = Field(0.1, alias="LLM_HEDGE_BUDGET", ge=0, le=1)
    max_answer_bytes: int = Field(32 * 1024 * 1024, alias="LLM_MAX_ANSWER_BYTES", ge=1024)
    max_body_bytes: int = Field(20 * 1024 * 1024, alias="LLM_MAX_BODY_BYTES", ge=1024)
    body_bytes_per_key: int = Field(
        128 * 1024 * 1024, alias="LLM_BODY_BYTES_PER_KEY", ge=1024, le=2**40
    )
    body_bytes_per_process: int = Field(
        256 * 1024 * 1024, alias="LLM_BODY_BYTES_PER_PROCESS", ge=1024, le=2**40
    )
    anonymous_body_bytes: int = Field(
        2560 * 1024, alias="LLM_ANONYMOUS_BODY_BYTES", ge=1024, le=2**40
    )
    max_header_lines: int = Field(100, alias="LLM_MAX_HEADER_LINES", ge=20, le=10_000)
    max_header_bytes: int = Field(64 * 1024, alias="LLM_MAX_HEADER_BYTES", ge=4096, le=2**20)
    header_timeout: float = Field(20.0, alias="LLM_HEADER_TIMEOUT", gt=0, le=3600)
    http_proxy: Annotated[SecretStr | None, AfterValidator(_proxy_url)] = Field(
        None, alias="HTTP_PROXY"
    )
    https_proxy: Annotated[SecretStr | None, AfterValidator(_proxy_url)] = Field(
        None, alias="HTTPS_PROXY"
    )
    no_proxy: str = Field("", alias="NO_PROXY")

    max_concurrency: int = Field(1000, alias="LLM_MAX_CONCURRENCY", ge=1, le=100_000)
    max_queued: int = Field(200, alias="LLM_MAX_QUEUED", ge=0, le=100_000)
    write_timeout: float = Field(30.0, alias="LLM_WRITE_TIMEOUT", gt=0, le=3600)
    keep_alive_interval: float = Field(15.0, alias="LLM_KEEP_ALIVE_INTERVAL", ge=0, le=3600)

    cors_allowed_origins: Annotated[tuple[str, ...], BeforeValidator(_split)] = Field(
        (), alias="LLM_CORS_ALLOWED_ORIGINS"
    )

    drain_timeout: float = Field(30.0, alias="LLM_DRAIN_TIMEOUT", ge=0, le=3600)
    drain_delay: float = Field(0.0, alias="LLM_DRAIN_DELAY", ge=0, le=3600)
    allowed_upstream_networks: Annotated[tuple[Network, ...], BeforeValidator(_networks)] = Field(
        (), alias="LLM_ALLOWED_UPSTREAM_NETWORKS"
    )

    cache_ttl: int = Field(3600, alias="CACHE_TTL", ge=0)
    cache_max_size: int = Field(1000, alias="CACHE_MAX_SIZE", ge=0)
    cache_memory_limit_mb: int = Field(100, alias="CACHE_MEMORY_LIMIT_MB", ge=0)
    idempotency_ttl: int = Field(24 * 3600, alias="LLM_IDEMPOTENCY_TTL", ge=0, le=30 * 24 * 3600)
    redis_url: Annotated[SecretStr | None, AfterValidator(_redis_url)] = Field(
        None, alias="REDIS_URL"
    )

    enable_monitoring: bool = Field(False, alias="ENABLE_MONITORING")
    health_check_interval: float = Field(60.0, alias="HEALTH_CHECK_INTERVAL", ge=1, le=86_400)
    health_check_timeout: float = Field(10.0, alias="LLM_HEALTH_CHECK_TIMEOUT", gt=0, le=300)
    health_check_concurrency: int = Field(8, alias="LLM_HEALTH_CHECK_CONCURRENCY", ge=1, le=100)
    health_history_days: float = Field(7.0, alias="LLM_HEALTH_HISTORY_DAYS", ge=1, le=3650)

    breaker_window: float = Field(60.0, alias="LLM_BREAKER_WINDOW", gt=0, le=3600)
    breaker_window_calls: int = Field(100, alias="LLM_BREAKER_WINDOW_CALLS", ge=1, le=10_000)
    breaker_minimum_calls: int = Field(10, alias="LLM_BREAKER_MINIMUM_CALLS", ge=1, le=10_000)
    breaker_failure_rate: float = Field(0.5, alias="LLM_BREAKER_FAILURE_RATE", gt=0, le=1)
    breaker_slow_call_time: float = Field(0.0, alias="LLM_BREAKER_SLOW_CALL_TIME", ge=0, le=3600)
    breaker_slow_call_rate: float = Field(0.8, alias="LLM_BREAKER_SLOW_CALL_RATE", gt=0, le=1)
    breaker_open_time: float = Field(5.0, alias="LLM_BREAKER_OPEN_TIME", gt=0, le=3600)
    breaker_longest_open_time: float = Field(
        300.0, alias="LLM_BREAKER_LONGEST_OPEN_TIME", gt=0, le=86_400
    )
    breaker_probes: int = Field(1, alias="LLM_BREAKER_PROBES", ge=1, le=100)

    refused_keys_per_minute: int = Field(
        60, alias="LLM_REFUSED_KEYS_PER_MINUTE", ge=0, le=1_000_000
    )
    metrics_access: Literal["key", "open", "off"] = Field("key", alias="LLM_METRICS_ACCESS")
    metrics_key_names: Annotated[tuple[str, ...], BeforeValidator(_split)] = Field(
        (), alias="LLM_METRICS_KEY_NAMES"
    )

    snapshot_poll_interval: float = Field(1.0, alias="LLM_SNAPSHOT_POLL_INTERVAL", gt=0, le=60)
    snapshot_cache_alias: str = Field("", alias="LLM_SNAPSHOT_CACHE_ALIAS")
    usage_retention_days: float = Field(0.0, alias="LLM_USAGE_RETENTION_DAYS", ge=0, le=36_500)
    ledger_max_bytes: int = Field(
        1024 * 1024 * 1024, alias="LLM_LEDGER_MAX_BYTES", ge=16 * 1024 * 1024
    )
    ledger_flush_interval: float = Field(0.5, alias="LLM_LEDGER_FLUSH_INTERVAL", gt=0, le=60)
    ledger_error_messages: bool = Field(True, alias="LLM_LEDGER_ERROR_MESSAGES")
    state_dir: Path = Field(Path(), alias="LLM_STATE_DIR")

    key_pepper: SecretStr | None = Field(None, alias="LLM_KEY_PEPPER")
    encryption_keys: Annotated[tuple[SecretStr, ...], BeforeValidator(_split)] = Field(
        (), alias="LLM_ENCRYPTION_KEYS"
    )

    def provider_base_url(self, vendor: Vendor, base_url: str = "") -> str:
        """Returns the base URL of a provider whose row has `base_url`: that one or, if it is empty,
        its vendor's; the sandbox's is below LLM_SANDBOX_URL. Without a slash at the end."""
        if base_url:
            return base_url.rstrip("/")
        if vendor.is_sandbox:
            return self.sandbox_url.rstrip("/") + "/v1"
        return vendor.base_url.rstrip("/")

    def is_at_vendor(self, vendor: Vendor, base_url: str = "") -> bool:
        """Returns whether a provider with this `base_url` is reached at its vendor's own address or
        on this machine. A vendor's key and settings are sent nowhere else."""
        resolved = self.provider_base_url(vendor, base_url)
        return resolved == self.provider_base_url(vendor) or vendor.is_own_host(resolved)


def load(given: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Returns the settings of an `LLM_ROUTING` dictionary (keys are field names in upper case),
    with the environment as fallback. Raises `ImproperlyConfigured` with every invalid key, without
    values, which may be secret."""
    known = {name.upper(): name for name in Settings.model_fields}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ImproperlyConfigured(
            f"LLM_ROUTING has unknown keys: {', '.join(unknown)}. Known keys: "
            f"{', '.join(sorted(known))}."
        )
    environ = {**environ, **_proxy_variables(environ)}
    values: dict[str, Any] = {known[key]: value for key, value in given.items()}
    origin = {name: f"LLM_ROUTING['{key}']" for key, name in known.items() if key in given}
    for name, info in Settings.model_fields.items():
        variable = info.alias
        text = environ.get(variable or "", "").strip()
        if name not in values and text:
            values[name] = text
            origin[name] = f"the environment variable {variable}"
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problems = []
        for item in error.errors(include_input=False, include_url=False, include_context=False):
            name = _field_of(str(item["loc"][0]))
            problems.append(f"{origin.get(name, name)}: {item['msg']}")
        raise ImproperlyConfigured("; ".join(problems)) from None


def _proxy_variables(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Returns the proxy variables. By convention they may be in lower case, which takes precedence.
    Under CGI a client can set HTTP_PROXY with a header `Proxy` (CVE-2016-5385), so it is ignored
    there."""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    found = {name: environ.get(name.lower(), "") or environ.get(name, "") for name in names}
    if "REQUEST_METHOD" in environ:
        found["HTTP_PROXY"] = environ.get("http_proxy", "")
    return found


def _field_of(location: str) -> str:
    for name, info in Settings.model_fields.items():
        if location in (name, info.alias):
            return name
    return location


@cache
def get_settings() -> Settings:
    """Returns the project's settings. Raises `ImproperlyConfigured`."""
    given = dict(getattr(django_settings, "LLM_ROUTING", {}))
    environ = dict(os.environ)
    if "ALLOWED_UPSTREAM_NETWORKS" not in given and django_settings.DEBUG:
        # A development machine uses the sandbox and local models; a server needs an explicit
        # setting.
        environ.setdefault("LLM_ALLOWED_UPSTREAM_NETWORKS", ",".join(_LOOPBACK))
    loaded = load(given, environ)
    if loaded.state_dir == Path():
        loaded = loaded.model_copy(update={"state_dir": _default_state_dir()})
    return loaded


def _default_state_dir() -> Path:
    base = getattr(django_settings, "BASE_DIR", None)
    if base is not None:
        return Path(base) / "var" / "llm_routing"
    path = Path(tempfile.gettempdir()) / f"llm_routing-{os.getuid()}"
    try:
        claim_directory(path)
    except OSError as error:
        raise ImproperlyConfigured(
            f"{path} cannot be used as STATE_DIR: {error.strerror or error}. Set LLM_STATE_DIR to "
            "a directory of your own, or BASE_DIR in the settings."
        ) from None
    return path


def _reload(*, setting: str, **_: object) -> None:
    if setting in ("LLM_ROUTING", "DEBUG", "BASE_DIR", "SECRET_KEY"):
        get_settings.cache_clear()


setting_changed.connect(_reload, dispatch_uid="llm_routing.conf")
