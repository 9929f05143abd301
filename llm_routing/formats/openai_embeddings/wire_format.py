"""OpenAI Embeddings, both faces, as one `EmbeddingFormat`.

It is a format of its own: another endpoint with its own request and response. Errors and usage
costs are those of OpenAI Chat Completions, because the same vendors serve both.
"""

from typing import Any

from llm_routing.core.embeddings import EmbeddingRequest, EmbeddingResponse, Embeddings
from llm_routing.core.ports import WireRequest
from llm_routing.core.routing_table import Target
from llm_routing.formats.names import OPENAI_EMBEDDINGS

from .read_request import read_embedding_request
from .response import read_embeddings, write_embeddings
from .write_request import write_embedding_request


class OpenAIEmbeddings:
    """See `EmbeddingFormat`."""

    name = OPENAI_EMBEDDINGS

    def read_embedding_request(self, body: Any) -> EmbeddingRequest:
        """See `EmbeddingFormat.read_embedding_request`."""
        return read_embedding_request(body)

    def write_embeddings(self, response: EmbeddingResponse, request: EmbeddingRequest) -> bytes:
        """See `EmbeddingFormat.write_embeddings`."""
        return write_embeddings(response, request)

    def write_embedding_request(self, request: EmbeddingRequest, target: Target) -> WireRequest:
        """See `EmbeddingFormat.write_embedding_request`."""
        return write_embedding_request(request, target)

    def read_embeddings(self, body: bytes) -> Embeddings:
        """See `EmbeddingFormat.read_embeddings`."""
        return read_embeddings(body)
