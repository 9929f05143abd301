"""Reads OpenAI's embedding requests and writes the responses.

https://platform.openai.com/docs/api-reference/embeddings/create
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import fields
from .answers import pieces
from .embeddings import DEFAULT_DIMENSIONS, embed, pack
from .faults import Faults, extract
from .fields import BadRequest
from .reply import EXTRA_FIELDS, Whole, dump

_MAX_INPUTS = 2048


@dataclass(frozen=True, slots=True)
class EmbeddingQuestion:
    """Texts to embed. Token ids are embedded as the text of their numbers."""

    model: str
    texts: tuple[str, ...]
    dimensions: int
    in_base64: bool
    prompt_tokens: int
    directives: tuple[str, ...]


def read_embeddings(body: Mapping[str, Any], model: str) -> EmbeddingQuestion:
    """Returns the question in a body of `POST /v1/embeddings`. Raises `BadRequest`."""
    encoding = fields.text(body, "encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise BadRequest("Invalid 'encoding_format': 'float' or 'base64'.", "encoding_format")
    dimensions = fields.integer(body, "dimensions", 1, 4096)
    texts: list[str] = []
    directives: list[str] = []
    tokens = 0
    for item in _inputs(body.get("input")):
        if isinstance(item, str):
            text, found = extract(item)
            directives = found or directives
            tokens += len(pieces(text))
        else:
            text = " ".join(str(token) for token in item)
            tokens += len(item)
        texts.append(text)
    return EmbeddingQuestion(
        model=model,
        texts=tuple(texts),
        dimensions=dimensions or DEFAULT_DIMENSIONS,
        in_base64=encoding == "base64",
        prompt_tokens=tokens,
        directives=tuple(directives),
    )


def _inputs(given: Any) -> Sequence[str | Sequence[int]]:
    if isinstance(given, str):
        given = [given]
    inputs = fields.sequence(given, "input")
    if inputs and all(_is_token(item) for item in inputs):
        inputs = [inputs]
    if not 0 < len(inputs) <= _MAX_INPUTS:
        raise BadRequest(f"Invalid 'input': expected 1 to {_MAX_INPUTS} inputs.", "input")
    for item in inputs:
        tokens = isinstance(item, list) and all(_is_token(token) for token in item)
        if not item or not (isinstance(item, str) or tokens):
            raise BadRequest("Invalid 'input': expected text or token ids, not empty.", "input")
    return inputs


def _is_token(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


def write_embeddings(asked: EmbeddingQuestion, faults: Faults) -> Whole:
    """Returns one vector per input, in order."""
    data: list[dict[str, Any]] = []
    for index, text in enumerate(() if faults.empty_choices else asked.texts):
        vector = embed(text, asked.dimensions)
        encoded = base64.b64encode(pack(vector)).decode() if asked.in_base64 else list(vector)
        data.append({"object": "embedding", "index": index, "embedding": encoded})
    body: dict[str, Any] = {"object": "list", "data": data, "model": asked.model}
    if not faults.no_usage:
        tokens = asked.prompt_tokens
        body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Whole(dump({**body, **(EXTRA_FIELDS if faults.extra_fields else {})}))
