"""OpenAI Chat Completions, both faces, as one `WireFormat`.

Most vendors and most clients speak this format.
"""

from collections.abc import Mapping

from llm_routing.core.errors import LLMError, UpstreamError
from llm_routing.core.ports import StreamParser
from llm_routing.core.types import LLMRequest
from llm_routing.formats.base import NO_DEFAULTS, AnswerDefaults, StreamRenderer
from llm_routing.formats.names import OPENAI_CHAT

from .errors import map_error, write_error
from .read_request import read_request
from .read_stream import OpenAIStreamParser
from .response import read_response, write_response
from .write_request import write_request
from .write_stream import OpenAIStreamRenderer


class OpenAIChat:
    """See `WireFormat`. `created` is the time of the answer in Unix seconds; it is written into
    answers that are not a vendor's own bytes."""

    name = OPENAI_CHAT

    # Functions instead of methods that call them: every request passes through all of them.
    read_request = staticmethod(read_request)
    write_response = staticmethod(write_response)
    write_request = staticmethod(write_request)
    read_response = staticmethod(read_response)

    def stream_renderer(self, request: LLMRequest, *, created: int = 0) -> StreamRenderer:
        """See `CallerFormat.stream_renderer`."""
        return OpenAIStreamRenderer(request, created)

    def write_error(self, error: LLMError, request_id: str) -> bytes:
        """See `CallerFormat.write_error`."""
        return write_error(error, request_id)

    def stream_parser(self, defaults: AnswerDefaults = NO_DEFAULTS) -> StreamParser:
        """See `VendorFormat.stream_parser`."""
        return OpenAIStreamParser(defaults)

    def map_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """See `VendorFormat.map_error`."""
        return map_error(status, headers, body)
