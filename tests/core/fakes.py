"""The core's ports in memory: a scripted transport, a virtual clock, a ledger for inspection.

`text_operation` has the wire format of the answers.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from llm_routing.core.attempts.calls import Call, Timeouts
from llm_routing.core.attempts.executor import Executor
from llm_routing.core.attempts.latency import MIN_CALLS
from llm_routing.core.attempts.limits import ProviderLimits
from llm_routing.core.attempts.retry_budget import RetryBudgets
from llm_routing.core.attempts.retry_state import RetryState
from llm_routing.core.breaker import NoBreakers
from llm_routing.core.errors import (
    AnswerTooLarge,
    UpstreamError,
)
from llm_routing.core.planner import RoutePlan
from llm_routing.core.ports import (
    AttemptOpened,
    AttemptSettled,
    BreakerStore,
    no_op,
)
from llm_routing.core.routing_table import ModelSpec, Price, ProviderSpec, RouteSpec, Target
from llm_routing.core.types import Caller

Chunk = bytes | float | UpstreamError
"""Bytes that come, seconds of silence, or what breaks the answer."""


@dataclass
class Reply:
    """A provider's reaction to one request: it connects after `connects_after` seconds, then fails,
    or answers after `delay` seconds."""

    chunks: Sequence[Chunk] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    fails: UpstreamError | None = None
    connects_after: float = 0.0


class FakeAnswer:
    def __init__(self, reply: Reply) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self.is_closed = False
        self.is_read = False
        self.caps: list[int] = []
        self._chunks = deque(reply.chunks)

    async def read(self, max_bytes: int) -> bytes:
        self.caps.append(max_bytes)
        body = b""
        while chunk := await self.next_chunk():
            body += chunk
            if len(body) > max_bytes:
                raise AnswerTooLarge("Too large.")
        return body

    async def next_chunk(self, within: float | None = None) -> bytes:
        async with asyncio.timeout(within):
            return await self._next_chunk()

    async def _next_chunk(self) -> bytes:
        assert not self.is_closed
        await asyncio.sleep(0)
        while self._chunks:
            chunk = self._chunks.popleft()
            if isinstance(chunk, bytes):
                return chunk
            if isinstance(chunk, UpstreamError):
                raise chunk
            await asyncio.sleep(chunk)
        self.is_read = True
        return b""

    async def aclose(self) -> None:
        self.is_closed = True


@dataclass
class Sent:
    """One request as received by the transport."""

    provider: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    connect_timeout: float
    max_connections: int | None
    at: float


class ScriptedTransport:
    """Answers each provider's requests with its scripted replies, in order."""

    def __init__(self) -> None:
        self.replies: dict[str, deque[Reply]] = defaultdict(deque)
        self.sent: list[Sent] = []
        self.answers: list[FakeAnswer] = []

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
    ) -> FakeAnswer:
        now = asyncio.get_running_loop().time()
        self.sent.append(
            Sent(provider, method, url, headers, body, connect_timeout, max_connections, now)
        )
        reply = self.replies[provider].popleft()
        await asyncio.sleep(reply.connects_after)
        on_connected()
        await asyncio.sleep(reply.delay)
        if reply.fails is not None:
            raise reply.fails
        self.answers.append(FakeAnswer(reply))
        return self.answers[-1]

    async def aclose(self) -> None:
        raise AssertionError("the executor does not own the transport")


class LoopClock:
    """A clock that follows the running loop's (virtual) time."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.monotonic() - 1000.0)

    def time(self) -> float:
        return self.now().timestamp()


class Ledger:
    """A `UsageSink` that stores its records."""

    def __init__(self) -> None:
        self.accounts: list[AttemptOpened] = []
        self.ends: list[AttemptSettled] = []

    def opened(self, attempt: AttemptOpened) -> None:
        self.accounts.append(attempt)

    def settled(self, attempt: AttemptSettled) -> None:
        assert attempt.opened in self.accounts
        self.ends.append(attempt)

    @property
    def outcomes(self) -> list[tuple[str, str, str]]:
        """The settled attempts: provider, outcome, error code."""
        return [
            (settled.opened.provider, settled.outcome.value, settled.error_code)
            for settled in self.ends
        ]


@dataclass(frozen=True)
class FakeCredential:
    headers: Mapping[str, str]


class FakeCredentials:
    def __init__(self) -> None:
        self.missing: set[str] = set()

    def get(self, provider: str) -> FakeCredential | None:
        if provider in self.missing:
            return None
        return FakeCredential({"authorization": f"key of {provider}"})


MAX_ANSWER_BYTES = 16 * 1024 * 1024


class World:
    """An executor with fakes; `retries` is the retry budget per provider."""

    def __init__(
        self,
        breakers: BreakerStore | None = None,
        *,
        retries: int = 0,
        pool_size: int = 100,
        max_queued: int = 100,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        **timeouts: float,
    ) -> None:
        self.retry_state = replace(
            RetryState.of(Random(1), 0, 0.1), retries=RetryBudgets(0, retries)
        )
        self.transport = ScriptedTransport()
        self.ledger = Ledger()
        self.credentials = FakeCredentials()
        self.limits = ProviderLimits(pool_size, max_queued, LoopClock())
        self.executor = Executor(
            transport=self.transport,
            credentials=self.credentials,
            breakers=breakers or NoBreakers(),
            limits=self.limits,
            sink=self.ledger,
            clock=LoopClock(),
            timeouts=Timeouts(
                connect=timeouts.get("connect", 5),
                first_token=timeouts.get("first_token", 20),
                idle=timeouts.get("idle", 10),
                total=timeouts.get("total", 60),
                max_answer_bytes=max_answer_bytes,
            ),
            retry_state=self.retry_state,
        )

    def script(self, provider: str, *replies: Reply) -> None:
        """Sets the next replies of `provider`."""
        self.transport.replies[provider].extend(replies)

    def expect(self, seconds: float, providers: Iterable[str]) -> None:
        """Records that the providers usually answer in `seconds`."""
        now = LoopClock().monotonic()
        for provider in providers:
            for kind in ("chat whole", "chat stream"):
                for _ in range(MIN_CALLS):
                    self.retry_state.latencies.note(f"{kind} {provider}/m", now, seconds)

    def asked(self) -> list[str]:
        """The called providers, in order."""
        return [sent.provider for sent in self.transport.sent]

    def assert_accounts_are_closed(self) -> None:
        """Checks that each attempt that reached a provider was opened and settled once, and each
        response closed."""
        assert len(self.transport.sent) == len(self.ledger.accounts)
        ids = [account.id for account in self.ledger.accounts]
        assert len(set(ids)) == len(ids)
        assert sorted(settled.opened.id for settled in self.ledger.ends) == sorted(ids)
        assert all(answer.is_closed for answer in self.transport.answers)


def text(body: str, **reply: float) -> Reply:
    """Returns a successful reply."""
    return Reply((body.encode(),), **reply)  # type: ignore[arg-type]  # `delay` alone is given


def lines(*chunks: str | float | UpstreamError, delay: float = 0.0) -> Reply:
    """Returns a streamed reply; `/` in a chunk ends a line."""
    return Reply(
        tuple(
            chunk.replace("/", "\n").encode() if isinstance(chunk, str) else chunk
            for chunk in chunks
        ),
        delay=delay,
    )


def refusal(status: int, body: str = "", **headers: str) -> Reply:
    """Returns a vendor's error; header names are written with underscores."""
    return Reply(
        (body.encode(),) if body else (),
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def failing(error: UpstreamError) -> Reply:
    """Returns a reply that fails without a response."""
    return Reply(fails=error)


def target(name: str, price: Price | None = None, **provider: float | None) -> Target:
    """Returns the model `m` of the provider `name`."""
    spec = ProviderSpec(
        name,
        vendor="fake",
        format="lines",
        base_url=f"https://{name}.test",
        connect_timeout=provider.get("connect_timeout"),
        first_token_timeout=provider.get("first_token_timeout"),
        idle_timeout=provider.get("idle_timeout"),
        total_timeout=provider.get("total_timeout"),
    )
    return Target(spec, ModelSpec(name, "m", price=price))


def with_prefill(able: Target) -> Target:
    """Returns the target with a model that can continue a partial answer."""
    return replace(able, model=replace(able.model, capabilities=frozenset({"prefill"})))


def plan_for(targets: Iterable[str | Target], **route: Any) -> RoutePlan:
    """Returns a plan of the route `debugging:premium` with `targets`."""
    return RoutePlan(
        tuple(each if isinstance(each, Target) else target(each) for each in targets),
        RouteSpec("debugging", "premium", (), **route),
    )


def call(seconds: float = 120.0) -> Call:
    """Returns a call with a deadline in `seconds` from now."""
    return Call("req_1", Caller("acme", "laptop"), asyncio.get_running_loop().time() + seconds)
