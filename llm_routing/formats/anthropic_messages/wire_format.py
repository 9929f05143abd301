"""Anthropic Messages (anthropic-version 2023-06-01), both faces, as one `WireFormat`."""

from collections.abc import Mapping
from typing import Any

from llm_routing.core.errors import LLMError, UpstreamError
from llm_routing.core.ports import StreamParser, WireRequest
from llm_routing.core.routing_table import Target
from llm_routing.core.types import Completion, LLMRequest, LLMResponse
from llm_routing.formats.base import NO_DEFAULTS, AnswerDefaults, StreamRenderer
from llm_routing.formats.names import ANTHROPIC_MESSAGES

from .errors import map_error, write_error
from .read_request import read_count_tokens_request, read_request
from .read_stream import AnthropicStreamParser
from .response import read_count_tokens, read_response, write_count_tokens, write_response
from .write_request import write_count_tokens_request, write_request
from .write_stream import AnthropicStreamRenderer


class AnthropicMessages:
    """See `WireFormat`. It also has `count_tokens`."""

    name = ANTHROPIC_MESSAGES

    def read_request(self, body: Any) -> LLMRequest:
        """See `CallerFormat.read_request`."""
        return read_request(body)

    def write_response(self, response: LLMResponse) -> bytes:
        """See `CallerFormat.write_response`."""
        return write_response(response)

    def stream_renderer(self, request: LLMRequest) -> StreamRenderer:
        """See `CallerFormat.stream_renderer`."""
        return AnthropicStreamRenderer(request)

    def write_error(self, error: LLMError, request_id: str) -> bytes:
        """See `CallerFormat.write_error`."""
        return write_error(error, request_id)

    def write_request(self, request: LLMRequest, target: Target) -> WireRequest:
        """See `VendorFormat.write_request`."""
        return write_request(request, target)

    def read_response(self, body: bytes, defaults: AnswerDefaults = NO_DEFAULTS) -> Completion:
        """See `VendorFormat.read_response`."""
        return read_response(body, defaults)

    def stream_parser(self, defaults: AnswerDefaults = NO_DEFAULTS) -> StreamParser:
        """See `VendorFormat.stream_parser`."""
        return AnthropicStreamParser(defaults)

    def map_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """See `VendorFormat.map_error`."""
        return map_error(status, headers, body)

    def read_count_tokens_request(self, body: Any) -> LLMRequest:
        """Returns the canonical request of a decoded body of `POST /v1/messages/count_tokens`.
        Raises `InvalidRequest`."""
        return read_count_tokens_request(body)

    def write_count_tokens_request(self, request: LLMRequest, target: Target) -> WireRequest:
        """Returns the request that counts the tokens of `request`. Raises
        `UnsupportedRequest`."""
        return write_count_tokens_request(request, target)

    def read_count_tokens(self, body: bytes) -> int:
        """Returns the count in a 2xx body. Raises `UpstreamError`."""
        return read_count_tokens(body)

    def write_count_tokens(self, count: int) -> bytes:
        """Returns the caller's body for a count."""
        return write_count_tokens(count)
