"""The operations that the executor can run, built from the wire formats.

Each class implements `core.ports.Operation` for one kind of request; the target's format does the
work.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property, partial

from msgspec.structs import replace

from llm_routing.core.capabilities import Capability
from llm_routing.core.content import (
    AnswerFormat,
    Message,
    Role,
    TextPart,
)
from llm_routing.core.embeddings import EmbeddingRequest, Embeddings
from llm_routing.core.errors import (
    EndpointNotFound,
    ModelNotFound,
    UnsupportedRequest,
    UpstreamError,
)
from llm_routing.core.ports import StreamParser, WireRequest
from llm_routing.core.pricing import estimate_tokens
from llm_routing.core.routing_table import Target
from llm_routing.core.threads import ThreadIds
from llm_routing.core.types import Completion, LLMRequest, Source, Usage
from llm_routing.core.vendor_details import SentRequest

from .anthropic_messages.threads import IdSealingParser, with_sealed_id
from .anthropic_messages.wire_format import AnthropicMessages
from .base import AnswerDefaults, EmbeddingFormat
from .error_attribution import review
from .prompt_length import content_length, prompt_length, tools_length
from .registry import EMBEDDING_FORMATS, FORMATS
from .tool_names import ToolRenamingParser, renamed_tools, with_caller_tool_names

_NO_SUCH_ENDPOINT = (404, 405, 501)

MAX_KEPT_BYTES = 1024 * 1024
"""A larger request is written again for each attempt instead of being kept."""


class _FormatOperation(ABC):
    """Base class of operations, which delegate to the target's format."""

    name: str
    proves_health = True
    _answer_id = ""
    _created = 0

    @abstractmethod
    def build(self, target: Target) -> WireRequest:
        """Returns the request in the target's format."""

    @property
    @abstractmethod
    def _source(self) -> Source | None:
        """The body that the caller sent."""

    def stream_parser(self, target: Target) -> StreamParser:
        """Returns a parser for one streamed answer."""
        return FORMATS[target.provider.format].stream_parser(self._defaults(target))

    def _defaults(self, target: Target) -> AnswerDefaults:
        return AnswerDefaults(self._answer_id, self._created, target.model.model_id)

    def map_error(
        self, target: Target, status: int, headers: Mapping[str, str], body: bytes
    ) -> UpstreamError:
        """Returns the failure that a non-2xx answer means."""
        return FORMATS[target.provider.format].map_error(status, headers, body)

    def review(self, target: Target, error: UpstreamError) -> None:
        """See `core.ports.Operation.review`."""
        if error.details is None:
            return
        wire, source = self.build(target), self._source
        is_relayed = source is not None and source.format == target.provider.format
        asked = source.body if source is not None else {}
        review(error, SentRequest(target.model.model_id, wire.body, is_relayed, asked))
        is_offered = self.name in target.model.capabilities
        if isinstance(error, ModelNotFound) and not (is_offered or self.name == Capability.CHAT):
            # A model without listed capabilities is assumed to have all of them. That it lacks this
            # one says nothing about the others.
            error.counts_against_breaker = False


class ChatOperation(_FormatOperation):
    """A completion, streamed or complete as the request says.

    `answer_id` and `created` (Unix seconds) fill in what vendors leave out. `thread_ids` seals the
    ids of answers in a thread.
    """

    name = Capability.CHAT.value
    is_billed = True

    def __init__(
        self,
        request: LLMRequest,
        answer_id: str = "",
        created: int = 0,
        thread_ids: ThreadIds | None = None,
    ) -> None:
        self._request = request
        self._thread_ids = thread_ids if request.thread is not None else None
        self._answer_id = answer_id
        self._created = created
        self._built: dict[int, tuple[Target, WireRequest]] = {}

    @property
    def _source(self) -> Source | None:
        return self._request.source

    @property
    def input_length(self) -> int:
        """Characters of the prompt."""
        return prompt_length(self._request)

    def build(self, target: Target) -> WireRequest:
        """Returns the request in the target's format. It is written once and kept for retries."""
        # By identity, which is cheap; keeping the target prevents the id from being reused.
        built = self._built.get(id(target))
        if built is not None:
            return built[1]
        wire = FORMATS[target.provider.format].write_request(self._request, target)
        if len(wire.body) <= MAX_KEPT_BYTES:
            self._built[id(target)] = (target, wire)
        return wire

    def continued(self, text: str) -> "ChatOperation | None":
        """Returns a request that continues the answer `text`.

        Returns None if the answer is more than one plain text, for example if it must match a
        schema.
        """
        request = self._request
        is_text = request.response_format is None or (
            request.response_format.kind is AnswerFormat.TEXT
        )
        if not is_text or request.n > 1 or request.logprobs or request.thread is not None:
            return None
        limit = request.max_tokens
        if limit is not None:
            limit = max(1, limit - estimate_tokens(len(text)))
        begun = Message(Role.ASSISTANT, (TextPart(text),))
        return ChatOperation(
            replace(
                request,
                messages=(*request.messages, begun),
                max_tokens=limit,
                reasoning=None,
                source=None,
                has_prefill=True,
            ),
            self._answer_id,
            self._created,
        )

    def parse(self, target: Target, body: bytes) -> Completion:
        """Returns the completion in a 2xx body."""
        completion = FORMATS[target.provider.format].read_response(body, self._defaults(target))
        if self._request.tools:
            completion = with_caller_tool_names(completion, self._renamed_tools(target))
        if self._thread_ids is None:
            return completion
        return with_sealed_id(completion, partial(self._thread_ids.sealed, target=target))

    def stream_parser(self, target: Target) -> StreamParser:
        """Returns a parser for one streamed answer."""
        parser = super().stream_parser(target)
        names = self._renamed_tools(target)
        if names:
            parser = ToolRenamingParser(parser, names)
        if self._thread_ids is not None:
            parser = IdSealingParser(parser, partial(self._thread_ids.sealed, target=target))
        return parser

    def _renamed_tools(self, target: Target) -> Mapping[str, str]:
        return renamed_tools(self._request, target.provider.quirks.max_tool_name_length)

    def usage(self, result: Completion) -> Usage | None:
        """Returns the tokens that the vendor counted."""
        return result.usage

    def with_usage(self, result: Completion, usage: Usage) -> Completion:
        """Returns the completion with the tokens that were recorded for it."""
        return replace(result, usage=usage)

    def output_length(self, result: Completion) -> int:
        """Returns the characters of the answer."""
        length = 0
        for choice in result.choices:
            length += content_length(choice.content)
        return length


class EmbeddingOperation(_FormatOperation):
    """Embeddings of texts."""

    name = Capability.EMBEDDINGS.value
    is_billed = True

    def __init__(self, request: EmbeddingRequest) -> None:
        self._request = request

    @property
    def _source(self) -> Source | None:
        return self._request.source

    @cached_property
    def input_length(self) -> int:
        """Characters to embed; a token id counts as four."""
        return sum(
            len(item) if isinstance(item, str) else 4 * len(item) for item in self._request.inputs
        )

    def build(self, target: Target) -> WireRequest:
        """Returns the request in the target's format."""
        return _embedding_format(target).write_embedding_request(self._request, target)

    def continued(self, text: str) -> None:
        """Returns None: embeddings cannot be continued."""

    def parse(self, target: Target, body: bytes) -> Embeddings:
        """Returns the vectors in a 2xx body."""
        return _embedding_format(target).read_embeddings(body)

    def usage(self, result: Embeddings) -> Usage | None:
        """Returns the tokens that the vendor counted."""
        return result.usage

    def with_usage(self, result: Embeddings, usage: Usage) -> Embeddings:
        """Returns the vectors with the tokens that were recorded for them."""
        return replace(result, usage=usage)

    def output_length(self, result: Embeddings) -> int:
        """Returns 0: vectors are not billed as output."""
        return 0


class CountTokensOperation(_FormatOperation):
    """Counts the tokens of a prompt at the vendor."""

    name = "count_tokens"
    proves_health = False
    is_billed = False
    format = AnthropicMessages.name
    """The wire format whose vendors can count tokens."""

    def __init__(self, request: LLMRequest) -> None:
        self._request = request
        self._format = AnthropicMessages()

    @property
    def _source(self) -> Source | None:
        return self._request.source

    def map_error(
        self, target: Target, status: int, headers: Mapping[str, str], body: bytes
    ) -> UpstreamError:
        """Returns the failure that a non-2xx answer means. Servers that cannot count tokens answer
        with one of several statuses."""
        error = super().map_error(target, status, headers, body)
        names_what_is_missing = error.details is not None and error.details.code
        if status in _NO_SUCH_ENDPOINT and not names_what_is_missing:
            message = f"The provider does not count tokens ({status})."
            return EndpointNotFound(message, status=status)
        return error

    @cached_property
    def input_length(self) -> int:
        """Characters of the prompt, including its tools."""
        return prompt_length(self._request) + tools_length(self._request)

    def build(self, target: Target) -> WireRequest:
        """Returns the request in the target's format."""
        return self._format.write_count_tokens_request(self._request, target)

    def continued(self, text: str) -> None:
        """Returns None: a count cannot be continued."""

    def parse(self, target: Target, body: bytes) -> int:
        """Returns the count in a 2xx body."""
        return self._format.read_count_tokens(body)

    def usage(self, result: int) -> Usage | None:
        """Returns no tokens: counting is free."""
        return Usage()

    def with_usage(self, result: int, usage: Usage) -> int:
        """Returns the count itself; its usage is only recorded."""
        return result

    def output_length(self, result: int) -> int:
        """Returns 0: there is no output."""
        return 0


def _embedding_format(target: Target) -> EmbeddingFormat:
    wire_format = EMBEDDING_FORMATS.get(target.provider.format)
    if wire_format is None:
        raise UnsupportedRequest(f"The provider {target.provider.name} has no embeddings.")
    return wire_format
