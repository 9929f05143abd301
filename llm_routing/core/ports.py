"""Protocols for everything that the core needs from outside: network, clock, ledger, breakers.

Those of caches are in `caching.ports`. The implementations are in `backends` and in the rooms that
know Django.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import ClassVar, Protocol, Self, TypeVar

from msgspec import Struct, field

from .breaker import BreakerStatus, Rejected
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
    """An HTTP request to a vendor, complete except for the credential.

    `ignored` names the caller's fields that the wire format cannot express.
    """

    hidden_fields: ClassVar = frozenset({"body"})

    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    ignored: tuple[str, ...] = ()


class UpstreamResponse(Protocol):
    """A vendor's HTTP response whose headers have arrived. Names in `headers` are in lower case.

    The caller sets other time limits by cancelling; a cancelled response is closed.
    """

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The HTTP headers."""

    async def read(self, max_bytes: int) -> bytes:
        """Returns the whole body. Raises `AnswerTooLarge`, `ConnectionLost`, or `MalformedAnswer`
        (a body that cannot be decompressed)."""

    def next_chunk(self, within: float | None = None) -> Awaitable[bytes]:
        """Returns the next bytes as soon as they arrive; empty at the end. Raises `ConnectionLost`
        or `MalformedAnswer`, and `TimeoutError` if none arrive `within` so many seconds."""

    async def aclose(self) -> None:
        """Returns the connection to the pool if the body was read to its end, else closes it."""


def no_op() -> None:
    """Does nothing."""


class Transport(Protocol):
    """One HTTP client for all providers, with one pool per provider."""

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
        """Sends a request and returns the response as soon as its headers have arrived.

        Redirects are not followed. `connect_timeout` is in seconds; `max_connections` is the size
        of the provider's pool, None for the default in settings. `on_connected` is called before
        the first byte of the request is written. Raises `ConnectionFailed` and its subclasses,
        `ConnectionLost` or `ConnectTimeout`.
        """

    async def aclose(self) -> None:
        """Closes every connection."""


class StreamParser(Protocol):
    """Parses a vendor's bytes into frames, wherever the bytes are cut. One per answer."""

    @property
    def failure(self) -> UpstreamError | None:
        """The error that ended the answer after the frames returned last."""

    def feed(self, data: bytes) -> Sequence[Frame]:
        """Returns the frames that `data` completes.

        Raises `UpstreamError` for an error event in the stream (mapped as by `map_error`) and for
        an event with content that cannot be parsed, and `AnswerTooLarge` for a frame above 8 MiB.
        If complete frames precede the error, they are returned and the error is in `failure`.
        """

    def close(self) -> Sequence[Frame]:
        """Returns the frames held back when the connection ended. Raises `TruncatedStream` if the
        answer has no finish reason; a missing `[DONE]` is not an error."""


class Operation(Protocol[ResultT]):
    """One request to a target, independent of the target's wire format."""

    @property
    def name(self) -> str:
        """`chat`, `embeddings` or `count_tokens`, as recorded in the ledger."""

    @property
    def proves_health(self) -> bool:
        """Whether its results say something about the target's health."""

    @property
    def is_billed(self) -> bool:
        """Whether vendors bill for it. If not, it has no tokens and costs nothing."""

    @property
    def input_length(self) -> int:
        """Characters of the prompt, for estimates if a vendor does not count tokens."""

    def build(self, target: Target) -> WireRequest:
        """Returns the request in the target's wire format. Raises `UnsupportedRequest`."""

    def parse(self, target: Target, body: bytes) -> ResultT:
        """Returns the result in a 2xx body. Raises `UpstreamError`."""

    def usage(self, result: ResultT) -> Usage | None:
        """Returns the tokens that the vendor counted."""

    def with_usage(self, result: ResultT, usage: Usage) -> ResultT:
        """Returns the result with the recorded tokens, as callers see it."""

    def output_length(self, result: ResultT) -> int:
        """Returns the characters of the answer, for estimates."""

    def stream_parser(self, target: Target) -> StreamParser:
        """Returns a parser for one streamed answer."""

    def continued(self, text: str) -> "Operation[ResultT] | None":
        """Returns the operation that continues after `text`; None if answers cannot be
        continued."""

    def map_error(
        self, target: Target, status: int, headers: Mapping[str, str], body: bytes
    ) -> UpstreamError:
        """Returns the error that a non-2xx response represents."""

    def review(self, target: Target, error: UpstreamError) -> None:
        """Adjusts an error by the request that caused it: whether it counts against shared state
        (`counts_against_breaker`), and whether another target may succeed
        (`retryable_elsewhere`)."""


class Clock(Protocol):
    """Time. Durations are measured with `monotonic` only."""

    def monotonic(self) -> float:
        """Returns seconds since an arbitrary start."""

    def now(self) -> datetime:
        """Returns the current date and time in UTC, for records."""

    def time(self) -> float:
        """Returns the current time in Unix seconds."""


class Credential(Protocol):
    """The headers that authenticate the gateway to a provider."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers to add to every request."""


class CredentialStore(Protocol):
    """Credentials by provider name."""

    def get(self, provider: str) -> Credential | None:
        """Returns the provider's credential; None if it needs one that is not configured."""


class AttemptOpened(Struct, frozen=True):
    """The record of an attempt that is about to be sent. `id` is globally unique. `input_tokens` is
    an estimate, used if the vendor's count never arrives; `input_price` is the current price in USD
    per million input tokens."""

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
    """The outcome of an attempt. Durations are in milliseconds. `cost` is in USD, at the price when
    the attempt was opened or as billed by the vendor (`cost_source`); None if unknown.
    `error_message` is the reason, without quotations of the request; `upstream_request_id` is the
    vendor's request id."""

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
        """Records that an attempt is about to be sent."""

    def settled(self, attempt: AttemptSettled) -> None:
        """Records the outcome of an attempt."""


class MetricsSink(UsageSink, Protocol):
    """Receives counts of requests and attempts. No method blocks or raises."""

    def request_started(self) -> None:
        """Counts a request that has started."""

    def request_ended(self, request: RequestEnded) -> None:
        """Counts a request that has ended, with or without an answer."""


class Permit(Protocol):
    """Permission to call a target. Report the outcome once; later reports are ignored. Does not
    raise."""

    def succeed(self, seconds: float = 0.0) -> None:
        """Reports success. `seconds` is the time to the whole answer, or to the first content of a
        stream."""

    def fail(self, error: UpstreamError) -> None:
        """Reports a failure that counts against the target."""

    def release(self) -> None:
        """Reports a call that does not count: cancelled, never made, or failed through no fault of
        the target."""


class BreakerStore(Protocol):
    """The circuit breakers of all targets, by provider and model."""

    async def admit(self, target: Target, *, force: bool = False) -> Permit | Rejected:
        """Returns a permit for `target`, or the rejection with the time to wait. `force` always
        permits, even if the breaker is open. Does not raise."""


class BreakerRegistry(BreakerStore, Protocol):
    """Breakers that can be listed and reset, by provider and model id."""

    def statuses(self) -> Mapping[TargetKey, BreakerStatus]:
        """Returns the status of every breaker that has been used."""

    def reset(self, provider: str, model: str) -> None:
        """Closes a target's breaker, if it has one. Thread-safe; it may block briefly, but never in
        a thread that runs an event loop."""

    async def aclose(self) -> None:
        """Shares pending changes with other processes before this one ends."""


class Cipher(Protocol):
    """Encrypts values that leave the process. `name` says where a value is stored: a token that was
    moved to another name cannot be decrypted."""

    def encrypt(self, clear_text: str, name: str) -> str:
        """Returns a token that our keys decrypt under the same `name`."""

    def decrypt(self, token: str, name: str) -> str:
        """Returns the text of a token. Raises `ValueError` if it was not encrypted with our keys
        under `name`."""


class Signer(Protocol):
    """Signs shared values that are not secret. `name` says where a value is stored: a signature
    that was moved to another name is invalid."""

    def sign(self, text: str, name: str) -> str:
        """Returns the signature, in ASCII without spaces."""

    def is_signed(self, text: str, name: str, signature: str) -> bool:
        """Returns whether our keys signed `text` under `name`."""


class StreamAccount(Protocol):
    """The facts known at the end of a streamed answer."""

    @property
    def usage(self) -> Usage | None:
        """The tokens of the answer."""

    @property
    def cost(self) -> Decimal | None:
        """USD; None if unknown."""

    @property
    def time_to_first_token_ms(self) -> float | None:
        """Milliseconds at the provider before the first content; None if there was no content."""


class FrameStream(Protocol):
    """A streamed answer in batches of frames, from a provider or from the cache."""

    def __aiter__(self) -> Self:
        """Returns itself."""

    async def __anext__(self) -> Sequence[Frame]:
        """Returns the next batch. Raises the `LLMError` that cut the answer short."""

    async def aclose(self) -> None:
        """Closes the stream, whether or not it was read to its end."""

    @property
    def account(self) -> StreamAccount | None:
        """The facts known at the end of the answer; None before."""

    @property
    def attempts(self) -> tuple[AttemptSummary, ...]:
        """The attempt that broke off and those that continued its answer; empty if it was not
        continued."""
