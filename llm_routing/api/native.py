"""`/api/llm`: completions by use case and tier, and lists of models and routes."""

from collections.abc import Awaitable
from itertools import islice
from typing import Any

from django.http.response import HttpResponseBase
from ninja import Router
from pydantic import ValidationError

from llm_routing.core.codec import encode
from llm_routing.core.errors import InvalidRequest
from llm_routing.core.pricing import Price
from llm_routing.core.routing_table import ModelSpec, RouteSpec
from llm_routing.factory import get_llm_router
from llm_routing.serving.exchange import AuthenticatedRequest, EndpointResponse

from . import schemas
from .auth import KEY_REQUIRED
from .body import read_idempotent
from .completions import GatewayRequest, as_response, complete, json_response
from .errors import MAX_FIELD_ERRORS, invalid_fields
from .openapi import document as documentation
from .streams.native import NativeStreamRenderer

router = Router(auth=KEY_REQUIRED, tags=["Native"])


@router.post(
    "/complete",
    response=documentation.responses(schemas.CompleteAnswer, schemas.ErrorAnswer),
    openapi_extra=documentation.body(schemas.CompleteRequest, streams=True),
    operation_id="complete",
)
async def complete_prompt(request: GatewayRequest) -> HttpResponseBase:
    """Creates a completion. Without `use_case` and `model` it uses `general_purpose`; a tier that
    the use case lacks becomes `standard`.

    With `"stream": true` the answer is server-sent events: `delta` with `text`, `thinking` or
    `refusal`; `tool_call` with a whole call (`id`, `name`, `arguments`); at the end `done` with the
    same object as without streaming, or `error` with the error's body.
    """
    return await as_response(await answer_prompt(request), request)


def answer_prompt(request: AuthenticatedRequest) -> Awaitable[EndpointResponse]:
    """Returns the response to a native request. Raises `LLMError`."""
    try:
        body, idempotency = read_idempotent(request)
        if not isinstance(body, dict):
            raise InvalidRequest("The body must be an object.")
        wanted = schemas.CompleteRequest.model_validate(_with_few_unknown_fields(body))
    except ValidationError as error:
        raise invalid_fields(error) from None
    return complete(
        request,
        wanted.to_request(),
        lambda answer: encode(answer.dict()),
        NativeStreamRenderer,
        idempotency,
    )


def _with_few_unknown_fields(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the body with as many unknown fields as an error names: pydantic spends several
    microseconds on each."""
    known = schemas.CompleteRequest.model_fields
    if len(body) <= len(known) + MAX_FIELD_ERRORS:
        return body
    unknown = islice((name for name in body if name not in known), MAX_FIELD_ERRORS)
    return {name: body[name] for name in (*(body.keys() & known.keys()), *unknown)}


@router.get(
    "/models",
    response=documentation.responses(schemas.ModelsAnswer, schemas.ErrorAnswer),
    operation_id="models",
)
async def list_models(request: GatewayRequest) -> HttpResponseBase:
    """Lists every active model, with its capabilities and prices."""
    table = (await get_llm_router()).table
    found = [_model(spec) for _, spec in sorted(table.models.items())]
    return json_response(schemas.ModelsAnswer(models=found).model_dump_json().encode())


@router.get(
    "/routes",
    response=documentation.responses(schemas.RoutesAnswer, schemas.ErrorAnswer),
    operation_id="routes",
)
async def list_routes(request: GatewayRequest) -> HttpResponseBase:
    """Lists every active route: use case, tier, and its models in order."""
    table = (await get_llm_router()).table
    found = [_route(address, spec) for address, spec in sorted(table.routes.items())]
    return json_response(schemas.RoutesAnswer(routes=found).model_dump_json().encode())


def _model(spec: ModelSpec) -> schemas.ModelAnswer:
    price = spec.price or Price()
    return schemas.ModelAnswer(
        id=spec.key,
        provider=spec.provider,
        model_id=spec.model_id,
        alias=spec.alias or None,
        display_name=spec.display_name or spec.model_id,
        capabilities=sorted(spec.capabilities),
        quirks=sorted(spec.quirks),
        context_window=spec.context_window,
        max_output_tokens=spec.max_output_tokens,
        input_price=price.input,
        output_price=price.output,
        cached_input_price=price.cached_input,
        cache_write_price=price.cache_write,
        cache_write_1h_price=price.cache_write_1h,
        web_search_price=price.web_search,
    )


def _route(address: str, spec: RouteSpec) -> schemas.RouteAnswer:
    return schemas.RouteAnswer(
        id=address,
        use_case=spec.use_case,
        tier=spec.tier,
        targets=[
            schemas.TargetAnswer(model=target.model, position=target.position, weight=target.weight)
            for target in spec.targets
        ],
        temperature=spec.temperature,
        max_tokens=spec.max_tokens,
        cache_ttl=spec.cache_ttl,
        deadline=spec.deadline,
        stream_recovery=spec.stream_recovery.value,
    )
