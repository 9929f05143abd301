"""Cross-origin requests (CORS) on the lean handler, which runs no middleware of the project.

With django-cors-headers installed its settings decide, as on Django's own handler; else
`CORS_ALLOWED_ORIGINS` of `LLM_ROUTING` does. https://fetch.spec.whatwg.org/#http-cors-protocol
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.signals import setting_changed

from llm_routing.conf import Settings, get_settings

EXPOSED = (
    "idempotency-replayed",
    "request-id",
    "retry-after",
    "x-llm-attempts",
    "x-llm-cache",
    "x-llm-cost-usd",
    "x-llm-ignored",
    "x-llm-model",
    "x-llm-overhead-ms",
    "x-llm-provider",
    "x-request-id",
)
METHODS = ("GET", "HEAD", "OPTIONS", "POST")
MAX_AGE = 86_400
LIBRARY_METHODS = ("DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT")
LIBRARY_HEADERS = (
    "accept",
    "authorization",
    "content-type",
    "user-agent",
    "x-csrftoken",
    "x-requested-with",
)
"""The defaults of django-cors-headers."""

MAX_ORIGIN_LENGTH = 300
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,2000}")


@dataclass(frozen=True, slots=True)
class CorsRules:
    """The allowed origins, methods and headers. Without `headers` any header is allowed."""

    origins: frozenset[str] = frozenset()
    patterns: tuple[re.Pattern[str], ...] = ()
    allows_all: bool = False
    with_credentials: bool = False
    methods: tuple[str, ...] = METHODS
    headers: tuple[str, ...] | None = None
    exposed: tuple[str, ...] = EXPOSED
    max_age: int = MAX_AGE
    paths: re.Pattern[str] | None = None

    @property
    def allow_any_origin(self) -> bool:
        """Whether pages of at least one other origin may call."""
        return bool(self.origins or self.patterns or self.allows_all)

    def headers_for(self, path: str, origin: str) -> dict[str, str]:
        """Returns the headers of every response to a page of `origin`, which may be empty."""
        if self.paths is not None and not self.paths.match(path):
            return {}
        headers = {"Vary": "Origin"}
        if origin and self._allows(origin):
            is_any = self.allows_all and not self.with_credentials
            headers["Access-Control-Allow-Origin"] = "*" if is_any else origin
            headers["Access-Control-Expose-Headers"] = ", ".join(self.exposed)
            if self.with_credentials:
                headers["Access-Control-Allow-Credentials"] = "true"
        return headers

    def preflight(self, path: str, origin: str, asked_headers: str) -> dict[str, str]:
        """Returns the headers of the response to a preflight request."""
        headers = self.headers_for(path, origin)
        if "Access-Control-Allow-Origin" in headers:
            del headers["Access-Control-Expose-Headers"]
            headers["Access-Control-Allow-Methods"] = ", ".join(self.methods)
            allowed = "" if self.headers is None else ", ".join(self.headers)
            if self.headers is None and _HEADER_NAMES.fullmatch(asked_headers):
                allowed = asked_headers
            if allowed:
                headers["Access-Control-Allow-Headers"] = allowed
            headers["Access-Control-Max-Age"] = str(self.max_age)
        return headers

    def _allows(self, origin: str) -> bool:
        if len(origin) > MAX_ORIGIN_LENGTH or not origin.isprintable():
            return False
        return (
            self.allows_all
            or origin in self.origins
            or any(pattern.match(origin) for pattern in self.patterns)
        )


_rules: list[tuple[Settings, CorsRules | None]] = []


def cors_rules() -> CorsRules | None:
    """Returns the rules of the project; None if pages of other origins may not call at all."""
    settings = get_settings()
    if not _rules or _rules[0][0] is not settings:
        is_theirs = apps.is_installed("corsheaders")
        rules = _project_rules() if is_theirs else _own_rules(settings)
        _rules[:] = [(settings, rules if rules.allow_any_origin else None)]
    return _rules[0][1]


def cors_request_headers(raw_headers: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Returns the headers of a request that matter for CORS."""
    names = (b"origin", b"access-control-request-method", b"access-control-request-headers")
    return {name.decode(): value.decode("latin-1") for name, value in raw_headers if name in names}


def _own_rules(settings: Settings) -> CorsRules:
    allowed = frozenset(settings.cors_allowed_origins)
    return CorsRules(allowed - {"*"}, allows_all="*" in allowed)


def _project_rules() -> CorsRules:
    """https://github.com/adamchainz/django-cors-headers#configuration"""

    def given(name: str, default: Any) -> Any:
        return getattr(django_settings, name, default)

    return CorsRules(
        origins=frozenset(given("CORS_ALLOWED_ORIGINS", ())),
        patterns=tuple(re.compile(text) for text in given("CORS_ALLOWED_ORIGIN_REGEXES", ())),
        allows_all=given("CORS_ALLOW_ALL_ORIGINS", False),
        with_credentials=given("CORS_ALLOW_CREDENTIALS", False),
        methods=tuple(given("CORS_ALLOW_METHODS", LIBRARY_METHODS)),
        headers=tuple(given("CORS_ALLOW_HEADERS", LIBRARY_HEADERS)),
        exposed=(*EXPOSED, *given("CORS_EXPOSE_HEADERS", ())),
        max_age=given("CORS_PREFLIGHT_MAX_AGE", MAX_AGE),
        paths=re.compile(given("CORS_URLS_REGEX", "^.*$")),
    )


def _reload(*, setting: str, **_: object) -> None:
    if setting.startswith("CORS_") or setting == "INSTALLED_APPS":
        _rules.clear()


setting_changed.connect(_reload, dispatch_uid="llm_routing.serving.cors")
