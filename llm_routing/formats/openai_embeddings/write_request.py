"""Writes embedding requests for vendors, from the caller's body or from canonical form.

Source: https://platform.openai.com/docs/api-reference/embeddings/create
"""

from typing import Any

from llm_routing.core.codec import encode
from llm_routing.core.embeddings import EmbeddingRequest
from llm_routing.core.errors import UnsupportedRequest
from llm_routing.core.ports import WireRequest
from llm_routing.core.routing_table import Target
from llm_routing.formats.ignored_fields import bounded_names, has_value
from llm_routing.formats.names import OPENAI_EMBEDDINGS
from llm_routing.formats.openai_chat.write_request import HEADERS


def write_embedding_request(request: EmbeddingRequest, target: Target) -> WireRequest:
    """Returns the request for `POST /v1/embeddings`. Raises `UnsupportedRequest`."""
    source = request.source
    if source is not None and source.format == OPENAI_EMBEDDINGS:
        body = dict(source.body)
    else:
        fields = {
            "input": request.inputs,
            "dimensions": request.dimensions,
            "encoding_format": request.encoding_format,
            "user": request.user,
        }
        body = {name: value for name, value in fields.items() if value is not None}
    body.update(request.extra)
    body["model"] = target.model.model_id
    ignored = _fit(body, request, target)
    try:
        encoded = encode(body)
    except ValueError as error:
        raise UnsupportedRequest("The request cannot be encoded as JSON.") from error
    return WireRequest("/embeddings", encoded, HEADERS, ignored=bounded_names(ignored))


def _fit(body: dict[str, Any], request: EmbeddingRequest, target: Target) -> list[str]:
    """Renames and removes fields to suit the vendor. Returns the names of removed fields."""
    quirks = target.provider.quirks
    for name, theirs in quirks.embedding_names:
        value = body.pop(name, None)
        if value is not None:
            body.setdefault(theirs, value)
    known = quirks.embedding_fields
    if known is None:
        return []
    refused = [name for name in body if name not in known and name not in request.extra]
    return [name for name in refused if has_value(body.pop(name))]
