"""Steps that the endpoints share: they call the router and turn its result into a response.

Formats and schemas interpret bodies; `error_envelope` renders errors.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from msgspec.structs import replace

from llm_routing.conf import get_settings
from llm_routing.core.types import (
    CacheState,
    Caller,
    Idempotency,
    LLMRequest,
    LLMResponse,
    RoutingFacts,
)
from llm_routing.factory import default_router_if_built, get_llm_router
from llm_routing.formats.base import StreamRenderer
from llm_routing.router.in_flight import RoutedStream
from llm_routing.serving.exchange import AuthenticatedRequest, EndpointResponse

from .cache_control import with_cache_control
from .errors import JSON
from .headers import request_timeout, set_facts
from .request_log import log_reused_response
from .streams.events import HEADERS, EventStream, EventStreamResponse
from .streams.pending import PendingStream, ResponseStream, open_within

if TYPE_CHECKING:

    class GatewayRequest(HttpRequest):
        """A request with the attributes that `with_error_envelope` and the key check have added."""

        auth: Caller
        request_id: str

else:
    GatewayRequest = HttpRequest

_LARGE_DIGITS = len("1000000")
"""The digits of the Content-Length of a large body."""


def json_response(content: bytes, facts: RoutingFacts | None = None) -> HttpResponse:
    """Returns a 200 with `content`, which is already JSON."""
    response = HttpResponse(content, content_type=JSON)
    if facts is not None:
        headers: dict[str, str] = {}
        set_facts(headers, facts)
        _set_headers(response, headers)
    return response


async def as_response(reply: EndpointResponse, request: HttpRequest) -> HttpResponseBase:
    """Returns the response for Django. Under WSGI the event loop ends with the view, so a stream is
    read to its end first."""
    content, response = reply.content, HttpResponse(status=reply.status)
    if isinstance(content, bytes):
        response.content = content
    elif isinstance(request, WSGIRequest):
        response.content = b"".join([chunk async for chunk in content])
    else:
        return EventStreamResponse(content, status=reply.status, headers=reply.headers)
    _set_headers(response, reply.headers)
    return response


def _set_headers(response: HttpResponse, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        response.headers[name] = value


def _may_be_large(headers: Mapping[str, str]) -> bool:
    """Whether the body may have 1 MB or more, by the number of digits in Content-Length."""
    announced = headers.get("content-length")
    return announced is None or len(announced) >= _LARGE_DIGITS


async def complete(
    request: AuthenticatedRequest,
    llm_request: LLMRequest,
    render: Callable[[LLMResponse], bytes],
    renderer: Callable[[ResponseStream], StreamRenderer],
    idempotency: Idempotency | None,
) -> EndpointResponse:
    """Returns the response to a chat request, streamed if the request says so.

    Raises `LLMError`. A stream raises only failures before its response begins: before its first
    content or, if the route buffers it, before a keep-alive is due.
    """
    router = default_router_if_built() or await get_llm_router()
    headers = request.headers
    if _may_be_large(headers):
        # Other tasks run between reading a large body and writing it for a vendor.
        await asyncio.sleep(0)
    llm_request = with_cache_control(llm_request, headers.get("cache-control"))
    timeout = request_timeout(headers, llm_request.timeout)
    if timeout != llm_request.timeout or idempotency is not None:
        llm_request = replace(llm_request, timeout=timeout, idempotency=idempotency)
    if not llm_request.stream:
        answer = await router.respond(llm_request, request.auth, request.request_id)
        reply = EndpointResponse(render(answer), {"Content-Type": JSON})
        set_facts(reply.headers, answer.routing)
        log_reused_response(answer.routing, request.request_id, request.auth)
        return reply
    silence = get_settings().keep_alive_interval
    is_late = bool(silence) and router.buffers_stream(llm_request)
    opening = router.open(llm_request, request.auth, request.request_id)
    stream: RoutedStream | PendingStream
    if is_late:
        stream = await open_within(asyncio.create_task(opening), silence)
    else:
        stream = await opening
    events = EventStream(stream, renderer(stream), request.request_id)
    reply = EndpointResponse(events, dict(HEADERS))
    if isinstance(stream, PendingStream):
        # The answering target is not known yet.
        return reply
    facts = stream.facts
    if facts.cache is not CacheState.HIT and not facts.replayed:
        # A short stream may have ended by now; its cost is reported at its end, as for every
        # stream.
        facts = replace(facts, cost=None)
    set_facts(reply.headers, facts)
    log_reused_response(facts, request.request_id, request.auth)
    return reply
