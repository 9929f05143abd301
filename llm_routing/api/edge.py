"""The outermost layer of every endpoint: a request id, and an envelope for whatever goes wrong."""

from collections.abc import Callable
from typing import Any, cast

from django.http import HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase

from .errors import Envelope, MethodNotAllowed, UnknownEndpoint, as_llm_error, error_response
from .headers import request_id_of
from .operations import GatewayRequest

View = Callable[..., Any]


def edged(view: View, envelope_of: Callable[[HttpRequest], Envelope]) -> View:
    """The view with an answer for every exception, in the endpoint's envelope."""

    async def edge(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        request_id = request_id_of(request)
        envelope = envelope_of(request)
        cast(GatewayRequest, request).request_id = request_id
        response: HttpResponseBase
        try:
            response = await view(request, *args, **kwargs)
            if isinstance(response, HttpResponseNotAllowed):
                allow = response.headers["Allow"]
                raise MethodNotAllowed(f"Only {allow} can be used here.", allow=allow)
        except Exception as error:  # noqa: BLE001  # told, and logged where it is a fault
            response = error_response(as_llm_error(error, request_id), envelope, request_id)
        for name in envelope.id_headers:
            response.headers[name] = request_id
        return response

    edge.csrf_exempt = True  # type: ignore[attr-defined]  # Django's own mark: keys, not cookies
    return edge


async def unknown_endpoint(request: HttpRequest, **_: str) -> HttpResponseBase:
    """Stands where there is no endpoint."""
    raise UnknownEndpoint("There is nothing at this path.")
