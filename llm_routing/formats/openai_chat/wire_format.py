"""OpenAI Chat Completions, both faces: what most vendors and most clients speak.

What the words of the format mean is in the modules named after it; here they are one `WireFormat`.
"""

from collections.abc import Mapping
from typing import Any

from llm_routing.core.errors import LLMError, UpstreamError
from llm_routing.core.ports import StreamParser, WireRequest
from llm_routing.core.routing_table import Target
from llm_routing.core.types import Completion, LLMRequest, LLMResponse
from llm_routing.formats.base import NO_HEAD, AnswerHead, StreamRenderer

from . import errors as openai_errors
from . import read_request as openai_chat_request
from . import response as openai_chat_answer
from . import write_request as openai_chat_build
from .read_request import NAME
from .read_stream import OpenAIStreamParser
from .write_stream import OpenAIStreamRenderer


class OpenAIChat:
    """See `WireFormat`. `created` is the moment of the answer in Unix seconds, for answers that
    are not a vendor's own bytes."""

    name = NAME

    def parse_request(self, body: Any) -> LLMRequest:
        """See `CallerFormat.parse_request`."""
        return openai_chat_request.parse_request(body)

    def render_response(self, response: LLMResponse, *, created: int = 0) -> bytes:
        """See `CallerFormat.render_response`."""
        return openai_chat_answer.render_response(response, created)

    def stream_renderer(self, request: LLMRequest, *, created: int = 0) -> StreamRenderer:
        """See `CallerFormat.stream_renderer`."""
        return OpenAIStreamRenderer(request, created)

    def render_error(self, error: LLMError, request_id: str) -> bytes:
        """See `CallerFormat.render_error`."""
        return openai_errors.render_error(error, request_id)

    def build_request(self, request: LLMRequest, target: Target) -> WireRequest:
        """See `VendorFormat.build_request`."""
        return openai_chat_build.build_request(request, target)

    def parse_response(self, body: bytes, head: AnswerHead = NO_HEAD) -> Completion:
        """See `VendorFormat.parse_response`."""
        return openai_chat_answer.parse_response(body, head)

    def stream_parser(self, head: AnswerHead = NO_HEAD) -> StreamParser:
        """See `VendorFormat.stream_parser`."""
        return OpenAIStreamParser(head)

    def map_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """See `VendorFormat.map_error`."""
        return openai_errors.map_error(status, headers, body)
