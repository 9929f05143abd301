"""OpenAI's embeddings, both faces.

Source: https://platform.openai.com/docs/api-reference/embeddings
"""

import struct
from base64 import b64decode, b64encode
from typing import Any, Final

from llm_routing.core.codec import encode
from llm_routing.core.errors import MalformedAnswer, UnsupportedRequest
from llm_routing.core.ports import WireRequest
from llm_routing.core.routing_table import Target
from llm_routing.core.types import (
    EmbeddingRequest,
    EmbeddingResponse,
    Embeddings,
    Source,
    Usage,
)

from .asked import named, says_something
from .fields import Fields
from .openai_chat.response import decode_answer, objects_of, text_of
from .openai_chat.usage import read_embedding_usage, read_vendor_cost
from .openai_chat.write_request import HEADERS
from .usage import mend_usage

NAME: Final = "openai_embeddings"

_ENCODINGS: Final = ("float", "base64")


class OpenAIEmbeddings:
    """See `EmbeddingFormat`."""

    name = NAME

    def parse_embedding_request(self, body: Any) -> EmbeddingRequest:
        """See `EmbeddingFormat.parse_embedding_request`."""
        fields = Fields(body)
        model = fields.required_string("model")
        if not model:
            raise fields.invalid("model", "must not be empty")
        return EmbeddingRequest(
            inputs=_read_inputs(fields),
            model=model,
            dimensions=fields.integer("dimensions", 1),
            encoding_format=fields.choice("encoding_format", _ENCODINGS),
            user=fields.string("user"),
            source=Source(NAME, fields.value),
        )

    def render_embeddings(self, response: EmbeddingResponse, request: EmbeddingRequest) -> bytes:
        """See `EmbeddingFormat.render_embeddings`."""
        embeddings = response.embeddings
        if embeddings.format == NAME and embeddings.raw:
            return embeddings.raw
        usage = embeddings.usage or Usage()
        as_base64 = request.encoding_format == "base64"
        answer = {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": _to_base64(vector) if as_base64 else vector,
                }
                for index, vector in enumerate(embeddings.vectors)
            ],
            "model": embeddings.model,
            "usage": {"prompt_tokens": usage.input_tokens, "total_tokens": usage.total_tokens},
        }
        return encode(answer)

    def build_embedding_request(self, request: EmbeddingRequest, target: Target) -> WireRequest:
        """See `EmbeddingFormat.build_embedding_request`."""
        source = request.source
        if source is not None and source.format == NAME:
            body = dict(source.body)
        else:
            wanted = {
                "input": request.inputs,
                "dimensions": request.dimensions,
                "encoding_format": request.encoding_format,
                "user": request.user,
            }
            body = {name: value for name, value in wanted.items() if value is not None}
        body.update(request.extra)
        body["model"] = target.model.model_id
        ignored = _fit(body, request, target)
        try:
            encoded = encode(body)
        except ValueError as error:
            raise UnsupportedRequest("The request cannot be written as JSON.") from error
        return WireRequest("/embeddings", encoded, HEADERS, ignored=named(ignored))

    def parse_embeddings(self, body: bytes) -> Embeddings:
        """See `EmbeddingFormat.parse_embeddings`."""
        answer = decode_answer(body)
        vendor_cost = read_vendor_cost(answer.get("usage"), body)
        if mend_usage(answer):
            body = encode(answer)
        items = objects_of(answer.get("data"))
        if not items:
            raise MalformedAnswer("The provider's answer has no embeddings.")
        indices = [item.get("index") for item in items]
        if all(isinstance(index, int) for index in indices):
            items.sort(key=lambda item: item["index"])
        return Embeddings(
            model=text_of(answer.get("model")),
            vectors=tuple(_read_vector(item.get("embedding")) for item in items),
            usage=read_embedding_usage(answer.get("usage"), vendor_cost),
            format=NAME,
            raw=body,
        )


def _fit(body: dict[str, Any], request: EmbeddingRequest, target: Target) -> list[str]:
    """Renames and leaves out fields as the vendor takes them; the names of those left out."""
    quirks = target.provider.quirks
    for name, theirs in quirks.embedding_names:
        value = body.pop(name, None)
        if value is not None:
            body.setdefault(theirs, value)
    known = quirks.embedding_fields
    if known is None:
        return []
    refused = [name for name in body if name not in known and name not in request.extra]
    return [name for name in refused if says_something(body.pop(name))]


def _read_inputs(fields: Fields) -> tuple[str | tuple[int, ...], ...]:
    """A text, texts, the tokens of a text, or the tokens of texts."""
    given = fields.required("input")
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, list) or not given:
        raise fields.invalid("input", "must be a string or an array that is not empty")
    if all(isinstance(item, str) for item in given):
        return tuple(given)
    if _are_tokens(given):
        return (tuple(given),)
    if all(isinstance(item, list) and item and _are_tokens(item) for item in given):
        return tuple(tuple(item) for item in given)
    raise fields.invalid(
        "input", "must hold strings alone, token ids alone, or arrays of token ids"
    )


def _are_tokens(items: list[Any]) -> bool:
    return all(isinstance(item, int) and not isinstance(item, bool) for item in items)


def _read_vector(embedding: Any) -> tuple[float, ...]:
    if isinstance(embedding, str):
        return _from_base64(embedding)
    if not isinstance(embedding, list) or not embedding:
        raise MalformedAnswer("An embedding of the provider's answer is neither list nor base64.")
    try:
        return tuple(map(float, embedding))
    except (TypeError, ValueError) as error:
        raise MalformedAnswer("An embedding of the provider's answer is no numbers.") from error


def _from_base64(text: str) -> tuple[float, ...]:
    """Little-endian floats of 32 bits."""
    try:
        data = b64decode(text, validate=True)
        return struct.unpack(f"<{len(data) // 4}f", data)
    except (ValueError, struct.error) as error:
        raise MalformedAnswer("An embedding of the provider's answer is no base64.") from error


def _to_base64(vector: tuple[float, ...]) -> str:
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
