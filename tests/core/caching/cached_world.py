"""An executor with a cache in front, and a cache shared with other processes, for tests."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from msgspec import structs

from llm_routing.backends.memory import MemoryCache
from llm_routing.core.attempts.calls import Call
from llm_routing.core.cached_answer import CachedAnswer
from llm_routing.core.caching.executor import CachedExecutor, CachedResult
from llm_routing.core.caching.ports import CacheHit, Lease, LeaseUnavailable
from llm_routing.core.caching.rules import CacheRule
from llm_routing.core.caching.single_flight import SingleFlightCache
from llm_routing.core.content import TextPart
from llm_routing.core.errors import (
    MalformedAnswer,
    UpstreamError,
)
from llm_routing.core.events import Frame, ToolCallStarted
from llm_routing.core.planner import RoutePlan
from llm_routing.core.ports import FrameStream, WireRequest
from llm_routing.core.pricing import Price
from llm_routing.core.routing_table import Target
from llm_routing.core.types import CacheState, Choice, Completion, FinishReason, Usage
from tests.core.fakes import MAX_ANSWER_BYTES, LoopClock, World, call, plan_for, target
from tests.core.text_operation import LineParser, TextOperation, usage_of

RULE = CacheRule(60)
PRICED = target("one", Price(Decimal(1000), Decimal(2000)))


@dataclass
class Chat:
    """A completion operation; a body is its text, its finish (`:length`) and its usage (`|3,4`)."""

    question: str = "question"
    name: str = "chat"
    input_length: int = 400
    proves_health: bool = True
    is_billed: bool = True
    texts: TextOperation = field(default_factory=TextOperation)
    old: bool = False  # does not read what it used to

    def build(self, target: Target) -> WireRequest:
        return structs.replace(self.texts.build(target), body=self.question.encode())

    def parse(self, target: Target, body: bytes) -> Completion:
        if self.old:
            raise MalformedAnswer("A newer release reads this no longer.")
        said = self.texts.parse(target, body).partition("|")[0]
        words, _, reason = said.partition(":")
        choice = Choice((TextPart(words),), FinishReason(reason or "stop"))
        return Completion("a1", "m", (choice,), usage_of(body.decode().partition("|")[2]), "", body)

    def review(self, target: Target, error: UpstreamError) -> None:
        self.texts.review(target, error)

    def usage(self, result: Completion) -> Usage | None:
        return result.usage

    def with_usage(self, result: Completion, usage: Usage) -> Completion:
        return structs.replace(result, usage=usage)

    def output_length(self, result: Completion) -> int:
        return len(result.choices[0].text)

    def stream_parser(self, target: Target) -> LineParser:
        if self.old:
            return OldParser()
        return CallingParser()

    def continued(self, text: str) -> "Chat":
        return replace(self, question=f"{self.question} {text}")

    map_error = TextOperation.map_error


class CallingParser(LineParser):
    """Also parses tool calls; waits for the rest of a cut line."""

    def __init__(self) -> None:
        super().__init__()
        self._rest = b""

    def feed(self, data: bytes) -> Sequence[Frame]:
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        return [frame for line in (whole + newline).splitlines() for frame in self._one(line)]

    def _one(self, line: bytes) -> Iterable[Frame]:
        if line == b"call":
            return [Frame("lines", b"call\n", (ToolCallStarted(0, "c1", "look"),))]
        return [structs.replace(frame, raw=frame.raw + b"\n") for frame in super().feed(line)]


class OldParser(LineParser):
    def feed(self, data: bytes) -> Sequence[Frame]:
        raise MalformedAnswer("A newer release reads this no longer.")


class FakeShared:
    """A `SharedCache` for several executors in one loop."""

    def __init__(self) -> None:
        self.answers: dict[str, CacheHit] = {}
        self.leases: dict[str, FakeLease] = {}
        self.is_away = False
        self.claims = 0

    async def claim(self, key: str, max_age: float) -> CacheHit | Lease | LeaseUnavailable:
        await asyncio.sleep(0)
        self.claims += 1
        if self.is_away:
            return LeaseUnavailable.UNAVAILABLE
        if key in self.answers and self.answers[key].age < max_age:
            return self.answers[key]
        if key in self.leases:
            return LeaseUnavailable.BUSY
        self.leases[key] = FakeLease(self, key)
        return self.leases[key]

    async def put(self, key: str, answer: CachedAnswer, ttl: float) -> None:
        self.answers[key] = CacheHit(answer, 0, ttl)

    async def aclose(self) -> None:
        raise AssertionError("the executor does not own the cache")


@dataclass
class FakeLease:
    shared: FakeShared
    key: str

    async def publish(self, answer: CachedAnswer, ttl: float) -> None:
        await self.release()
        await self.shared.put(self.key, answer, ttl)

    async def release(self) -> None:
        await asyncio.sleep(0)
        del self.shared.leases[self.key]


class Cached(World):
    """A `World` with a cache in front."""

    def __init__(
        self,
        shared: FakeShared | None = None,
        max_entries: int = 100,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        super().__init__(max_answer_bytes=max_answer_bytes)
        self.memory = MemoryCache(max_entries=max_entries, max_bytes=10**8, clock=LoopClock())
        self.shelf = SingleFlightCache(self.memory, shared, LoopClock())
        replays = MemoryCache(max_entries=max_entries, max_bytes=10**8, clock=LoopClock())
        self.cached = CachedExecutor(
            self.executor,
            cache=self.shelf,
            idempotency=SingleFlightCache(replays, shared, LoopClock()),
            credentials=self.credentials,
            clock=LoopClock(),
            secret=b"secret",
        )

    async def ask(
        self,
        question: str = "question",
        rule: CacheRule | None = RULE,
        plan: RoutePlan | None = None,
        asked: Call | None = None,
        **operation: Any,
    ) -> CachedResult[Completion]:
        return await self.cached.complete(
            Chat(question, **operation),
            plan or plan_for([PRICED]),
            asked or call(),
            (rule,) if rule else (),
        )

    async def open(
        self, rule: CacheRule | None = RULE, seconds: float = 120.0, **operation: Any
    ) -> CachedResult[FrameStream]:
        return await self.cached.open_stream(
            Chat("stream!", **operation),
            plan_for([PRICED]),
            call(seconds),
            (rule,) if rule else (),
        )

    async def read(
        self, rule: CacheRule | None = RULE, **options: Any
    ) -> tuple[CacheState, list[Frame]]:
        opened = await self.open(rule, **options)
        return opened.cache, await frames(opened.value)


async def frames(stream: FrameStream) -> list[Frame]:
    return [frame for batch in [batch async for batch in stream] for frame in batch]


def said(answer: CachedResult[Completion]) -> tuple[str, str]:
    return answer.cache.value, answer.value.choices[0].text


async def together(*asked: Any) -> list[Any]:
    return await asyncio.gather(*asked, return_exceptions=True)
