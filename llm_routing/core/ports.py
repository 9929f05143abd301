"""The seams: what the core asks of the world, as Protocols.

The network, the clock and the ledger are behind these; their implementations are in `backends`
and in the Django ring.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import ClassVar, Protocol, Self, TypeVar

from msgspec import Struct, field

from .breaker import BreakerStatus, Rejected
from .cached_answer import CachedAnswer
from .errors import UpstreamError
from .events import Frame
from .hidden_fields import HidesFields
from .routing_table import Target
from .types import (
    AttemptOutcome,
    AttemptSummary,
    Caller,
    CostSource,
    RequestEnded,
    TargetKey,
    Usage,
)

ResultT = TypeVar("ResultT")


class WireRequest(HidesFields, frozen=True):
    """An HTTP request to a vendor, ready to send but for the credential.

    `ignored` names what the caller asked for and this wire format has no word for.
    """

    hidden_fields: ClassVar = frozenset({"body"})

    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    ignored: tuple[str, ...] = ()


class UpstreamResponse(Protocol):
    """A vendor's HTTP answer whose head has come. `headers` has lower-case names.

    How long to wait is the caller's to say, by cancelling; what was cancelled is closed.
    """

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The HTTP headers."""

    async def read(self, max_bytes: int) -> bytes:
        """The whole body. Raises `AnswerTooLarge`, `ConnectionLost`, `MalformedAnswer` (a body
        that cannot be decompressed)."""

    async def next_chunk(self) -> bytes:
        """The bytes that have come, as soon as there are any; empty at the end. Raises
        `ConnectionLost`, `MalformedAnswer`."""

    async def aclose(self) -> None:
        """Gives the connection back where the body was read to its end, else drops it."""


def no_op() -> None:
    """Does nothing."""


class Transport(Protocol):
    """One HTTP client for all providers, with a pool for each."""

    async def send(
        self,
        provider: str,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        connect_timeout: float,
        max_connections: int | None,
        on_connected: Callable[[], None] = no_op,
    ) -> UpstreamResponse:
        """The answer, as soon as its head has come. Redirects are not followed. `connect_timeout`
        is in seconds; `max_connections` sizes the provider's pool, None as settings have it.
        `on_connected` is called before the first byte of the request is written.
        Raises `ConnectionFailed` and its kinds, `ConnectionLost`, `ConnectTimeout`."""

    async def aclose(self) -> None:
        """Closes every connection."""


class StreamParser(Protocol):
    """Turns a vendor's bytes into frames, however they are cut. One for each answer."""

    @property
    def failure(self) -> UpstreamError | None:
        """The error that broke the answer after the last frames returned."""

    def feed(self, data: bytes) -> Sequence[Frame]:
        """The frames that `data` completes. Raises `UpstreamError` for an error event inside the
        stream (mapped as `map_error` does), for an event that held a piece of the answer and cannot
        be read, and `AnswerTooLarge` for a frame past 8 MiB; where frames came before it, these are
        given, and it is `failure`."""

    def close(self) -> Sequence[Frame]:
        """Returns the frames that were held back when the connection ended. Raises
        `TruncatedStream` if the answer has no finish reason; a missing `[DONE]` is no failure."""


class Operation(Protocol[ResultT]):
    """One request to a target, independent of the target's wire format."""

    @property
    def name(self) -> str:
        """`chat`, `embeddings`, `count_tokens`: stands in the ledger."""

    @property
    def proves_health(self) -> bool:
        """Whether its answers and failures say how a target is."""

    @property
    def is_billed(self) -> bool:
        """Whether vendors bill for it; what they do not bill has no tokens and costs nothing."""

    @property
    def input_length(self) -> int:
        """Characters of the prompt, to estimate tokens where a vendor counts none."""

    def build(self, target: Target) -> WireRequest:
        """The request in the target's words. Raises `UnsupportedRequest`."""

    def parse(self, target: Target, body: bytes) -> ResultT:
        """The result in a 2xx body. Raises `UpstreamError`."""

    def usage(self, result: ResultT) -> Usage | None:
        """The tokens the vendor counted."""

    def with_usage(self, result: ResultT, usage: Usage) -> ResultT:
        """The result with the tokens that were recorded for it, for callers to see."""

    def output_length(self, result: ResultT) -> int:
        """Characters of the answer, for an estimate."""

    def stream_parser(self, target: Target) -> StreamParser:
        """A parser for one streamed answer."""

    def continued(self, text: str) -> "Operation[ResultT] | None":
        """The same, asking for what follows `text`; None where an answer cannot be continued."""

    def map_error(
        self, target: Target, status: int, headers: Mapping[str, str], body: bytes
    ) -> UpstreamError:
        """The failure that a non-2xx answer means."""

    def review(self, target: Target, error: UpstreamError) -> None:
        """Decides what only the request can tell of an error: whether it counts against what
        requests share (`counts_against_breaker`), and whether another target may take the request
        (`retryable_elsewhere`)."""


class Clock(Protocol):
    """Time. Durations are read off `monotonic` alone."""

    def monotonic(self) -> float:
        """Seconds since some moment."""

    def now(self) -> datetime:
        """The date and time, with UTC as its zone, for records."""


class Credential(Protocol):
    """The headers that authenticate the gateway at a provider."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers to add to every request."""


class CredentialStore(Protocol):
    """Credentials by provider name."""

    def get(self, provider: str) -> Credential | None:
        """The provider's credential; None where it needs one and there is none."""


class AttemptOpened(Struct, frozen=True):
    """An attempt is about to reach a provider. `id` is unique across processes for ever;
    `input_tokens` is an estimate, for where nobody is left to hear the vendor's count, and
    `input_price` what a million of them cost now, in USD."""

    id: str
    request_id: str
    caller: Caller
    operation: str
    use_case: str
    tier: str
    provider: str
    model: str
    number: int
    started_at: datetime
    input_tokens: int = 0
    input_price: Decimal | None = None


class AttemptSettled(Struct, frozen=True):
    """The end of an attempt. Durations are in milliseconds. `cost` is in USD, at the price when
    the attempt was opened or as the vendor billed it (`cost_source`); None if it is unknown.
    `error_message` is the vendor's or our reason, without quotations of the request;
    `upstream_request_id` is the vendor's id of the request."""

    opened: AttemptOpened
    outcome: AttemptOutcome
    error_code: str
    status: int | None
    usage: Usage | None
    cost: Decimal | None
    latency_ms: float
    time_to_first_token_ms: float | None
    cost_source: CostSource | None = None
    error_message: str = ""
    upstream_request_id: str = ""


class UsageSink(Protocol):
    """Receives the records of attempts. Neither call blocks or raises."""

    def opened(self, attempt: AttemptOpened) -> None:
        """An attempt is about to reach a provider."""

    def settled(self, attempt: AttemptSettled) -> None:
        """The attempt ended."""


class MetricsSink(UsageSink, Protocol):
    """Receives counts of requests and attempts. No method blocks or raises."""

    def request_started(self) -> None:
        """A request came."""

    def request_ended(self, request: RequestEnded) -> None:
        """It has its answer to the end, or none."""


class Permit(Protocol):
    """Leave to ask a target. Say how the call ended: only the first word counts. None raises."""

    def succeed(self, seconds: float = 0.0) -> None:
        """The target answered: `seconds` went by until the answer was whole, or until the first
        content of a stream."""

    def fail(self, error: UpstreamError) -> None:
        """The target failed in a way that counts against it."""

    def release(self) -> None:
        """The call counts for nothing: it was cancelled, never made, or failed through no fault of
        the target's."""


class BreakerStore(Protocol):
    """The circuit breakers of all targets, by provider and model."""

    async def admit(self, target: Target, *, force: bool = False) -> Permit | Rejected:
        """Leave to ask `target`, or why not and for how long. `force`: leave in any case,
        also where its breaker is open. Does not raise."""


class BreakerRegistry(BreakerStore, Protocol):
    """Breakers that can be looked at and reset, by provider and model identifier."""

    def statuses(self) -> Mapping[TargetKey, BreakerStatus]:
        """The status of every breaker that has been used."""

    def reset(self, provider: str, model: str) -> None:
        """Closes the breaker of a target, if there is one. For any thread; may wait for a moment,
        but not in a thread that runs an event loop."""

    async def aclose(self) -> None:
        """The process ends: what has not been told to others is told."""


@dataclass(frozen=True, slots=True)
class CacheSize:
    """The size of a cache in memory, and the number of entries evicted so far."""

    entries: int
    bytes: int
    evictions: int


class ResponseCache(Protocol):
    """Answers in the memory of this process, for any of its threads. Nothing here waits."""

    def get(self, key: str, max_age: float) -> CachedAnswer | None:
        """The answer, if there is one that is younger than `max_age` seconds."""

    def put(self, key: str, answer: CachedAnswer, ttl: float, *, age: float = 0.0) -> None:
        """Keeps an answer, `age` seconds old, for `ttl` seconds more."""

    @property
    def size(self) -> CacheSize:
        """The current entries and bytes."""


class CacheHit(Struct, frozen=True):
    """An answer from a shared cache: how old it is, and how long it may stay, in seconds."""

    answer: CachedAnswer
    age: float
    ttl: float


class Lease(Protocol):
    """The right to ask upstream for a key while all the others wait. It ends with its holder's
    process at the latest. Neither call raises."""

    async def publish(self, answer: CachedAnswer, ttl: float) -> None:
        """Gives the answer to those who wait and those who come, and ends the lease."""

    async def release(self) -> None:
        """Ends the lease without an answer; somebody else may have it."""


class LeaseUnavailable(Enum):
    """Why there is neither an answer nor a lease."""

    BUSY = "busy"
    UNAVAILABLE = "unavailable"


class SharedCache(Protocol):
    """Answers that processes have in common. It never fails: what is wrong, of another release or
    out of reach is not there."""

    async def claim(self, key: str, max_age: float) -> CacheHit | Lease | LeaseUnavailable:
        """The answer, if there is one younger than `max_age` seconds; else the lease; else `BUSY`
        while somebody has it."""

    async def put(self, key: str, answer: CachedAnswer, ttl: float) -> None:
        """Keeps an answer that was asked for without a lease."""

    async def aclose(self) -> None:
        """Closes the connections of the running event loop."""


class Cipher(Protocol):
    """Seals values that leave the process. `name` is where a value is kept: a token that was moved
    to another name does not open."""

    def encrypt(self, clear_text: str, name: str) -> str:
        """Returns a token that our keys open under the same `name`."""

    def decrypt(self, token: str, name: str) -> str:
        """Returns the text of a token. Raises `ValueError` when our keys do not open it under
        `name`."""


class Signer(Protocol):
    """Signs what is shared and no secret. `name` is where it is kept: a signature that was moved
    to another name does not hold."""

    def sign(self, text: str, name: str) -> str:
        """Returns the signature, in ASCII without blanks."""

    def is_signed(self, text: str, name: str, signature: str) -> bool:
        """Whether we have signed `text` under `name`."""


class StreamAccount(Protocol):
    """The facts known at the end of a streamed answer."""

    @property
    def usage(self) -> Usage | None:
        """The tokens of the answer."""

    @property
    def cost(self) -> Decimal | None:
        """USD, None where it is not known."""

    @property
    def time_to_first_token_ms(self) -> float | None:
        """Milliseconds at the provider before the first content; None where there was no such."""


class FrameStream(Protocol):
    """A streamed answer, batch after batch of frames: from a provider or from the cache."""

    def __aiter__(self) -> Self:
        """Itself."""

    async def __anext__(self) -> Sequence[Frame]:
        """The next batch. Raises the `LLMError` that cut the answer short."""

    async def aclose(self) -> None:
        """Ends it, read to its end or not."""

    @property
    def account(self) -> StreamAccount | None:
        """None until the answer has ended."""

    @property
    def attempts(self) -> tuple[AttemptSummary, ...]:
        """If another target continued a broken answer: the attempt that broke off and those that
        followed; else empty."""
