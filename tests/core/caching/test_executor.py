"""The cached executor: single-flight, hits, replayed streams and shared caches."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from msgspec import structs

from llm_routing.backends.memory import MemoryCache
from llm_routing.core.attempts.calls import Call
from llm_routing.core.cached_answer import CachedAnswer
from llm_routing.core.caching import executor as cached
from llm_routing.core.caching.executor import CachedExecutor, CachedResult
from llm_routing.core.caching.rules import MAX_ENTRY_BYTES, CacheRule
from llm_routing.core.caching.single_flight import SingleFlightCache
from llm_routing.core.content import TextPart
from llm_routing.core.errors import (
    AllTargetsFailed,
    ConnectionLost,
    DeadlineExceeded,
    MalformedAnswer,
    ServerFailed,
    TruncatedStream,
    UpstreamError,
)
from llm_routing.core.events import Frame, ToolCallStarted
from llm_routing.core.planner import RoutePlan
from llm_routing.core.ports import CacheHit, FrameStream, Lease, LeaseUnavailable, WireRequest
from llm_routing.core.pricing import Price
from llm_routing.core.routing_table import StreamRecovery, Target
from llm_routing.core.types import CacheState, Caller, Choice, Completion, FinishReason, Usage
from tests.core.fakes import (
    FakeCredential,
    LineParser,
    LoopClock,
    Reply,
    TextOperation,
    World,
    call,
    lines,
    plan_for,
    target,
    text,
    usage_of,
    with_prefill,
)
from tests.core.virtual_time import in_virtual_time

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
        self, shared: FakeShared | None = None, max_entries: int = 100, retries: int = 0
    ) -> None:
        super().__init__()
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


def told(stream: CachedResult[FrameStream]) -> tuple[Usage | None, Decimal | None, Any] | None:
    """Returns the facts at the end of a stream: usage, cost, and time to first token."""
    account = stream.value.account
    return (
        None if account is None else (account.usage, account.cost, account.time_to_first_token_ms)
    )


async def together(*asked: Any) -> list[Any]:
    return await asyncio.gather(*asked, return_exceptions=True)


@in_virtual_time
async def test_the_second_request_is_a_hit_without_cost_or_upstream_call() -> None:
    world = Cached()
    world.script("one", text("hello|3,4"))
    first, second = await world.ask(), await world.ask()
    assert (said(first), said(second)) == (("miss", "hello"), ("hit", "hello"))
    assert first.cost == Decimal("0.011")
    assert (second.cost, second.attempts) == (Decimal(0), ())
    assert second.value == first.value
    assert second.target == first.target == PRICED
    assert second.ignored == first.ignored == ("seed for one",)
    assert len(world.ledger.accounts) == 1
    assert (world.shelf.hits, world.shelf.misses) == (1, 1)
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_without_a_rule_the_cache_is_bypassed() -> None:
    world = Cached()
    world.script("one", text("a"), text("b"), lines("text:hi/finish/end/"), text("c"))
    assert said(await world.ask(rule=None)) == ("bypass", "a")
    assert said(await world.ask()) == ("miss", "b")
    assert (await world.read(rule=None))[0] is CacheState.BYPASS
    asked = await world.cached.complete_uncached(TextOperation(), plan_for([PRICED]), call())
    assert (asked.cache, asked.value) == (CacheState.BYPASS, "c")
    assert (world.shelf.hits, world.shelf.misses) == (0, 1)


@in_virtual_time
async def test_keys_differ_even_for_more_targets_than_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cached, "MAX_FIXED_SHAPES", 1)
    world = Cached()
    world.script("one", text("a"))
    world.script("two", text("b"))
    plans = [plan_for([target(name)]) for name in ("one", "two")]
    answers = [said(await world.ask(plan=plan)) for plan in (*plans, *plans)]
    assert answers == [("miss", "a"), ("miss", "b"), ("hit", "a"), ("hit", "b")]


@in_virtual_time
async def test_a_thousand_equal_requests_are_one_call() -> None:
    world = Cached()
    world.script("one", text("hello", delay=5))
    answers = await together(*(world.ask() for _ in range(1000)))
    assert [answer.cache for answer in answers].count(CacheState.MISS) == 1
    assert {said(answer)[1] for answer in answers} == {"hello"}
    assert len(world.transport.sent) == 1
    # Waiting for another request's answer counts as upstream time.
    assert {round(answer.upstream_seconds) for answer in answers} == {5}


@in_virtual_time
async def test_an_answer_too_large_for_memory_still_reaches_the_waiters() -> None:
    world = Cached(max_entries=0)
    world.script("one", text("hello", delay=5), text("again"))
    answers = await together(world.ask(), world.ask())
    assert [said(answer) for answer in answers] == [("miss", "hello"), ("hit", "hello")]
    assert said(await world.ask()) == ("miss", "again")


@pytest.mark.parametrize(
    "change",
    [
        {"question": "another"},
        {"name": "embeddings"},
        {"plan": plan_for([target("two")])},
        {"plan": plan_for([PRICED, target("two")])},
        {"tenant": "other"},
        {"base_url": "https://elsewhere.test"},
        {"credential": "rotated"},
    ],
    ids=str,
)
@in_virtual_time
async def test_every_input_that_determines_the_answer_changes_the_key(
    change: dict[str, Any],
) -> None:
    world = Cached()
    for provider in ("one", "two"):
        world.script(provider, text("a"), text("b"))
    await world.ask()
    asked = call()
    if tenant := change.pop("tenant", None):
        asked = structs.replace(asked, caller=Caller(tenant))
    if base_url := change.pop("base_url", None):
        moved = replace(PRICED.provider, base_url=base_url)
        change["plan"] = plan_for([replace(PRICED, provider=moved)])
    if credential := change.pop("credential", None):
        world.credentials.get = lambda provider: FakeCredential({"authorization": credential})  # type: ignore[method-assign]
    assert (await world.ask(asked=asked, **change)).cache is CacheState.MISS


@in_virtual_time
async def test_inputs_that_do_not_affect_the_answer_do_not_change_the_key() -> None:
    world = Cached()
    two = target("two")
    world.script("one", text("a"))
    world.credentials.missing.add("two")
    await world.ask(plan=plan_for([PRICED, two]))
    other = Call("req_2", Caller("acme", "another key"), call(5).deadline)
    answer = await world.ask(asked=other, plan=RoutePlan((two, PRICED)))
    assert said(answer) == ("hit", "a")


@in_virtual_time
async def test_a_target_that_cannot_serve_the_request_does_not_prevent_caching() -> None:
    world = Cached()
    world.script("two", text("a"))
    plan = plan_for([PRICED, "two"])
    texts = TextOperation(unsupported=frozenset({"one"}))
    assert said(await world.ask(plan=plan, texts=texts)) == ("miss", "a")
    assert said(await world.ask(plan=plan, texts=texts)) == ("hit", "a")


@in_virtual_time
async def test_each_request_limits_the_age_of_the_cached_answer() -> None:
    world = Cached()
    world.script("one", text("a"), text("b"))
    await world.ask()
    await asyncio.sleep(30)
    assert said(await world.ask(rule=CacheRule(31))) == ("hit", "a")
    assert said(await world.ask(rule=CacheRule(30))) == ("miss", "b")
    assert said(await world.ask()) == ("hit", "b")
    await asyncio.sleep(60)
    world.script("one", text("c"))
    assert said(await world.ask()) == ("miss", "c")


@in_virtual_time
async def test_a_refreshing_request_calls_upstream_and_stores_the_answer() -> None:
    shared = FakeShared()
    world = Cached(shared)
    world.script("one", text("a"), text("b"))
    await world.ask()
    assert said(await world.ask(rule=CacheRule(60, reads=False))) == ("miss", "b")
    assert said(await world.ask()) == ("hit", "b")
    assert said(await Cached(shared).ask()) == ("hit", "b")


@in_virtual_time
async def test_an_uncacheable_answer_is_not_shared_and_makes_nobody_wait() -> None:
    world = Cached(FakeShared())
    world.script("one", *(text("cut:length", delay=5) for _ in range(10)))
    answers = await together(*(world.ask() for _ in range(9)))
    assert {said(answer) for answer in answers} == {("miss", "cut")}
    assert [sent.at for sent in world.transport.sent] == [1000, *[1005] * 8]
    assert (await world.ask()).cache is CacheState.MISS
    assert (world.memory.size.entries, world.shelf.hits) == (0, 0)


@in_virtual_time
async def test_a_too_large_answer_is_not_stored() -> None:
    world = Cached()
    world.executor._timeouts = structs.replace(world.executor._timeouts, max_answer_bytes=10**8)
    world.script("one", text("x" * (MAX_ENTRY_BYTES + 1)), text("small"))
    await world.ask()
    assert said(await world.ask()) == ("miss", "small")


@in_virtual_time
async def test_a_failure_of_the_leading_request_is_not_shared() -> None:
    world = Cached(FakeShared())
    world.script("one", Reply(delay=5, fails=MalformedAnswer("x")), text("hello", delay=5))
    answers = await together(*(world.ask() for _ in range(100)))
    assert [type(answer) for answer in answers].count(AllTargetsFailed) == 1
    assert [said(answer) for answer in answers[1:]] == [
        ("miss", "hello"),
        *[("hit", "hello")] * 98,
    ]
    assert len(world.transport.sent) == 2


@in_virtual_time
async def test_requests_do_not_wait_forever_for_leaders_that_fail() -> None:
    world = Cached()
    world.script("one", *(Reply(delay=1, fails=ServerFailed("x")) for _ in range(1000)))
    began = asyncio.get_running_loop().time()
    answers = await together(*(world.ask() for _ in range(100)))
    assert {type(answer) for answer in answers} == {AllTargetsFailed}
    # Three leaders one after another, then each request calls upstream itself.
    assert asyncio.get_running_loop().time() - began < 20
    assert len(world.transport.sent) == 100


@in_virtual_time
async def test_when_the_leading_caller_disconnects_another_request_takes_over() -> None:
    shared = FakeShared()
    world = Cached(shared)
    world.script("one", text("lost", delay=50), text("hello", delay=5))
    leader = asyncio.create_task(world.ask())
    others = [asyncio.create_task(world.ask()) for _ in range(50)]
    await asyncio.sleep(2)
    leader.cancel()
    answers = await together(leader, *others)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert {said(answer)[1] for answer in answers[1:]} == {"hello"}
    assert len(world.transport.sent) == 2
    assert not shared.leases
    assert world.ledger.outcomes[0] == ("one", "cancelled", "")


@in_virtual_time
async def test_a_waiter_that_disconnects_does_not_affect_others() -> None:
    world = Cached()
    world.script("one", text("hello", delay=5))
    tasks = [asyncio.create_task(world.ask()) for _ in range(3)]
    await asyncio.sleep(1)
    tasks[1].cancel()
    first, _, third = await together(*tasks)
    assert (said(first), said(third)) == (("miss", "hello"), ("hit", "hello"))


@in_virtual_time
async def test_a_waiter_keeps_half_of_its_time_for_its_own_call() -> None:
    world = Cached()
    world.script("one", text("late", delay=50), text("mine", delay=3))
    slow = asyncio.create_task(world.ask())
    await asyncio.sleep(0)
    began = asyncio.get_running_loop().time()
    assert said(await world.ask(asked=call(10))) == ("miss", "mine")
    assert asyncio.get_running_loop().time() - began == pytest.approx(8)
    # The first request finishes too; the cache holds the answer that arrived last.
    assert said(await slow) == ("miss", "late")
    assert said(await world.ask()) == ("hit", "late")


@in_virtual_time
async def test_without_time_left_the_deadline_is_exceeded() -> None:
    world = Cached()
    world.script("one", text("late", delay=50), text("never", delay=50))
    slow = asyncio.create_task(world.ask())
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded):
        await world.ask(asked=call(2))
    await slow


@in_virtual_time
async def test_processes_share_one_call() -> None:
    shared = FakeShared()
    worlds = [Cached(shared) for _ in range(4)]
    for world in worlds:
        world.script("one", text("hello", delay=5))
    answers = await together(*(world.ask() for world in worlds for _ in range(250)))
    assert [answer.cache for answer in answers].count(CacheState.MISS) == 1
    assert sum(len(world.transport.sent) for world in worlds) == 1
    assert sum(world.shelf.misses for world in worlds) == 1
    claims = shared.claims
    assert {said(await world.ask()) for world in worlds} == {("hit", "hello")}
    assert shared.claims == claims, "what is in memory is not looked for elsewhere"


@in_virtual_time
async def test_a_lease_that_is_never_released_does_not_block_forever() -> None:
    shared = FakeShared()
    first, second = Cached(shared), Cached(shared)
    first.script("one", text("lost", delay=1000))
    second.script("one", text("hello", delay=5))
    stuck = asyncio.create_task(first.ask(asked=call(2000)))
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    assert said(await second.ask(asked=call(20))) == ("miss", "hello")
    assert asyncio.get_running_loop().time() - began == pytest.approx(15, abs=0.2)
    stuck.cancel()
    await together(stuck)


@in_virtual_time
async def test_an_unavailable_shared_cache_is_ignored() -> None:
    shared = FakeShared()
    shared.is_away = True
    world = Cached(shared)
    world.script("one", text("hello", delay=5))
    answers = await together(world.ask(), world.ask())
    assert [said(answer) for answer in answers] == [("miss", "hello"), ("hit", "hello")]


@in_virtual_time
async def test_a_disconnect_during_the_shared_lookup_lets_another_request_look() -> None:
    shared = FakeShared()
    world = Cached(shared)
    world.script("one", text("hello"))
    first = asyncio.create_task(world.ask())
    second = asyncio.create_task(world.ask())
    await asyncio.sleep(0)
    first.cancel()
    assert said(await second) == ("miss", "hello")


@in_virtual_time
async def test_an_unreadable_entry_is_a_miss_and_is_replaced() -> None:
    shared = FakeShared()
    world = Cached(shared, max_entries=0)
    world.script("one", text("hello"), text("hello again"))
    await world.ask()
    (key,) = shared.answers
    shared.answers[key] = CacheHit(CachedAnswer("one", "m", b""), 0, 60)
    assert said(await world.ask()) == ("miss", "hello again")
    assert said(await world.ask()) == ("hit", "hello again")


@in_virtual_time
async def test_a_stream_is_replayed_unchanged() -> None:
    world = Cached()
    world.script("one", lines("start:/text:Hel", "lo/text:you/", 3.0, "usage:3,4/finish/end/"))
    first = await world.open()
    assert told(first) is None
    sent = await frames(first.value)
    second = await world.open()
    assert (first.cache, second.cache) == (CacheState.MISS, CacheState.HIT)
    assert await frames(second.value) == sent
    assert told(first) == (Usage(3, 4), Decimal("0.011"), 0.0)
    assert told(second) == (Usage(3, 4), Decimal(0), None)
    assert (second.cost, second.attempts) == (Decimal(0), ())
    assert len(world.transport.sent) == 1


@in_virtual_time
async def test_a_stream_that_ended_with_its_connection_is_replayed_too() -> None:
    world = Cached()
    world.script("one", lines("text:hello/finish/"))
    first, second = await world.read(), await world.read()
    assert first[1] == second[1]
    assert second[0] is CacheState.HIT


@in_virtual_time
async def test_a_long_stream_is_replayed_in_pieces() -> None:
    world = Cached()
    long = "/".join(f"text:{number:0100}" for number in range(1000)) + "/finish/end/"
    world.script("one", lines(long))
    _, first = await world.read()
    opened = await world.open()
    batches = [await opened.value.__anext__() for _ in range(7)]
    assert [frame for batch in batches for frame in batch] == first
    assert all(len(batch) < 200 for batch in batches)


@in_virtual_time
async def test_a_thousand_equal_streams_are_one_call() -> None:
    world = Cached(FakeShared())
    world.script("one", lines("text:a/", 2.0, "text:b/finish/end/", delay=2))
    found = await together(*(world.read() for _ in range(1000)))
    assert len(world.transport.sent) == 1
    assert [state for state, _ in found].count(CacheState.HIT) == 999
    assert all(replayed == found[0][1] for _, replayed in found)


@pytest.mark.parametrize(
    ("chunks", "keeps_tool_calls", "is_kept"),
    [
        (("text:a/finish/end/",), False, True),
        (("call/finish/end/",), False, False),
        (("call/finish/end/",), True, True),
        (("refuse:no/finish/end/",), False, False),
        (("text:a/finish/", "x" * MAX_ENTRY_BYTES + "/", "end/"), False, False),
    ],
    ids=["text", "call", "call, asked for", "refusal", "too large"],
)
@in_virtual_time
async def test_only_a_complete_stream_is_stored(
    chunks: tuple[str, ...], keeps_tool_calls: bool, is_kept: bool
) -> None:
    world = Cached()
    world.script("one", lines(*chunks), lines(*chunks))
    rule = CacheRule(60, keeps_tool_calls=keeps_tool_calls)
    await world.read(rule)
    assert (await world.read(rule))[0] is (CacheState.HIT if is_kept else CacheState.MISS)


@in_virtual_time
async def test_a_broken_or_abandoned_stream_is_not_stored_and_another_request_takes_over() -> None:
    shared = FakeShared()
    world = Cached(shared)
    world.script("one", lines("text:a/", 1.0, "text:b/"), lines("text:a/", 1.0, "finish/end/"))
    world.script("one", lines("text:a/finish/end/"))
    broken = await world.open()
    waiting = asyncio.create_task(world.open())
    with pytest.raises(TruncatedStream):
        await frames(broken.value)
    assert not waiting.done()
    left = await waiting
    waiting = asyncio.create_task(world.open())
    await left.value.__anext__()
    await left.value.aclose()
    await left.value.aclose()
    assert (await waiting).cache is CacheState.MISS
    await (await waiting).value.aclose()
    assert len(world.transport.sent) == 3
    assert not shared.leases
    assert (world.memory.size.entries, shared.answers) == (0, {})


@in_virtual_time
async def test_a_stream_that_fails_to_open_leaves_no_request_waiting() -> None:
    world = Cached(FakeShared())
    world.script("one", Reply(delay=1, fails=MalformedAnswer("x")))
    world.script("one", lines("text:a/finish/end/"))
    failed, good = await together(world.open(), world.read())
    assert isinstance(failed, AllTargetsFailed)
    assert good[0] is CacheState.MISS


@in_virtual_time
async def test_an_unreadable_stream_is_a_miss() -> None:
    world = Cached()
    world.script("one", *(lines("text:a/finish/end/") for _ in range(2)))
    await world.read()
    with pytest.raises(AllTargetsFailed):
        await world.open(old=True)
    assert world.shelf.hits == 0
    assert len(world.transport.sent) == 2


@pytest.mark.parametrize("shared", [None, FakeShared()])
@in_virtual_time
async def test_closing_the_cache_closes_the_shared_cache(shared: FakeShared | None) -> None:
    closed = []

    async def close() -> None:
        closed.append(shared)

    if shared is not None:
        shared.aclose = close  # type: ignore[method-assign]
    await Cached(shared).shelf.aclose()
    assert closed == ([] if shared is None else [shared])


@in_virtual_time
async def test_an_answer_of_two_targets_is_not_stored() -> None:
    world = Cached()
    plan = plan_for(
        [with_prefill(target(name)) for name in ("one", "two")],
        stream_recovery=StreamRecovery.CONTINUE,
    )
    world.script("one", lines("text:a/", ConnectionLost("Cut.")), lines("text:a/finish/end/"))
    world.script("two", lines("text: b/finish/end/"))
    for state in (CacheState.MISS, CacheState.MISS, CacheState.HIT):
        answer = await world.cached.open_stream(Chat("stream!"), plan, call(), (RULE,))
        assert await frames(answer.value)
        assert answer.cache is state
        assert len(answer.value.attempts) == (2 if len(world.transport.sent) == 2 else 0)
        await answer.value.aclose()
