"""The outermost layer of every endpoint: sets a request ID and renders every error."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

from django.core.handlers.wsgi import WSGIRequest
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase

from llm_routing.core.types import Caller
from llm_routing.serving.exchange import EndpointResponse
from llm_routing.serving.shutdown import shutdown_error, was_cancelled_by_shutdown
from llm_routing.system.loops import run_in_background_loop

from .completions import GatewayRequest
from .errors import Envelope, MethodNotAllowed, as_llm_error, error_response
from .headers import request_id_of

View = Callable[..., Any]
EnvelopeOf = Callable[[Mapping[str, str]], Envelope]
"""Chooses the error envelope from the headers of a request."""


def with_error_envelope(view: View, envelope_of: EnvelopeOf) -> View:
    """Wraps a view: renders every exception in the endpoint's envelope, and answers HEAD where the
    view answers GET."""

    async def edge(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        request_id = request_id_of(request.headers)
        envelope = envelope_of(request.headers)
        cast(GatewayRequest, request).request_id = request_id
        response: HttpResponseBase
        reply: EndpointResponse | None = None
        is_head = request.method == "HEAD"
        if is_head:
            request.method = "GET"
        try:
            answer = view(request, *args, **kwargs)
            # Under WSGI every request has its own event loop, and the connections to providers
            # would end with it.
            is_wsgi = isinstance(request, WSGIRequest)
            response = await (run_in_background_loop(answer) if is_wsgi else answer)
            if isinstance(response, HttpResponseNotAllowed):
                allow = response.headers["Allow"]
                raise MethodNotAllowed(f"Only {allow} can be used here.", allow=allow)
        except asyncio.CancelledError:
            if not was_cancelled_by_shutdown():
                raise
            reply = error_response(shutdown_error(), envelope, request_id, _caller_of(request))
        except Exception as error:  # noqa: BLE001  # told, and logged where it is a fault
            reply = error_response(
                as_llm_error(error, request_id), envelope, request_id, _caller_of(request)
            )
        if reply is not None:
            response = HttpResponse(reply.content, status=reply.status, headers=reply.headers)
        for name in envelope.id_headers:
            response.headers[name] = request_id
        if is_head and isinstance(response, HttpResponse):
            response.headers["Content-Length"] = str(len(response.content))
            response.content = b""
        return response

    edge.csrf_exempt = True  # type: ignore[attr-defined]  # Django's own mark: keys, not cookies
    return without_transactions(edge)


def without_transactions(view: View) -> View:
    """Exempts the view from ATOMIC_REQUESTS, because coroutines cannot run inside its
    transactions."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def _caller_of(request: HttpRequest) -> Caller | None:
    """Returns the caller if the key has been checked."""
    caller = getattr(request, "auth", None)
    return caller if isinstance(caller, Caller) else None
