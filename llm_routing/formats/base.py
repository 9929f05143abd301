"""The contract of a wire format.

Canonical types stand between the two faces of a format, so every format that callers speak works
over every vendor. Between equal formats the body is passed on and the bytes are relayed.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from msgspec import Struct

from llm_routing.core.embeddings import EmbeddingRequest, EmbeddingResponse, Embeddings
from llm_routing.core.errors import AnswerTooLarge, LLMError, UpstreamError
from llm_routing.core.events import Frame
from llm_routing.core.ports import StreamParser, WireRequest
from llm_routing.core.routing_table import Target
from llm_routing.core.types import Completion, LLMRequest, LLMResponse


class AnswerDefaults(Struct, frozen=True):
    """Values for fields that a vendor left out of an answer. `created` is in Unix seconds."""

    id: str = ""
    created: int = 0
    model: str = ""


NO_DEFAULTS: Final = AnswerDefaults()


class StreamRenderer(Protocol):
    """Turns the frames of one answer into the caller's bytes."""

    @property
    def keep_alive(self) -> bytes:
        """Bytes without content, valid between any two frames and before the first."""

    def render(self, frame: Frame) -> bytes:
        """Returns the caller's bytes for a frame, possibly none: `frame.raw` if the frame is in the
        caller's format, else its events rendered."""

    def end(self) -> bytes:
        """Returns what a complete answer still needs at its end (`[DONE]`, a usage chunk)."""

    def error(self, error: LLMError, request_id: str) -> bytes:
        """Returns an error event in the caller's format. Nothing may follow it."""


MAX_ANSWER_PARTS: Final = 10_000
"""The most tool calls, content blocks or choices that an answer may have."""


def check_count(what: str, count: int, limit: int) -> None:
    """Raises `AnswerTooLarge` if an answer has more than `limit` of something."""
    if count > limit:
        raise AnswerTooLarge(f"The answer has more than {limit} {what}.")


class CallerFormat(Protocol):
    """The face of a format toward callers."""

    name: str

    def read_request(self, body: Any) -> LLMRequest:
        """Returns the canonical request of a decoded body, with the body as its `source`. Raises
        `InvalidRequest`, which names the field. Does not change `body`."""

    def write_response(self, response: LLMResponse) -> bytes:
        """Returns the caller's body: `completion.raw` if it is in this format, else a new one."""

    def stream_renderer(self, request: LLMRequest) -> StreamRenderer:
        """Returns a renderer for the answer to `request`."""

    def write_error(self, error: LLMError, request_id: str) -> bytes:
        """Returns the body of an error in this format's envelope."""


class VendorFormat(Protocol):
    """The face of a format toward vendors."""

    name: str

    def write_request(self, request: LLMRequest, target: Target) -> WireRequest:
        """Returns the request in the vendor's format, streaming if `request.stream`.

        If `request.source` is in this format, its body is sent with only the model, the route's
        settings and the vendor's quirks applied; otherwise the body is written from the canonical
        fields. Fields that the target lacks are left out and named in `WireRequest.ignored`. Raises
        `UnsupportedRequest` if the target lacks something essential.
        """

    def read_response(self, body: bytes, defaults: AnswerDefaults = NO_DEFAULTS) -> Completion:
        """Returns the completion of a 2xx body. Required fields that the vendor left out are added
        to `Completion.raw`, from `defaults` if they cannot be derived. Raises `MalformedAnswer` if
        the body cannot be read, and the error of `map_error` for an error inside a 200."""

    def stream_parser(self, defaults: AnswerDefaults = NO_DEFAULTS) -> StreamParser:
        """Returns a parser for one streamed answer; `defaults` as in `read_response`."""

    def map_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """Returns the failure that a non-2xx answer means. `headers` has lower-case names. The
        message holds the vendor's own reason, bounded and without anything that looks like a
        key."""


class EmbeddingFormat(Protocol):
    """Both faces of an embedding format."""

    name: str

    def read_embedding_request(self, body: Any) -> EmbeddingRequest:
        """See `CallerFormat.read_request`."""

    def write_embeddings(self, response: EmbeddingResponse, request: EmbeddingRequest) -> bytes:
        """See `CallerFormat.write_response`."""

    def write_embedding_request(self, request: EmbeddingRequest, target: Target) -> WireRequest:
        """See `VendorFormat.write_request`."""

    def read_embeddings(self, body: bytes) -> Embeddings:
        """See `VendorFormat.read_response`."""


class WireFormat(CallerFormat, VendorFormat, Protocol):
    """A wire format with both faces."""


__all__ = [
    "MAX_ANSWER_PARTS",
    "NO_DEFAULTS",
    "AnswerDefaults",
    "CallerFormat",
    "EmbeddingFormat",
    "StreamParser",
    "StreamRenderer",
    "Target",
    "VendorFormat",
    "WireFormat",
    "check_count",
]
