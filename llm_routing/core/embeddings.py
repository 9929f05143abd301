"""Requests for embeddings and their responses."""

from collections.abc import Mapping
from typing import Any, ClassVar

from msgspec import Struct, field

from .hidden_fields import HidesFields
from .types import Idempotency, RoutingFacts, Source, Usage


class EmbeddingRequest(HidesFields, frozen=True):
    """A request to embed texts (or lists of token ids); the other fields are as in `LLMRequest`."""

    hidden_fields: ClassVar = frozenset({"source"})

    inputs: tuple[str | tuple[int, ...], ...]
    model: str | None = None
    use_case: str | None = None
    tier: str | None = None
    dimensions: int | None = None
    encoding_format: str | None = None
    user: str | None = None
    idempotency: Idempotency | None = None
    timeout: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    source: Source | None = None


class Embeddings(HidesFields, frozen=True):
    """The response to an embedding request: one vector for each input, in order."""

    hidden_fields: ClassVar = frozenset({"raw"})

    model: str
    vectors: tuple[tuple[float, ...], ...]
    usage: Usage | None
    format: str = ""
    raw: bytes = b""


class EmbeddingResponse(Struct, frozen=True):
    """The vectors and how they were obtained."""

    embeddings: Embeddings
    routing: RoutingFacts

    @property
    def vectors(self) -> tuple[tuple[float, ...], ...]:
        """One vector per input."""
        return self.embeddings.vectors

    @property
    def usage(self) -> Usage:
        """The tokens; zero if unknown."""
        return self.embeddings.usage or Usage()
