"""What the endpoints share: asking the router, and turning what it says into a response.

What a body means is for the formats and the schemas; errors are rendered at the edge.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from llm_routing.core.types import CacheState, Caller, LLMRequest, LLMResponse, RoutingFacts
from llm_routing.factory import get_llm_router
from llm_routing.formats.base import StreamRenderer
from llm_routing.routed import RoutedStream

from .cache_control import with_cache_control
from .errors import JSON
from .headers import set_facts
from .streaming import EventStream, stream_response

if TYPE_CHECKING:

    class GatewayRequest(HttpRequest):
        """A request with what the edge and the check of its key have added."""

        auth: Caller
        request_id: str

else:
    GatewayRequest = HttpRequest


def json_response(content: bytes, facts: RoutingFacts | None = None) -> HttpResponse:
    """A 200 with `content`, which is JSON already."""
    response = HttpResponse(content, content_type=JSON)
    if facts is not None:
        set_facts(response, facts)
    return response


async def complete(
    request: GatewayRequest,
    llm_request: LLMRequest,
    render: Callable[[LLMResponse], bytes],
    renderer: Callable[[RoutedStream], StreamRenderer],
) -> HttpResponseBase:
    """The answer to a chat request, whole or streamed as it says. Raises `LLMError`; of a stream
    only what fails before its first content."""
    router = await get_llm_router()
    llm_request = with_cache_control(llm_request, request.headers.get("Cache-Control"))
    if not llm_request.stream:
        answer = await router.respond(llm_request, request.auth, request.request_id)
        return json_response(render(answer), answer.routing)
    stream = await router.open(llm_request, request.auth, request.request_id)
    events = EventStream(stream, renderer(stream), request.request_id)
    response = await stream_response(request, events)
    facts = stream.facts
    if facts.cache is not CacheState.HIT:
        # A short stream may have ended by now; its cost is told at its end, as of every stream.
        facts = replace(facts, cost=None)
    set_facts(response, facts)
    return response
