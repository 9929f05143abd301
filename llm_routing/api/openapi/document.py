"""OpenAPI descriptions of the endpoints that read their bodies themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from llm_routing.api import schemas

from . import wire_schemas

REFERENCE = "#/components/schemas/{model}"

DESCRIPTION = """
Completions routed by use case and tier to the models that operators configure.

* `/api/llm`: the gateway's own endpoints.
* `/v1`: for OpenAI's clients (`base_url=…/v1`) and Anthropic's (`base_url=…`).

Every endpoint takes a key as `Authorization: Bearer sk-llm-…` or as `x-api-key: sk-llm-…`.

Headers of every answer:

| Header | |
|---|---|
| `x-request-id` | yours, if it is 1 to 128 of `A-Z a-z 0-9 . _ : / + = @ -`; else a new one |
| `x-llm-provider`, `x-llm-model` | the target that answered |
| `x-llm-attempts` | how many attempts it took; on errors as well |
| `x-llm-cache` | `hit`, `miss` or `bypass` |
| `x-llm-cost-usd` | if the cost is known; on streams only for cache hits |
| `x-llm-overhead-ms` | time spent in the gateway, in milliseconds |
| `x-llm-ignored` | request fields that the target does not support |
| `idempotency-replayed` | `true` if this is the answer to an earlier request with the same key |
| `Retry-After` | on errors, in whole seconds, if waiting helps |
"""

_ERRORS = {
    400: "The body is not JSON, or (under /v1) a field is wrong.",
    401: "No API key, or one that is unknown or revoked.",
    404: "No such model, use case or tier; the message lists the known ones.",
    413: "The body is larger than the limit.",
    422: "A field is invalid; the error names it. Or the idempotency key was used for "
    "another request.",
    429: "Every target limits the gateway's rate.",
    500: "Internal error.",
    502: "Every target failed; the error lists the attempts.",
    503: "Nothing is available, or the key cannot be checked; see Retry-After.",
    504: "The deadline was exceeded; the error lists the attempts.",
}
_ANTHROPIC_VERSION = {
    "in": "header",
    "name": "anthropic-version",
    "required": False,
    "schema": {"type": "string"},
    "description": "Asks for Anthropic's shape, of the answer and of errors.",
}
_PAGE = [
    {
        "in": "query",
        "name": name,
        "required": False,
        "schema": schema,
        "description": "In Anthropic's shape only.",
    }
    for name, schema in (
        ("limit", {"type": "integer", "minimum": 1, "maximum": 1000}),
        ("after_id", {"type": "string"}),
        ("before_id", {"type": "string"}),
        (
            "lifecycle[]",
            {
                "type": "array",
                "items": {"type": "string", "enum": ["active", "deprecated", "retired"]},
            },
        ),
    )
]
ANTHROPIC_VERSION: dict[str, Any] = {"parameters": [_ANTHROPIC_VERSION]}
ANTHROPIC_VERSION_AND_PAGE: dict[str, Any] = {"parameters": [_ANTHROPIC_VERSION, *_PAGE]}


_IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "A repeated request with the same key gets the same answer.",
}


def body(model: type[BaseModel], *, streams: bool = False, repeats: bool = True) -> dict[str, Any]:
    """Returns the `openapi_extra` of an endpoint with a JSON body of type `model`. The answer is
    server-sent events if the body asks for them. `repeats`: the endpoint supports idempotency
    keys."""
    reference = {"$ref": REFERENCE.format(model=model.__name__)}
    extra: dict[str, Any] = {
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}
    }
    if repeats:
        extra["parameters"] = [_IDEMPOTENCY_KEY]
    if streams:
        extra["responses"] = {
            200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
        }
    return extra


def text(*media_types: str) -> dict[str, Any]:
    """Returns the `openapi_extra` of an endpoint that answers with text and checks keys itself."""
    content = {name: {"schema": {"type": "string"}} for name in media_types}
    return {
        "responses": {200: {"description": "OK", "content": content}},
        "security": [{"BearerKey": []}, {"HeaderKey": []}],
    }


def responses(answer: Any, error: Any, unavailable: Any = None) -> dict[int, Any]:
    """Returns the answers of an endpoint by status; `unavailable` is the schema of a 503 that
    differs."""
    found = {200: answer, **dict.fromkeys(_ERRORS, error)}
    if unavailable is not None:
        found[503] = unavailable | error
    return found


def complete_document(document: dict[str, Any]) -> None:
    """Adds the schemas that `body` refers to, and a description of each error."""
    models = (schemas.CompleteRequest, *wire_schemas.BODIES)
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template=REFERENCE
    )
    document["components"]["schemas"].update(definitions["$defs"])
    for path in document["paths"].values():
        for operation in path.values():
            for status, words in _ERRORS.items():
                if status in operation["responses"]:
                    operation["responses"][status]["description"] = words


def list_endpoints(document: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
    """Lists the endpoints of the document: `method`, `path` and the first sentence of the
    description."""
    return [
        {
            "method": method.upper(),
            "path": path,
            "description": operation.get("description", "").split(". ")[0].strip(". "),
        }
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
