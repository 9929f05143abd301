"""`/v1`, as OpenAI's clients use it: chat completions, embeddings, models.

The wire format is in `formats`. Clients that send `anthropic-version` get the list of models in
Anthropic's shape.
"""

from collections.abc import Awaitable

from django.http.response import HttpResponseBase
from msgspec.structs import replace
from ninja import Router

from llm_routing.core.codec import encode
from llm_routing.factory import get_llm_router
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from llm_routing.formats.openai_embeddings.wire_format import OpenAIEmbeddings
from llm_routing.serving.exchange import AuthenticatedRequest, EndpointResponse

from . import addresses as models
from .auth import KEY_REQUIRED
from .body import read_idempotent
from .completions import GatewayRequest, as_response, complete, json_response
from .headers import request_timeout
from .openapi import document as documentation
from .openapi import wire_schemas

CHAT = OpenAIChat()
EMBEDDINGS = OpenAIEmbeddings()

router = Router(auth=KEY_REQUIRED, tags=["OpenAI-compatible"])


@router.post(
    "/chat/completions",
    response=documentation.responses(wire_schemas.ChatCompletion, wire_schemas.OpenAIError),
    openapi_extra=documentation.body(wire_schemas.ChatCompletionRequest, streams=True),
    operation_id="create_chat_completion",
)
async def chat_completions(request: GatewayRequest) -> HttpResponseBase:
    """Creates a chat completion. `model` is a use case (`debugging`), a use case with a tier
    (`debugging:premium`), `provider/model_id` or an alias. Fields that are not listed here are
    passed unchanged to vendors of the same format."""
    return await as_response(await answer_chat(request), request)


def answer_chat(request: AuthenticatedRequest) -> Awaitable[EndpointResponse]:
    """Returns the response to a chat completion request. Raises `LLMError`."""
    body, idempotency = read_idempotent(request)
    llm_request = CHAT.read_request(body)
    return complete(
        request,
        llm_request,
        lambda answer: CHAT.write_response(answer, created=answer.routing.created),
        lambda stream: CHAT.stream_renderer(llm_request, created=stream.created),
        idempotency,
    )


@router.post(
    "/embeddings",
    response=documentation.responses(wire_schemas.EmbeddingList, wire_schemas.OpenAIError),
    openapi_extra=documentation.body(wire_schemas.EmbeddingsRequest),
    operation_id="create_embeddings",
)
async def embeddings(request: GatewayRequest) -> HttpResponseBase:
    """Returns vectors for one text or several."""
    body, idempotency = read_idempotent(request)
    wanted = EMBEDDINGS.read_embedding_request(body)
    wanted = replace(wanted, timeout=request_timeout(request.headers), idempotency=idempotency)
    gateway = await get_llm_router()
    answer = await gateway.respond_embeddings(wanted, request.auth, request.request_id)
    return json_response(EMBEDDINGS.write_embeddings(answer, wanted), answer.routing)


@router.get(
    "/models",
    response=documentation.responses(
        wire_schemas.ModelList | wire_schemas.AnthropicModelList, wire_schemas.OpenAIError
    ),
    openapi_extra=documentation.ANTHROPIC_VERSION_AND_PAGE,
    operation_id="list_models",
)
async def list_models(request: GatewayRequest) -> HttpResponseBase:
    """Lists every valid value of `model`: use cases, with and without a tier, models and aliases.
    The list has Anthropic's shape if the request has the header `anthropic-version`."""
    table = (await get_llm_router()).table
    if wants_anthropic_shape(request):
        return json_response(encode(models.anthropic_list(table, request.GET)))
    return json_response(encode(models.openai_list(table)))


@router.get(
    "/models/{path:model_id}",
    response=documentation.responses(
        wire_schemas.Model | wire_schemas.AnthropicModel, wire_schemas.OpenAIError
    ),
    openapi_extra=documentation.ANTHROPIC_VERSION,
    operation_id="retrieve_model",
)
async def retrieve_model(request: GatewayRequest, model_id: str) -> HttpResponseBase:
    """Returns one entry of the list. Its ID may contain `/` and `:`."""
    owner, name = models.find((await get_llm_router()).table, model_id)
    if wants_anthropic_shape(request):
        return json_response(encode(models.anthropic_model(model_id, name)))
    return json_response(encode(models.openai_model(model_id, owner)))


def wants_anthropic_shape(request: GatewayRequest) -> bool:
    """Returns whether to answer in Anthropic's shape, on endpoints that both formats have."""
    return "anthropic-version" in request.headers
