"""`/v1/messages`, as Anthropic's clients use it. The wire format is in `formats`."""

import re
from collections.abc import Awaitable

from django.http.response import HttpResponseBase
from msgspec.structs import replace
from ninja import Router

from llm_routing.core.types import LLMRequest
from llm_routing.factory import get_llm_router
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages
from llm_routing.serving.exchange import AuthenticatedRequest, EndpointResponse

from .auth import KEY_REQUIRED
from .body import read_idempotent, read_json
from .completions import GatewayRequest, as_response, complete, json_response
from .headers import request_timeout
from .openapi import document as documentation
from .openapi import wire_schemas

MESSAGES = AnthropicMessages()
BETA = "anthropic-beta"
_BETA_NAMES = re.compile(r"[A-Za-z0-9,. _-]{1,1000}")

router = Router(auth=KEY_REQUIRED, tags=["Anthropic-compatible"])


@router.post(
    "/messages",
    response=documentation.responses(wire_schemas.AnthropicMessage, wire_schemas.AnthropicError),
    openapi_extra=documentation.body(wire_schemas.MessagesRequest, streams=True),
    operation_id="create_message",
)
async def messages(request: GatewayRequest) -> HttpResponseBase:
    """Creates a message. `model` is a use case (`debugging`), a use case with a tier
    (`debugging:premium`), `provider/model_id` or an alias. Fields that are not listed here are
    passed unchanged to vendors of the same format."""
    return await as_response(await answer_message(request), request)


def answer_message(request: AuthenticatedRequest) -> Awaitable[EndpointResponse]:
    """Returns the response to a message request. Raises `LLMError`."""
    body, idempotency = read_idempotent(request)
    llm_request = _with_beta(request, MESSAGES.read_request(body))
    return complete(
        request,
        llm_request,
        MESSAGES.write_response,
        lambda _: MESSAGES.stream_renderer(llm_request),
        idempotency,
    )


@router.post(
    "/messages/count_tokens",
    response=documentation.responses(wire_schemas.TokenCount, wire_schemas.AnthropicError),
    openapi_extra=documentation.body(wire_schemas.CountTokensRequest, repeats=False),
    operation_id="count_message_tokens",
)
async def count_tokens(request: GatewayRequest) -> HttpResponseBase:
    """Counts the tokens of a prompt: the vendor's own count if it has one, else an estimate."""
    llm_request = _with_beta(request, MESSAGES.read_count_tokens_request(read_json(request)))
    llm_request = replace(llm_request, timeout=request_timeout(request.headers))
    gateway = await get_llm_router()
    count = await gateway.count_tokens(llm_request, request.auth, request.request_id)
    return json_response(MESSAGES.write_count_tokens(count.input_tokens), count.routing)


def _with_beta(request: AuthenticatedRequest, llm_request: LLMRequest) -> LLMRequest:
    """Adds the beta features of the caller's header, which are sent to vendors of this format too.
    https://platform.claude.com/docs/en/api/beta-headers"""
    beta = request.headers.get(BETA, "")
    if not beta or not _BETA_NAMES.fullmatch(beta) or llm_request.source is None:
        return llm_request
    return replace(llm_request, source=replace(llm_request.source, headers={BETA: beta}))
