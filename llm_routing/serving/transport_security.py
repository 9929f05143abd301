"""HTTPS on the lean handler, which runs no middleware: what Django's SecurityMiddleware would do.

The project's own `SECURE_…` settings decide.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from django.conf import settings

from llm_routing.core.errors import PermissionDenied

MIDDLEWARE = "django.middleware.security.SecurityMiddleware"


def refuse_plain_http(scope: Mapping[str, Any]) -> None:
    """Raises `PermissionDenied` for a request with an API key that came over plain HTTP, if the
    project is served over HTTPS alone. A redirect would have the key sent again in vain."""
    if not settings.SECURE_SSL_REDIRECT or _is_secure(scope):
        return
    path = scope["path"].lstrip("/")
    if not any(pattern.search(path) for pattern in _exempt(tuple(settings.SECURE_REDIRECT_EXEMPT))):
        raise PermissionDenied(
            "API keys are taken over HTTPS alone. Use https://, and make a new key in place of "
            "this one, which has been sent in clear text."
        )


def security_headers(scope: Mapping[str, Any]) -> Mapping[str, str]:
    """What every answer says to browsers."""
    if MIDDLEWARE not in settings.MIDDLEWARE:
        return {}
    headers = {"X-Content-Type-Options": "nosniff"} if settings.SECURE_CONTENT_TYPE_NOSNIFF else {}
    if settings.SECURE_HSTS_SECONDS and _is_secure(scope):
        value = f"max-age={settings.SECURE_HSTS_SECONDS}"
        if settings.SECURE_HSTS_INCLUDE_SUBDOMAINS:
            value += "; includeSubDomains"
        if settings.SECURE_HSTS_PRELOAD:
            value += "; preload"
        headers["Strict-Transport-Security"] = value
    return headers


def _is_secure(scope: Mapping[str, Any]) -> bool:
    """As `HttpRequest.is_secure`: by the proxy's word where the project has a header for it."""
    if settings.SECURE_PROXY_SSL_HEADER:
        field, wanted = settings.SECURE_PROXY_SSL_HEADER
        name = field.removeprefix("HTTP_").replace("_", "-").lower().encode("latin-1")
        for given, value in scope["headers"]:
            if given == name:
                return bool(value.decode("latin-1").split(",", 1)[0].strip() == wanted)
    return bool(scope.get("scheme") == "https")


@lru_cache(maxsize=8)
def _exempt(patterns: tuple[str, ...]) -> Sequence[re.Pattern[str]]:
    return [re.compile(pattern) for pattern in patterns]
