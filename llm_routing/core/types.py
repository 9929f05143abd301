"""Requests, answers and usage in canonical form, independent of any vendor.

Message parts are in `content`, stream events in `events`, embeddings in `embeddings`, errors in
`errors`.
"""

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar, Final

from msgspec import Struct, field

from .content import (
    ForeignTool,
    Message,
    Part,
    Reasoning,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
)
from .hidden_fields import HidesFields


class UseCase(StrEnum):
    """The built-in use cases. Operators can add their own; any slug is accepted as a use case."""

    CODE_GENERATION = "code_generation"
    ARCHITECTURE_DESIGN = "architecture_design"
    DEBUGGING = "debugging"
    DOCUMENTATION = "documentation"
    CHAT_CONVERSATION = "chat_conversation"
    MEMORY_PROCESSING = "memory_processing"
    WORKFLOW_ORCHESTRATION = "workflow_orchestration"
    GENERAL_PURPOSE = "general_purpose"


class ModelTier(StrEnum):
    """The quality, and so the price, of a route's models."""

    PREMIUM = "premium"
    STANDARD = "standard"
    ECONOMY = "economy"


TargetKey = tuple[str, str]
"""A provider's name and the id of a model there. An empty id stands for the provider itself."""


class FinishReason(StrEnum):
    """The reason why a model stopped."""

    STOP = "stop"
    STOP_SEQUENCE = "stop_sequence"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    PAUSE = "pause"


MAX_TOKEN_COUNT: Final = 2**31 - 1
"""Higher counts, like negative ones, are treated as a vendor's error."""


class CostSource(StrEnum):
    """The source of a cost: the vendor's own bill, the price list with the vendor's counts, or the
    price list with at least one estimated count."""

    VENDOR = "vendor"
    PRICE_LIST = "price_list"
    ESTIMATED = "estimated"


class Usage(Struct, frozen=True):
    """Tokens of one answer, each counted once.

    `input_tokens` counts the whole prompt, cached or not. It includes `cached_input_tokens` (read
    from the vendor's cache), `cache_write_tokens` (written to it), of which `cache_write_1h_tokens`
    are kept for an hour, and `input_audio_tokens`. `output_tokens` include `reasoning_tokens`,
    `output_audio_tokens` and the accepted and rejected tokens of a prediction. `web_searches`
    counts searches that the vendor ran. `vendor_cost` is the amount in USD that the vendor says it
    bills. `estimated`: at least one count is our estimate.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0
    web_searches: int = 0
    vendor_cost: Decimal | None = None
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens


class Caller(Struct, frozen=True):
    """The caller of a request. Caches, idempotency keys and records are separated by `tenant`.

    `key_name` names the API key (empty for in-process calls). `deadline` is the number of seconds
    that its requests may take, None if the key does not set one. `reads_metrics` says whether it
    may read the metrics of all tenants.
    """

    tenant: str = "default"
    key_name: str = ""
    deadline: float | None = None
    reads_metrics: bool = False


class Source(Struct, frozen=True):
    """The decoded body of a caller's request and its wire format. Never mutated.

    Vendors of the same format are sent this body, so that fields unknown to us pass through.
    `headers` are the caller's headers that belong to the format (Anthropic's `anthropic-beta`).
    """

    format: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class Idempotency(HidesFields, frozen=True):
    """An idempotency key: requests with the same `key` are one request
    (`core.caching.idempotency`). `scope` names the operation, `fingerprint` is a digest of the
    request."""

    hidden_fields: ClassVar = frozenset({"key", "fingerprint"})

    key: str
    scope: str
    fingerprint: str


class Thread(Struct, frozen=True):
    """A conversation that the vendor stores. With the id of a `previous` answer it continues that
    answer's thread, and the messages hold only the new turn; else a new thread begins."""

    previous: str | None = None


class LLMRequest(HidesFields, frozen=True):
    """A request for a completion, independent of any vendor.

    `model` is an address: `use_case`, `use_case:tier`, `provider/model_id` or an alias; without it,
    `use_case` and `tier` decide. `system_prompt` precedes the messages and is set only if they
    contain no system message. `extra` holds vendor fields from an in-process caller, sent
    unchanged. `cache` says whether the response cache may be used, `cache_ttl` is the maximum age
    of an answer in seconds, `cache_refresh` fills the cache without reading it. With `idempotency`,
    a repeated request gets the same answer. `has_prefill`: the last message is the beginning of an
    answer that the model continues. None always means: not set, use the vendor's default.
    """

    hidden_fields: ClassVar = frozenset({"source"})

    messages: tuple[Message, ...]
    model: str | None = None
    use_case: str | None = None
    tier: str | None = None
    system_prompt: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    n: int = 1
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    tools: tuple[Tool | ForeignTool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning: Reasoning | None = None
    user: str | None = None
    stream: bool = False
    include_usage: bool = False
    cache: bool | None = None
    cache_ttl: int | None = None
    cache_refresh: bool = False
    idempotency: Idempotency | None = None
    timeout: float | None = None
    has_prefill: bool = False
    thread: Thread | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    source: Source | None = None


class Choice(Struct, frozen=True):
    """One alternative answer. `logprobs` is in the vendor's form (OpenAI's shape); if a stop
    sequence ended it, `stop_sequence` is its text."""

    content: tuple[Part, ...]
    finish_reason: FinishReason | None
    index: int = 0
    stop_sequence: str | None = None
    logprobs: Mapping[str, Any] | None = None

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        """The tool calls in the model's order."""
        return tuple(part for part in self.content if isinstance(part, ToolCallPart))


class Completion(HidesFields, frozen=True):
    """A vendor's response. `raw` is its unchanged body in the wire format `format`: callers of the
    same format receive these bytes."""

    hidden_fields: ClassVar = frozenset({"raw"})

    id: str
    model: str
    choices: tuple[Choice, ...]
    usage: Usage | None
    format: str = ""
    raw: bytes = b""


class CacheState(StrEnum):
    """The result of the cache lookup of a request."""

    HIT = "hit"
    MISS = "miss"
    BYPASS = "bypass"


class AttemptOutcome(StrEnum):
    """The outcome of one attempt. The code of a failure is stored separately."""

    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class AttemptSummary(Struct, frozen=True):
    """One attempt as shown to callers: its target and, if it failed, its error code."""

    provider: str
    model: str
    outcome: AttemptOutcome
    error_code: str = ""
    latency_ms: float = 0.0


class RoutingFacts(Struct, frozen=True):
    """The route of an answer: target, attempts, cache and cost, for headers, bodies and logs.

    `replayed`: it is the answer to an earlier request with the same idempotency key. `created` is
    the time of the answer in Unix seconds. `upstream_headers` are the vendor's headers that are
    forwarded to the caller (`core.upstream_headers`).
    """

    request_id: str
    provider: str
    model: str
    use_case: str = ""
    tier: str = ""
    attempts: tuple[AttemptSummary, ...] = ()
    cache: CacheState = CacheState.BYPASS
    cost: Decimal | None = None
    latency_ms: float = 0.0
    overhead_ms: float = 0.0
    time_to_first_token_ms: float | None = None
    ignored: tuple[str, ...] = ()
    replayed: bool = False
    created: int = 0
    upstream_headers: Mapping[str, str] = field(default_factory=dict)


class RequestEnded(Struct, frozen=True):
    """The end of a request, for metrics.

    Durations are in seconds; `overhead_seconds` and `cache` are None without an answer.
    `failed_over` lists the targets (provider, model) that were followed by another one.
    """

    operation: str
    use_case: str
    tier: str
    outcome: AttemptOutcome
    error_code: str
    seconds: float
    overhead_seconds: float | None
    cache: CacheState | None
    failed_over: tuple[TargetKey, ...]


class LLMResponse(Struct, frozen=True):
    """An answer and how it was obtained. The short names read the first choice."""

    completion: Completion
    routing: RoutingFacts

    @property
    def content(self) -> str:
        """The text of the first choice."""
        return self.completion.choices[0].text if self.completion.choices else ""

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        """The tool calls of the first choice."""
        return self.completion.choices[0].tool_calls if self.completion.choices else ()

    @property
    def finish_reason(self) -> FinishReason | None:
        """The reason why the first choice ended."""
        return self.completion.choices[0].finish_reason if self.completion.choices else None

    @property
    def usage(self) -> Usage:
        """The tokens; zero if unknown."""
        return self.completion.usage or Usage()

    @property
    def model(self) -> str:
        """The model that answered."""
        return self.routing.model

    @property
    def provider(self) -> str:
        """The provider that answered."""
        return self.routing.provider

    @property
    def cost(self) -> Decimal | None:
        """USD; None if unknown, which is not the same as zero."""
        return self.routing.cost

    def dict(self) -> dict[str, Any]:
        """Returns the answer as JSON values, as `POST /api/llm/complete` does."""
        routing, usage = self.routing, self.usage
        return {
            "id": routing.request_id,
            "content": self.content,
            "tool_calls": [
                {"id": call.id, "name": call.name, "arguments": call.arguments}
                for call in self.tool_calls
            ],
            "finish_reason": self.finish_reason.value if self.finish_reason else None,
            "model": routing.model,
            "provider": routing.provider,
            "use_case": routing.use_case or None,
            "tier": routing.tier or None,
            "usage": {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "total_tokens": usage.total_tokens,
                "cached_input_tokens": usage.cached_input_tokens,
                "cache_write_tokens": usage.cache_write_tokens,
                "cache_write_1h_tokens": usage.cache_write_1h_tokens,
                "reasoning_tokens": usage.reasoning_tokens,
                "web_searches": usage.web_searches,
                "estimated": usage.estimated,
            },
            "cost_usd": None if routing.cost is None else format(routing.cost, "f"),
            "latency_ms": round(routing.latency_ms, 3),
            "cache": routing.cache.value,
            "replayed": routing.replayed,
            "attempts": [
                {
                    "provider": attempt.provider,
                    "model": attempt.model,
                    "outcome": attempt.outcome.value,
                    "error_code": attempt.error_code or None,
                    "latency_ms": round(attempt.latency_ms, 3),
                }
                for attempt in routing.attempts
            ],
            "ignored": list(routing.ignored),
        }
