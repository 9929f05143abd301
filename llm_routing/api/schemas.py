"""Requests and responses of the native endpoints as pydantic models.

Bodies of the wire formats are read by the formats themselves; `wire_schemas` documents them.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from llm_routing.core.caching.rules import MAX_TTL
from llm_routing.core.errors import InvalidRequest
from llm_routing.core.types import LLMRequest
from llm_routing.router.arguments import build_request

_PART = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}}
_MESSAGE = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {
            "description": "A string, or parts: text, image_url and others in OpenAI's shape.",
            "oneOf": [{"type": "string"}, {"type": "array", "items": _PART}, {"type": "null"}],
        },
    },
}
_MESSAGES = {
    "oneOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "minItems": 1, "items": _MESSAGE},
    ]
}
_STOP = {
    "oneOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
        {"type": "null"},
    ]
}
_TOOL = {
    "type": "object",
    "required": ["type", "function"],
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "description": {"type": ["string", "null"]},
                "parameters": {"type": ["object", "null"], "description": "A JSON Schema."},
                "strict": {"type": ["boolean", "null"]},
            },
        },
    },
}
_TOOLS = {"oneOf": [{"type": "array", "items": _TOOL}, {"type": "null"}]}
_TOOL_CHOICE = {
    "oneOf": [
        {"enum": ["auto", "none", "required", None]},
        {
            "type": "object",
            "required": ["type", "function"],
            "properties": {
                "type": {"const": "function"},
                "function": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string"}},
                },
            },
        },
    ]
}
_RESPONSE_FORMAT = {
    "type": ["object", "null"],
    "required": ["type"],
    "properties": {
        "type": {"enum": ["text", "json_object", "json_schema"]},
        "json_schema": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string"},
                "schema": {"type": ["object", "null"], "description": "A JSON Schema."},
                "strict": {"type": ["boolean", "null"]},
            },
        },
    },
}

_Name = Annotated[str, Field(min_length=1, max_length=256)]
_MAX_LABELS = 1000


def _few_labels(value: object) -> object:
    """Raises `ValueError` for too many labels before any of them is looked at."""
    if isinstance(value, dict) and len(value) > _MAX_LABELS:
        raise ValueError(f"must have at most {_MAX_LABELS} labels")
    return value


class CompleteRequest(BaseModel):
    """A completion, addressed by use case and tier or by model."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"messages": "Why does this loop never end?", "use_case": "debugging"},
                {
                    "messages": [{"role": "user", "content": "Hi"}],
                    "model": "chat_conversation:premium",
                    "stream": True,
                },
            ]
        },
    )

    messages: Annotated[Any, WithJsonSchema(_MESSAGES)] = Field(
        description="The user's text, or messages in OpenAI's shape."
    )
    use_case: _Name | None = Field(None, description="A use case; see `GET /api/llm/routes`.")
    tier: _Name | None = Field(None, description="premium, standard or economy.")
    model: _Name | None = Field(
        None,
        description="An address instead of a use case and tier: `use_case`, `use_case:tier`, "
        "`provider/model_id` or an alias.",
    )
    system_prompt: str | None = Field(
        None,
        description="The system prompt, instead of the route's. Not allowed with a system message.",
    )
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=1)
    stop: Annotated[Any, WithJsonSchema(_STOP)] = Field(
        None, description="Stop sequences: one string or several."
    )
    seed: int | None = None
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    tools: Annotated[Any, WithJsonSchema(_TOOLS)] = Field(
        None, description="Functions the model may call, in OpenAI's shape."
    )
    tool_choice: Annotated[Any, WithJsonSchema(_TOOL_CHOICE)] = Field(
        None, description="auto, none, required, or a function, in OpenAI's shape."
    )
    parallel_tool_calls: bool | None = None
    response_format: Annotated[Any, WithJsonSchema(_RESPONSE_FORMAT)] = Field(
        None, description="text, json_object or json_schema, in OpenAI's shape."
    )
    reasoning_effort: _Name | None = Field(
        None, description="The reasoning effort of the model: none, minimal, low, medium, high."
    )
    user: str | None = Field(None, description="Your end user's ID, for abuse detection.")
    stream: bool = Field(False, description="Answer as server-sent events.")
    cache: bool | None = Field(
        None,
        description="False: neither reads nor fills the response cache. True: does both, also for "
        "tool calls. Left out: caches only deterministic requests.",
    )
    cache_ttl: int | None = Field(
        None, ge=0, le=MAX_TTL, description="Maximum age of a cached answer in seconds."
    )
    timeout: float | None = Field(
        None, gt=0, le=86_400, description="Seconds for the whole answer, including all attempts."
    )
    metadata: Annotated[dict[str, str], BeforeValidator(_few_labels)] = Field(
        default_factory=dict, description="Your own labels; not sent to vendors."
    )

    def to_request(self) -> LLMRequest:
        """Returns the canonical request. Raises `InvalidRequest` with the field's name."""
        if not self.messages or not isinstance(self.messages, str | list):
            raise InvalidRequest(
                "messages must be a text or an array of messages.", field="messages"
            )
        return build_request(
            self.messages,
            model=self.model,
            use_case=self.use_case,
            tier=self.tier,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            system_prompt=self.system_prompt,
            cache=self.cache,
            cache_ttl=self.cache_ttl,
            timeout=self.timeout,
            metadata=self.metadata,
            params={
                "top_p": self.top_p,
                "top_k": self.top_k,
                "stop": self.stop,
                "seed": self.seed,
                "frequency_penalty": self.frequency_penalty,
                "presence_penalty": self.presence_penalty,
                "tools": self.tools,
                "tool_choice": self.tool_choice,
                "parallel_tool_calls": self.parallel_tool_calls,
                "response_format": self.response_format,
                "reasoning_effort": self.reasoning_effort,
                "user": self.user,
                "stream": self.stream,
                "stream_options": {"include_usage": True} if self.stream else None,
            },
        )


class ToolCallAnswer(BaseModel):
    """A tool call of the model; `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class UsageAnswer(BaseModel):
    """Tokens. `cached_input_tokens` and `cache_write_tokens` are parts of `input_tokens`,
    `cache_write_1h_tokens` of `cache_write_tokens`, `reasoning_tokens` of `output_tokens`.
    `estimated`: the vendor did not report at least one of them."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    web_searches: int
    estimated: bool


class AttemptAnswer(BaseModel):
    """One attempt at a provider."""

    provider: str
    model: str
    outcome: Literal["success", "failure", "cancelled", "interrupted"]
    error_code: str | None
    latency_ms: float


class CompleteAnswer(BaseModel):
    """The answer and how it was obtained."""

    id: str = Field(description="The request id.")
    content: str
    tool_calls: Sequence[ToolCallAnswer]
    finish_reason: str | None = Field(
        description="stop, stop_sequence, length, tool_calls, content_filter, refusal or pause."
    )
    model: str
    provider: str
    use_case: str | None
    tier: str | None
    usage: UsageAnswer
    cost_usd: Decimal | None = Field(description="Null if unknown, because the model has no price.")
    latency_ms: float
    cache: Literal["hit", "miss", "bypass"]
    replayed: bool = Field(
        description="Whether an earlier request with the same Idempotency-Key got this answer."
    )
    attempts: Sequence[AttemptAnswer]
    ignored: Sequence[str] = Field(description="Request fields that this target does not support.")


class ModelAnswer(BaseModel):
    """A model that can be addressed, by `id` or by `alias`. Prices are in USD per million
    tokens."""

    id: str
    provider: str
    model_id: str
    alias: str | None
    display_name: str
    capabilities: Sequence[str]
    quirks: Sequence[str]
    context_window: int | None
    max_output_tokens: int | None
    input_price: Decimal | None
    output_price: Decimal | None
    cached_input_price: Decimal | None
    cache_write_price: Decimal | None
    cache_write_1h_price: Decimal | None
    web_search_price: Decimal | None


class ModelsAnswer(BaseModel):
    """Every active model."""

    models: Sequence[ModelAnswer]


class TargetAnswer(BaseModel):
    """A model of a route: `position` is its fallback level, `weight` its share within it."""

    model: str
    position: int
    weight: int


class RouteAnswer(BaseModel):
    """The route of a use case and tier. Durations are in seconds."""

    id: str
    use_case: str
    tier: str
    targets: Sequence[TargetAnswer]
    temperature: float | None
    max_tokens: int | None
    cache_ttl: int | None
    deadline: float | None
    stream_recovery: str


class RoutesAnswer(BaseModel):
    """Every active route."""

    routes: Sequence[RouteAnswer]


class FieldProblem(BaseModel):
    """An error in a field of the body; `field` is its path (`messages.0.role`)."""

    field: str
    message: str


class FailedAttempt(BaseModel):
    """A failed target, and the code of its failure."""

    target: str
    reason: str


class ErrorDetails(BaseModel):
    """`code` is stable and meant for programs, `message` for people."""

    code: str
    message: str
    retry_after: int | None = Field(description="Seconds; also in the header Retry-After.")
    fields: Sequence[FieldProblem]
    known: Sequence[str] = Field(description="The known names, if an unknown one was requested.")
    attempts: Sequence[FailedAttempt]


class ErrorAnswer(BaseModel):
    """Every error under /api/llm."""

    error: ErrorDetails
    request_id: str
