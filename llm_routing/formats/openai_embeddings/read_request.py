"""Reads callers' requests of `POST /v1/embeddings` into canonical form.

Source: https://platform.openai.com/docs/api-reference/embeddings/create
"""

from typing import Any, Final

from llm_routing.core.embeddings import EmbeddingRequest
from llm_routing.core.types import Source
from llm_routing.formats.fields import Fields
from llm_routing.formats.names import OPENAI_EMBEDDINGS

_ENCODINGS: Final = ("float", "base64")


def read_embedding_request(body: Any) -> EmbeddingRequest:
    """Returns the canonical request of a decoded body. Raises `InvalidRequest`."""
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
        source=Source(OPENAI_EMBEDDINGS, fields.value),
    )


def _read_inputs(fields: Fields) -> tuple[str | tuple[int, ...], ...]:
    """Reads a text, a list of texts, a list of token ids, or a list of lists of token ids."""
    given = fields.required("input")
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, list) or not given:
        raise fields.invalid("input", "must be a string or a non-empty array")
    if all(isinstance(item, str) for item in given):
        return tuple(given)
    if _are_tokens(given):
        return (tuple(given),)
    if all(isinstance(item, list) and item and _are_tokens(item) for item in given):
        return tuple(tuple(item) for item in given)
    raise fields.invalid(
        "input", "must contain only strings, only token ids, or only arrays of token ids"
    )


def _are_tokens(items: list[Any]) -> bool:
    return all(isinstance(item, int) and not isinstance(item, bool) for item in items)
