"""Answers requests to unknown paths, and suggests the endpoint that was probably meant.

Clients append paths to a base URL, so a trailing slash, a missing prefix and a doubled prefix are
common mistakes. A hint is one of our own paths: it repeats nothing from the request.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import NoReverseMatch, reverse

from .errors import UnknownEndpoint

NATIVE_PREFIX = "api/llm/"
WIRE_PREFIX = "v1/"
MAX_PATH_LENGTH = 200
_DOCUMENT_PATH = f"{NATIVE_PREFIX}openapi.json"

View = Callable[..., Awaitable[HttpResponseBase]]


def unknown_endpoint_view(endpoints: Sequence[str]) -> View:
    """Returns the view for paths below our prefixes that are not in `endpoints`."""

    async def unknown_endpoint(request: HttpRequest, **_: str) -> HttpResponseBase:
        match = request.resolver_match
        namespace = match.namespace if match is not None else ""
        raise unknown_endpoint_error(request.path, endpoints, namespace)

    return unknown_endpoint


def unknown_endpoint_error(path: str, endpoints: Iterable[str], namespace: str) -> UnknownEndpoint:
    """Returns the error for a request to `path`, with a hint if an endpoint resembles it."""
    message = "There is nothing at this path."
    endpoint = suggested_endpoint(path, endpoints)
    if endpoint is not None:
        message += f" Use {_mount_path(namespace)}{endpoint} instead."
    return UnknownEndpoint(message)


def suggested_endpoint(path: str, endpoints: Iterable[str]) -> str | None:
    """Returns the endpoint at the end of `path`, ignoring slashes and prefix; None if there is
    none. `endpoints` have no leading slash."""
    if len(path) > MAX_PATH_LENGTH:
        return None
    segments = [segment for segment in path.split("/") if segment]
    best, best_length = None, 0
    for endpoint in endpoints:
        for tail in (endpoint, _without_prefix(endpoint)):
            wanted = tail.split("/")
            if len(wanted) > best_length and segments[-len(wanted) :] == wanted:
                best, best_length = endpoint, len(wanted)
    return best


def _without_prefix(endpoint: str) -> str:
    return endpoint.removeprefix(NATIVE_PREFIX).removeprefix(WIRE_PREFIX)


def _mount_path(namespace: str) -> str:
    """Returns the path under which the project includes our URLs."""
    try:
        return reverse(f"{namespace}:openapi-json").removesuffix(_DOCUMENT_PATH)
    except NoReverseMatch:
        return "/"
