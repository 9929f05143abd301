"""Reads embeddings from vendors and writes them for callers.

Source: https://platform.openai.com/docs/api-reference/embeddings/object
"""

import struct
from base64 import b64decode, b64encode
from decimal import Decimal
from typing import Any

from llm_routing.core.codec import encode
from llm_routing.core.embeddings import EmbeddingRequest, EmbeddingResponse, Embeddings
from llm_routing.core.errors import MalformedAnswer
from llm_routing.core.json_size import EMBEDDING_LIMITS
from llm_routing.core.types import Usage
from llm_routing.formats.lenient import objects_of, text_of
from llm_routing.formats.names import OPENAI_EMBEDDINGS
from llm_routing.formats.openai_chat.response import decode_answer
from llm_routing.formats.openai_chat.usage import has_token_counts, read_vendor_cost
from llm_routing.formats.usage import counts_in, repair_usage


def read_embeddings(body: bytes) -> Embeddings:
    """Returns the vectors of a 2xx body, in the order of the inputs. Raises `UpstreamError`."""
    answer = decode_answer(body, EMBEDDING_LIMITS)
    vendor_cost = read_vendor_cost(answer.get("usage"), body)
    if repair_usage(answer):
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
        usage=_read_usage(answer.get("usage"), vendor_cost),
        format=OPENAI_EMBEDDINGS,
        raw=body,
    )


def write_embeddings(response: EmbeddingResponse, request: EmbeddingRequest) -> bytes:
    """Returns the caller's body: the vendor's own bytes if they are in this format."""
    embeddings = response.embeddings
    if embeddings.format == OPENAI_EMBEDDINGS and embeddings.raw:
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


def _read_usage(usage: Any, vendor_cost: Decimal | None) -> Usage | None:
    """Returns the usage, None if the vendor reports none. All tokens of an embedding are input;
    some vendors report only the total."""
    if not has_token_counts(usage):
        return None
    counts = counts_in(usage)
    tokens = counts.get("prompt_tokens") or counts.get("total_tokens", 0)
    return Usage(input_tokens=tokens, vendor_cost=vendor_cost)


def _read_vector(embedding: Any) -> tuple[float, ...]:
    if isinstance(embedding, str):
        return _from_base64(embedding)
    if not isinstance(embedding, list) or not embedding:
        raise MalformedAnswer("An embedding in the provider's answer is neither a list nor base64.")
    try:
        return tuple(map(float, embedding))
    except (TypeError, ValueError, OverflowError) as error:
        raise MalformedAnswer("An embedding in the provider's answer is not numeric.") from error


def _from_base64(text: str) -> tuple[float, ...]:
    """Decodes little-endian 32-bit floats."""
    try:
        data = b64decode(text, validate=True)
        return struct.unpack(f"<{len(data) // 4}f", data)
    except (ValueError, struct.error) as error:
        raise MalformedAnswer("An embedding in the provider's answer is not base64.") from error


def _to_base64(vector: tuple[float, ...]) -> str:
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
