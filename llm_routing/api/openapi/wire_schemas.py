"""The bodies of OpenAI's and Anthropic's endpoints, for the documentation only.

The formats read and write them; unlisted fields pass through. Sources:
https://platform.openai.com/docs/api-reference and https://platform.claude.com/docs/en/api.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_ADDRESS = "use_case, use_case:tier, provider/model_id or an alias."


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class ChatMessage(_Open):
    """A message; `content` is a string or an array of parts."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Sequence[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: Sequence[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class StreamOptions(_Open):
    """`include_usage` requests a last chunk with the usage."""

    include_usage: bool = False


class ChatCompletionRequest(_Open):
    """The body of `POST /v1/chat/completions`."""

    model: str = Field(description=_ADDRESS, examples=["chat_conversation:standard"])
    messages: Sequence[ChatMessage] = Field(
        min_length=1, examples=[[{"role": "user", "content": "Hi"}]]
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: int | None = Field(None, ge=1, le=128)
    stop: str | Sequence[str] | None = None
    seed: int | None = None
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0)
    tools: Sequence[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None


class ChatUsage(_Open):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatChoice(_Open):
    """One alternative answer."""

    index: int
    message: ChatMessage
    finish_reason: str | None


class ChatCompletion(_Open):
    """The answer; fields that the vendor added are included."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: Sequence[ChatChoice]
    usage: ChatUsage | None = None


class EmbeddingsRequest(_Open):
    """The body of `POST /v1/embeddings`."""

    model: str = Field(description=_ADDRESS)
    input: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]
    dimensions: int | None = Field(None, ge=1)
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


class Embedding(_Open):
    """A vector: numbers, or base64 of little-endian floats of four bytes."""

    object: Literal["embedding"]
    index: int
    embedding: Sequence[float] | str


class EmbeddingList(_Open):
    """One vector per input, in the order of the inputs."""

    object: Literal["list"]
    data: Sequence[Embedding]
    model: str
    usage: dict[str, Any]


class Model(BaseModel):
    """An address; `created` is always 0."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """Every address."""

    object: Literal["list"]
    data: Sequence[Model]


class AnthropicModel(BaseModel):
    """An address, in Anthropic's shape; `created_at` is always 1970."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active"]


class AnthropicModelList(BaseModel):
    """A page of addresses, in Anthropic's shape."""

    data: Sequence[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None


class OpenAIErrorDetails(_Open):
    """`attempts` lists the failed attempts, each with target and code."""

    message: str
    type: str
    param: str | None
    code: str | None
    attempts: Sequence[dict[str, Any]] | None = None


class OpenAIError(BaseModel):
    """OpenAI's envelope."""

    error: OpenAIErrorDetails


class MessageParam(_Open):
    """A turn; `content` is a string or an array of blocks."""

    role: Literal["user", "assistant", "system"]
    content: str | Sequence[dict[str, Any]]


class CountTokensRequest(_Open):
    """The body of `POST /v1/messages/count_tokens`."""

    model: str = Field(description=_ADDRESS, examples=["chat_conversation:standard"])
    messages: Sequence[MessageParam] = Field(
        min_length=1, examples=[[{"role": "user", "content": "Hi"}]]
    )
    system: str | Sequence[dict[str, Any]] | None = None
    tools: Sequence[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None


class MessagesRequest(CountTokensRequest):
    """The body of `POST /v1/messages`."""

    max_tokens: int = Field(ge=0)
    stream: bool | None = None
    temperature: float | None = Field(None, ge=0, le=1)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0)
    stop_sequences: Sequence[str] | None = None
    output_config: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


class AnthropicMessage(_Open):
    """The answer; fields that the vendor added are included."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: Sequence[dict[str, Any]]
    stop_reason: str | None
    stop_sequence: str | None
    usage: dict[str, Any]


class TokenCount(BaseModel):
    """Tokens of a prompt."""

    input_tokens: int


class AnthropicErrorDetails(_Open):
    """`details.attempts` lists the failed attempts, each with target and code."""

    type: str
    message: str
    details: dict[str, Any] | None = None


class AnthropicError(BaseModel):
    """Anthropic's envelope."""

    type: Literal["error"]
    error: AnthropicErrorDetails
    request_id: str


BODIES = (ChatCompletionRequest, EmbeddingsRequest, MessagesRequest, CountTokensRequest)
