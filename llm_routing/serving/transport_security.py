"""HTTPS on the lean handler, which runs no middleware: the rules of Django's SecurityMiddleware.

The project's own `SECURE_…` settings apply.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from llm_routing.core.errors import PermissionDenied

MIDDLEWARE = "django.middleware.security.SecurityMiddleware"


@dataclass(frozen=True, slots=True)
class _Rules:
    """The settings, read once. `plain` and `secure` are the headers of responses over HTTP and
    HTTPS; `proxy_header` is the header with which a proxy marks a request as secure."""

    refuses_plain_http: bool
    exempt: Sequence[re.Pattern[str]]
    plain: Mapping[str, str]
    secure: Mapping[str, str]
    proxy_header: tuple[bytes, str] | None


def refuse_plain_http(scope: Mapping[str, Any]) -> None:
    """Raises `PermissionDenied` if a request with an API key came over plain HTTP and the project
    is served over HTTPS only. A redirect would make the client send the key in clear text again."""
    rules = _rules()
    if not rules.refuses_plain_http or _is_secure(scope, rules):
        return
    path = scope["path"].lstrip("/")
    if not any(pattern.search(path) for pattern in rules.exempt):
        raise PermissionDenied(
            "API keys are accepted over HTTPS only. Use https://, and replace this key, which has "
            "been sent in clear text."
        )


def security_headers(scope: Mapping[str, Any]) -> Mapping[str, str]:
    """Returns the security headers of every response."""
    rules = _rules()
    if rules.plain is rules.secure:
        return rules.plain
    return rules.secure if _is_secure(scope, rules) else rules.plain


def _is_secure(scope: Mapping[str, Any], rules: _Rules) -> bool:
    """As `HttpRequest.is_secure`: a proxy's header decides if the project names one."""
    if rules.proxy_header is not None:
        name, wanted = rules.proxy_header
        for given, value in scope["headers"]:
            if given == name:
                return bool(value.decode("latin-1").split(",", 1)[0].strip() == wanted)
    return bool(scope.get("scheme") == "https")


@lru_cache(maxsize=1)
def _rules() -> _Rules:
    has_middleware = MIDDLEWARE in settings.MIDDLEWARE
    plain: dict[str, str] = {}
    if has_middleware and settings.SECURE_CONTENT_TYPE_NOSNIFF:
        plain["X-Content-Type-Options"] = "nosniff"
    secure = plain
    if has_middleware and settings.SECURE_HSTS_SECONDS:
        value = f"max-age={settings.SECURE_HSTS_SECONDS}"
        if settings.SECURE_HSTS_INCLUDE_SUBDOMAINS:
            value += "; includeSubDomains"
        if settings.SECURE_HSTS_PRELOAD:
            value += "; preload"
        secure = {**plain, "Strict-Transport-Security": value}
    proxy_header = None
    if settings.SECURE_PROXY_SSL_HEADER:
        field, wanted = settings.SECURE_PROXY_SSL_HEADER
        name = field.removeprefix("HTTP_").replace("_", "-").lower()
        proxy_header = (name.encode("latin-1"), wanted)
    return _Rules(
        refuses_plain_http=bool(settings.SECURE_SSL_REDIRECT),
        exempt=[re.compile(pattern) for pattern in settings.SECURE_REDIRECT_EXEMPT],
        plain=plain,
        secure=secure,
        proxy_header=proxy_header,
    )


def _forget(**_: Any) -> None:
    _rules.cache_clear()


setting_changed.connect(_forget, dispatch_uid="llm_routing.serving.transport_security")
