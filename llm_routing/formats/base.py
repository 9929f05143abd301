"""The contract of a wire format.

Canonical types stand between the two faces, so every format that callers speak works over every
vendor. Where both ends speak the same format, the body is passed on and the bytes relayed.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from msgspec import Struct

from llm_routing.core.errors import LLMError, UpstreamError
from llm_routing.core.events import Frame
from llm_routing.core.ports import StreamParser, WireRequest
from llm_routing.core.routing_table import Target
from llm_routing.core.types import (
    Completion,
    EmbeddingRequest,
    EmbeddingResponse,
    Embeddings,
    LLMRequest,
    LLMResponse,
)


class AnswerDefaults(Struct, frozen=True):
    """What an answer is called where its vendor does not say; `created` is in Unix seconds."""

    id: str = ""
    created: int = 0
    model: str = ""


NO_DEFAULTS: Final = AnswerDefaults()


class StreamRenderer(Protocol):
    """Turns frames into what the caller reads. One for each answer."""

    @property
    def keep_alive(self) -> bytes:
        """What says nothing and may stand between any two frames, and before the first."""

    def render(self, frame: Frame) -> bytes:
        """The caller's bytes for a frame, possibly none: `frame.raw` where the frame is in the
        caller's format, else its events rendered."""

    def end(self) -> bytes:
        """What is still missing at the end of a complete answer (`[DONE]`, a usage chunk)."""

    def error(self, error: LLMError, request_id: str) -> bytes:
        """An error inside the stream, in the caller's format; nothing follows it."""


class CallerFormat(Protocol):
    """The face toward callers."""

    name: str

    def read_request(self, body: Any) -> LLMRequest:
        """The canonical request of a decoded body, with the body as its `source`. Raises
        `InvalidRequest` naming the field. Never mutates `body`."""

    def write_response(self, response: LLMResponse) -> bytes:
        """The body for the caller: `completion.raw` where it is in this format, else rebuilt."""

    def stream_renderer(self, request: LLMRequest) -> StreamRenderer:
        """A renderer for the answer to `request`."""

    def write_error(self, error: LLMError, request_id: str) -> bytes:
        """The error's body, in this format's envelope."""


class VendorFormat(Protocol):
    """The face toward vendors."""

    name: str

    def write_request(self, request: LLMRequest, target: Target) -> WireRequest:
        """The request in the vendor's words; `request.stream` says whether to stream.

        Starts from `request.source` where it is in this format (only the model, what routes add
        and what quirks demand is changed), else from the canonical fields. What the format has no
        word for and can be done without is left out and named in `WireRequest.ignored`; what
        cannot be done without raises `UnsupportedRequest`.
        """

    def read_response(self, body: bytes, defaults: AnswerDefaults = NO_DEFAULTS) -> Completion:
        """Returns the completion of a 2xx body. Required fields that the vendor left out are added
        to `Completion.raw`, from `defaults` if they cannot be derived. Raises `MalformedAnswer` if
        the body cannot be read, and the error of `map_error` for an error inside a 200."""

    def stream_parser(self, defaults: AnswerDefaults = NO_DEFAULTS) -> StreamParser:
        """A parser for one streamed answer; `defaults` as in `read_response`."""

    def map_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """The failure that a non-2xx answer means. `headers` has lower-case names. The message
        holds the vendor's own reason (bounded, without anything that looks like a key)."""


class EmbeddingFormat(Protocol):
    """Both faces of embeddings, where a format has them."""

    name: str

    def read_embedding_request(self, body: Any) -> EmbeddingRequest:
        """As `CallerFormat.read_request`."""

    def write_embeddings(self, response: EmbeddingResponse, request: EmbeddingRequest) -> bytes:
        """As `CallerFormat.write_response`."""

    def write_embedding_request(self, request: EmbeddingRequest, target: Target) -> WireRequest:
        """As `VendorFormat.write_request`."""

    def read_embeddings(self, body: bytes) -> Embeddings:
        """As `VendorFormat.read_response`."""


class WireFormat(CallerFormat, VendorFormat, Protocol):
    """A wire format with both faces."""


__all__ = [
    "NO_DEFAULTS",
    "AnswerDefaults",
    "CallerFormat",
    "EmbeddingFormat",
    "StreamParser",
    "StreamRenderer",
    "Target",
    "VendorFormat",
    "WireFormat",
]
