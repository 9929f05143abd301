"""Anthropic Messages (anthropic-version 2023-06-01), both faces.

What the words of the format mean is in the modules named after it; here they are one `WireFormat`.
"""

from collections.abc import Mapping
from typing import Any

from llm_routing.core.errors import LLMError, UpstreamError
from llm_routing.core.ports import WireRequest
from llm_routing.core.types import Completion, LLMRequest, LLMResponse
from llm_routing.formats.base import NO_HEAD, AnswerHead, StreamParser, StreamRenderer, Target

from . import errors as anthropic_errors
from . import read_request as anthropic_request
from . import response as anthropic_answer
from . import write_request as anthropic_build
from .blocks import NAME
from .read_stream import AnthropicStreamParser
from .write_stream import AnthropicStreamRenderer


class AnthropicMessages:
    """See `WireFormat`; with `count_tokens` besides."""

    name = NAME

    def parse_request(self, body: Any) -> LLMRequest:
        """See `CallerFormat.parse_request`."""
        return anthropic_request.parse_request(body)

    def render_response(self, response: LLMResponse) -> bytes:
        """See `CallerFormat.render_response`."""
        return anthropic_answer.render_response(response)

    def stream_renderer(self, request: LLMRequest) -> StreamRenderer:
        """See `CallerFormat.stream_renderer`."""
        return AnthropicStreamRenderer(request)

    def render_error(self, error: LLMError, request_id: str) -> bytes:
        """See `CallerFormat.render_error`."""
        return anthropic_errors.render_error(error, request_id)

    def build_request(self, request: LLMRequest, target: Target) -> WireRequest:
        """See `VendorFormat.build_request`."""
        return anthropic_build.build_request(request, target)

    def parse_response(self, body: bytes, head: AnswerHead = NO_HEAD) -> Completion:
        """See `VendorFormat.parse_response`."""
        return anthropic_answer.parse_response(body, head)

    def stream_parser(self, head: AnswerHead = NO_HEAD) -> StreamParser:
        """See `VendorFormat.stream_parser`."""
        return AnthropicStreamParser(head)

    def map_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """See `VendorFormat.map_error`."""
        return anthropic_errors.map_error(status, headers, body)

    def parse_count_tokens_request(self, body: Any) -> LLMRequest:
        """The canonical request of a decoded body of `POST /v1/messages/count_tokens`. Raises
        `InvalidRequest`."""
        return anthropic_request.parse_count_tokens_request(body)

    def build_count_tokens_request(self, request: LLMRequest, target: Target) -> WireRequest:
        """The request that counts the tokens of `request`. Raises `UnsupportedRequest`."""
        return anthropic_build.build_count_tokens_request(request, target)

    def parse_count_tokens(self, body: bytes) -> int:
        """The tokens in a 2xx body. Raises `MalformedAnswer`, or the error inside it."""
        return anthropic_answer.parse_count_tokens(body)

    def render_count_tokens(self, count: int) -> bytes:
        """The body for the caller who asked for a count."""
        return anthropic_answer.render_count_tokens(count)
