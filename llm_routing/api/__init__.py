"""The HTTP API: native under `/api/llm`, for OpenAI's and Anthropic's clients under `/v1`.

The API is built here; each endpoint is in the module named after its format.
"""

from collections.abc import Mapping, Sequence
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
from .error_envelope import EnvelopeOf, with_error_envelope, without_transactions
from .errors import ANTHROPIC, NATIVE, OPENAI, Envelope, UnknownEndpoint
from .openapi.document import DESCRIPTION, complete_document, list_endpoints
from .unknown_paths import NATIVE_PREFIX, WIRE_PREFIX, unknown_endpoint_error, unknown_endpoint_view

NAMESPACE = "llm_routing"
MESSAGES_PREFIX = "v1/messages/"


def build_api(urls_namespace: str = NAMESPACE) -> "GatewayAPI":
    """Returns a new API. `urls_namespace` tells several APIs of one project apart."""
    api = GatewayAPI(
        title="LLM gateway",
        description=DESCRIPTION,
        urls_namespace=urls_namespace,
        openapi_url=f"/{NATIVE_PREFIX}openapi.json",
        docs_url=f"/{NATIVE_PREFIX}docs",
        docs=LocalSwagger(),
        # Relative to the document, so that it is right under any prefix.
        servers=[{"url": "../.."}],
    )
    api.add_router(f"/{NATIVE_PREFIX}", native.router)
    api.add_router(f"/{NATIVE_PREFIX}", health.router)
    api.add_router("", metrics.router)
    api.add_router(f"/{WIRE_PREFIX}", openai.router)
    # A separate router, so that both formats have tags of their own.
    api.add_router(f"/{WIRE_PREFIX}", anthropic.router)
    return api


@cache
def get_api() -> "GatewayAPI":
    """Returns the API of `llm_routing.urls`."""
    return build_api()


def unknown_path_error(path: str) -> UnknownEndpoint:
    """Returns the error for an authenticated request to `path`, which is outside our prefixes."""
    return unknown_endpoint_error(path, get_api().endpoints, NAMESPACE)


_DIRECT_ENDPOINTS = {
    f"{WIRE_PREFIX}chat/completions": openai.answer_chat,
    f"{MESSAGES_PREFIX[:-1]}": anthropic.answer_message,
    f"{NATIVE_PREFIX}complete": native.answer_prompt,
}
"""The endpoints that `llm_routing.asgi` serves without Django's requests and responses."""

_OPENAI_ONLY = {f"{WIRE_PREFIX}chat/completions", f"{WIRE_PREFIX}embeddings"}
"""Endpoints that Anthropic's API lacks; the header of Anthropic's clients has no effect on them."""


class LocalSwagger(Swagger):
    """Swagger UI without scripts, styles or images from other servers or inside the page.

    Serves the static files of ninja's app. If that app is not installed, ninja would load the files
    from a CDN; this page is plain HTML instead.
    """

    def render_page(self, request: HttpRequest, api: NinjaAPI, **kwargs: Any) -> HttpResponse:
        """Returns the page."""
        if apps.is_installed("ninja"):
            return super().render_page(request, api, **kwargs)
        context = {
            "title": api.title,
            "document_url": self.get_openapi_url(api, kwargs),
            "endpoints": list_endpoints(api.get_openapi_schema()),
        }
        return render(request, "llm_routing/api_docs.html", context)

    def get_openapi_url(self, api: NinjaAPI, path_params: dict[str, Any]) -> str:
        """Returns the document's URL relative to the page's, which is right under any prefix."""
        return "openapi.json"


class GatewayAPI(NinjaAPI):
    """An API that answers every request below its prefixes, unknown paths too, in the envelope that
    the endpoint's clients read."""

    endpoints: Sequence[str] = ()
    """The paths of the endpoints without parameters, once `urls` was read."""
    _document: OpenAPISchema | None = None

    @property
    def urls(self) -> tuple[list[URLResolver | URLPattern], str, str]:
        """The URL patterns, ready for `path("", …)`."""
        patterns, app_name, namespace = super().urls
        found: list[URLResolver | URLPattern] = []
        for pattern in patterns:
            assert isinstance(pattern, URLPattern)
            # ninja's root view would replace the project's home page.
            if pattern.name == "api-root":
                continue
            if pattern.name in ("openapi-json", "openapi-view"):
                pattern.callback = without_transactions(pattern.callback)
            else:
                route = str(pattern.pattern)
                envelope_of = _envelope_of(route)
                pattern.callback = with_error_envelope(pattern.callback, envelope_of)
                if route in _DIRECT_ENDPOINTS:
                    endpoint = Endpoint(_DIRECT_ENDPOINTS[route], envelope_of)
                    register_direct_endpoint(pattern.callback, endpoint)
            found.append(pattern)
        self.endpoints = _paths_without_parameters(found)
        view = unknown_endpoint_view(self.endpoints)
        for prefix in (NATIVE_PREFIX, MESSAGES_PREFIX, WIRE_PREFIX):
            unknown = with_error_envelope(view, _envelope_of(prefix))
            found += (path(prefix, unknown), path(f"{prefix}<path:rest>", unknown))
        return found, app_name, namespace

    def on_exception(self, request: HttpRequest, exc: Any) -> HttpResponse:
        """Passes every exception on to `with_error_envelope`."""
        raise exc

    def get_root_path(self, path_params: dict[str, Any]) -> str:
        """See `servers`."""
        return "/"

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        """Returns the document with the bodies that the formats read. Builds it once, because
        building takes 200 ms and requests need no key."""
        if self._document is None:
            self._document = super().get_openapi_schema()
            complete_document(self._document)
        return self._document


def _paths_without_parameters(patterns: Sequence[URLResolver | URLPattern]) -> Sequence[str]:
    routes = dict.fromkeys(str(pattern.pattern) for pattern in patterns)
    return [route for route in routes if "<" not in route and not route.endswith("/")]


def _envelope_of(route: str) -> EnvelopeOf:
    """Returns the error envelope of a route. Routes that clients of both formats use (lists of
    models, unknown paths) choose it by the request's headers."""
    if route.startswith(NATIVE_PREFIX) or not route.startswith(WIRE_PREFIX):
        return lambda headers: NATIVE
    if f"{route}/".startswith(MESSAGES_PREFIX):
        return lambda headers: ANTHROPIC
    if route in _OPENAI_ONLY:
        return lambda headers: OPENAI

    def by_header(headers: Mapping[str, str]) -> Envelope:
        return ANTHROPIC if "anthropic-version" in headers else OPENAI

    return by_header
