"""The HTTP API: native under `/api/llm`, for OpenAI's and Anthropic's clients under `/v1`.

Built here; what an endpoint does is in the module named after its format.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from django.apps import apps
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, URLResolver, path
from ninja import NinjaAPI, Swagger
from ninja.openapi.schema import OpenAPISchema

from . import anthropic, health, metrics, native, openai
from .direct import Endpoint, register_direct_endpoint
from .error_envelope import EnvelopeOf, unknown_endpoint, with_error_envelope, without_transactions
from .errors import ANTHROPIC, NATIVE, OPENAI, Envelope
from .openapi.document import DESCRIPTION, complete_document, list_endpoints

NAMESPACE = "llm_routing"
NATIVE_PREFIX = "api/llm/"
WIRE_PREFIX = "v1/"
MESSAGES_PREFIX = "v1/messages/"


def build_api(urls_namespace: str = NAMESPACE) -> NinjaAPI:
    """A new API. `urls_namespace` keeps several apart in one project."""
    api = GatewayAPI(
        title="LLM gateway",
        description=DESCRIPTION,
        urls_namespace=urls_namespace,
        openapi_url=f"/{NATIVE_PREFIX}openapi.json",
        docs_url=f"/{NATIVE_PREFIX}docs",
        docs=RelativeSwagger(),
        # Seen from the document itself, so that it is right under any prefix.
        servers=[{"url": "../.."}],
    )
    api.add_router(f"/{NATIVE_PREFIX}", native.router)
    api.add_router(f"/{NATIVE_PREFIX}", health.router)
    api.add_router("", metrics.router)
    api.add_router(f"/{WIRE_PREFIX}", openai.router)
    # A router for itself, so that both have their tags.
    api.add_router(f"/{WIRE_PREFIX}", anthropic.router)
    return api


@cache
def get_api() -> NinjaAPI:
    """The API of `llm_routing.urls`."""
    return build_api()


_ANSWERS = {
    f"{WIRE_PREFIX}chat/completions": openai.answer_chat,
    f"{MESSAGES_PREFIX[:-1]}": anthropic.answer_message,
    f"{NATIVE_PREFIX}complete": native.answer_prompt,
}
"""The endpoints that `llm_routing.asgi` serves without Django's requests and responses."""

_OPENAI_ALONE = {f"{WIRE_PREFIX}chat/completions", f"{WIRE_PREFIX}embeddings"}
"""Endpoints that Anthropic's API does not have; a header of its clients means nothing here."""


class RelativeSwagger(Swagger):
    """Swagger UI that finds the document beside itself, whatever the URLs are included under. Its
    files come from the static files of ninja's app; without that there is a page that needs none,
    where ninja would load them from somebody else's server."""

    def render_page(self, request: HttpRequest, api: NinjaAPI, **kwargs: Any) -> HttpResponse:
        """The page."""
        if apps.is_installed("ninja"):
            return super().render_page(request, api, **kwargs)
        context = {
            "title": api.title,
            "document_url": self.get_openapi_url(api, kwargs),
            "endpoints": list_endpoints(api.get_openapi_schema()),
        }
        return render(request, "llm_routing/api_docs.html", context)

    def get_openapi_url(self, api: NinjaAPI, path_params: dict[str, Any]) -> str:
        """The document's URL, relative to the page's."""
        return "openapi.json"


class GatewayAPI(NinjaAPI):
    """An API whose every answer, to whatever request below its prefixes, is in the envelope that
    the endpoint's clients read."""

    _document: OpenAPISchema | None = None

    @property
    def urls(self) -> tuple[list[URLResolver | URLPattern], str, str]:
        """The URL patterns, ready for `path("", …)`."""
        patterns, app_name, namespace = super().urls
        found: list[URLResolver | URLPattern] = []
        for pattern in patterns:
            assert isinstance(pattern, URLPattern)
            # ninja's root would stand where a project has its home page.
            if pattern.name == "api-root":
                continue
            if pattern.name in ("openapi-json", "openapi-view"):
                pattern.callback = without_transactions(pattern.callback)
            else:
                route = str(pattern.pattern)
                pattern.callback = with_error_envelope(pattern.callback, _envelope_of(route))
                if route in _ANSWERS:
                    register_direct_endpoint(
                        pattern.callback, Endpoint(_ANSWERS[route], _envelope_of(route))
                    )
            found.append(pattern)
        for prefix in (NATIVE_PREFIX, MESSAGES_PREFIX, WIRE_PREFIX):
            unknown = with_error_envelope(unknown_endpoint, _envelope_of(prefix))
            found += (path(prefix, unknown), path(f"{prefix}<path:rest>", unknown))
        return found, app_name, namespace

    def on_exception(self, request: HttpRequest, exc: Any) -> HttpResponse:
        """Leaves every exception to the edge."""
        raise exc

    def get_root_path(self, path_params: dict[str, Any]) -> str:
        """See `servers`."""
        return "/"

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        """The document, with the bodies that the formats read. Made once: it takes a fifth of a
        second, and anybody may ask for it."""
        if self._document is None:
            self._document = super().get_openapi_schema()
            complete_document(self._document)
        return self._document


def _envelope_of(route: str) -> EnvelopeOf:
    """How the errors of a route look, by request where the clients of both formats come: both list
    models, and both may be lost."""
    if route.startswith(NATIVE_PREFIX) or not route.startswith(WIRE_PREFIX):
        return lambda headers: NATIVE
    if f"{route}/".startswith(MESSAGES_PREFIX):
        return lambda headers: ANTHROPIC
    if route in _OPENAI_ALONE:
        return lambda headers: OPENAI

    def by_header(headers: Mapping[str, str]) -> Envelope:
        return ANTHROPIC if "anthropic-version" in headers else OPENAI

    return by_header
