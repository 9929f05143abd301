"""Idempotency keys: syntax, scope and replay."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from msgspec import structs

from llm_routing.core.cached_answer import CachedAnswer
from llm_routing.core.caching.executor import CachedResult
from llm_routing.core.caching.idempotency import (
    IdempotencyRule,
    idempotency,
    idempotency_rule,
    unquoted,
)
from llm_routing.core.caching.keys import owner_of
from llm_routing.core.caching.rules import MAX_ENTRY_BYTES, CacheRule
from llm_routing.core.caching.single_flight import Rule
from llm_routing.core.caching.streams import ReplayedStream
from llm_routing.core.errors import (
    AllTargetsFailed,
    DeadlineExceeded,
    IdempotencyKeyReused,
    InvalidRequest,
    MalformedAnswer,
    ServerFailed,
    TruncatedStream,
)
from llm_routing.core.planner import RoutePlan
from llm_routing.core.ports import FrameStream
from llm_routing.core.types import Completion, Idempotency, Usage
from tests.core.fakes import Reply, call, failing, lines, plan_for, target, text
from tests.core.text_operation import LineParser
from tests.core.virtual_time import in_virtual_time

from .cached_world import PRICED, Cached, Chat, FakeShared, frames, together

KEEP = 3600.0


def rule(
    key: str = "k", body: str = "question", tenant: str = "acme", ttl: float = KEEP
) -> IdempotencyRule:
    asked = idempotency(key, "POST /v1/chat/completions", [body])
    found = idempotency_rule(asked, tenant, ttl, b"secret")
    assert found is not None
    return found


async def ask(
    world: Cached,
    *rules: Rule,
    question: str = "question",
    plan: RoutePlan | None = None,
    seconds: float = 120,
    **operation: Any,
) -> CachedResult[Completion]:
    return await world.cached.complete(
        Chat(question, **operation), plan or plan_for([PRICED]), call(seconds), rules or (rule(),)
    )


async def open_stream(
    world: Cached, *rules: Rule, seconds: float = 120
) -> CachedResult[FrameStream]:
    return await world.cached.open_stream(
        Chat("stream!"), plan_for([PRICED]), call(seconds), rules or (rule(),)
    )


def said(answer: CachedResult[Completion]) -> tuple[str, bool, str]:
    return answer.cache.value, answer.replayed, answer.value.choices[0].text


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("8e03978e-40d5", "8e03978e-40d5"),
        ('"8e03978e-40d5"', "8e03978e-40d5"),
        (r'"a \"b\" \\c"', r'a "b" \c'),
        ('""', ""),
        ('"open', '"open'),
        ('"a"b"', '"a"b"'),
        (r'"a\b"', r'"a\b"'),
        ('"a";p=1', '"a";p=1'),
        ('"a, b"', "a, b"),
    ],
)
def test_a_key_may_be_a_structured_field_string_or_bare(header: str, key: str) -> None:
    assert unquoted(header) == key


@pytest.mark.parametrize("key", ["k", "k" * 255, "stainless-python-retry-8e03978e", 'a "b" ~'])
def test_a_key_is_printable_ascii(key: str) -> None:
    assert idempotency(key, "s", ["body"]).key == key


@pytest.mark.parametrize("key", ["", "k" * 256, "ключ", "a\tb", "a\n", "\x7f"])
def test_any_other_key_is_rejected_without_quoting_it(key: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 255 characters") as caught:
        idempotency(key, "s", ["body"])
    assert caught.value.field == "idempotency-key"


@pytest.mark.parametrize("header", ["a,b", "a, b", '"a","b"', '"a", b', ","])
def test_several_keys_are_rejected(header: str) -> None:
    with pytest.raises(InvalidRequest, match="one Idempotency-Key") as caught:
        unquoted(header)
    assert caught.value.field == "idempotency-key"


def test_the_key_is_not_in_representations() -> None:
    assert "hunter2" not in repr(idempotency("hunter2", "s", ["body"]))
    assert rule().key not in repr(rule())


@pytest.mark.parametrize("asked", [None, idempotency("k", "s", ["body"])])
def test_without_a_key_or_a_lifetime_there_is_no_rule(asked: Idempotency | None) -> None:
    assert idempotency_rule(asked, "acme", 0, b"secret") is None
    assert (idempotency_rule(asked, "acme", 60, b"secret") is None) is (asked is None)


def test_keys_are_separated_by_tenant_endpoint_and_secret() -> None:
    one = idempotency("k", "POST /one", ["body"])
    rules = [
        idempotency_rule(one, "acme", 60, b"secret"),
        idempotency_rule(one, "other", 60, b"secret"),
        idempotency_rule(one, "acme", 60, b"another"),
        idempotency_rule(structs.replace(one, scope="POST /two"), "acme", 60, b"secret"),
        idempotency_rule(structs.replace(one, key="l"), "acme", 60, b"secret"),
    ]
    assert len({found.key for found in rules if found}) == 5
    other_body = idempotency_rule(idempotency("k", "POST /one", ["x"]), "acme", 60, b"secret")
    assert rules[0] is not None
    assert other_body is not None
    assert other_body.key == rules[0].key
    assert other_body.fingerprint != rules[0].fingerprint


@in_virtual_time
async def test_a_repeated_request_gets_the_same_answer_without_cost() -> None:
    world = Cached()
    world.script("one", text("hello|3,4"), text("another"))
    first = await ask(world)
    await asyncio.sleep(60)
    second = await ask(world)
    assert said(first) == ("bypass", False, "hello")
    assert said(second) == ("bypass", True, "hello")
    assert second.value == first.value
    assert (first.cost, second.cost) == (Decimal("0.011"), Decimal(0))
    assert (second.attempts, second.ignored) == ((), first.ignored)
    assert second.created == first.created > 0
    assert said(await ask(world, rule("l"))) == ("bypass", False, "another")
    assert len(world.ledger.accounts) == 2


@in_virtual_time
async def test_a_different_request_with_the_same_key_is_rejected() -> None:
    shared = FakeShared()
    world = Cached(shared)
    world.script("one", text("hello"), text("of another tenant"))
    await ask(world)
    with pytest.raises(IdempotencyKeyReused):
        await ask(world, rule(body="another"))
    with pytest.raises(IdempotencyKeyReused):
        await ask(Cached(shared), rule(body="another"))
    elsewhere = await ask(world, rule(body="another", tenant="other"))
    assert said(elsewhere) == ("bypass", False, "of another tenant")
    assert said(await ask(world))[1:] == (True, "hello")


@in_virtual_time
async def test_requests_waiting_behind_a_rejected_one_are_served() -> None:
    shared = FakeShared()
    first = Cached(shared)
    first.script("one", text("hello"))
    await ask(first)
    second = Cached(shared)
    refused, served = await together(ask(second, rule(body="another")), ask(second))
    assert isinstance(refused, IdempotencyKeyReused)
    assert said(served) == ("bypass", True, "hello")


@pytest.mark.parametrize("body", ["cut:length", "no:content_filter", "call:tool_calls"])
@in_virtual_time
async def test_every_whole_answer_is_stored_whatever_its_finish_reason(body: str) -> None:
    world = Cached()
    world.script("one", text(body))
    first = await ask(world)
    assert (await ask(world)).value == first.value


@in_virtual_time
async def test_a_failure_releases_the_key() -> None:
    world = Cached(FakeShared())
    world.script("one", failing(MalformedAnswer("x")))
    world.script("one", text("hello"))
    with pytest.raises(AllTargetsFailed):
        await ask(world)
    assert said(await ask(world, rule(body="mended"))) == ("bypass", False, "hello")


@in_virtual_time
async def test_fifty_concurrent_requests_in_several_processes_are_one_call() -> None:
    shared = FakeShared()
    worlds = [Cached(shared) for _ in range(5)]
    for world in worlds:
        world.script("one", text("hello", delay=50))
    answers = await together(*(ask(world) for world in worlds for _ in range(10)))
    assert [answer.replayed for answer in answers].count(False) == 1
    assert {said(answer)[2] for answer in answers} == {"hello"}
    assert sum(len(world.transport.sent) for world in worlds) == 1


@in_virtual_time
async def test_whenever_the_leading_request_fails_or_disconnects_the_next_one_takes_over() -> None:
    world = Cached(FakeShared())
    for _ in range(5):
        world.script("one", Reply(delay=1, fails=MalformedAnswer("x")))
    world.script("one", text("hello", delay=1))
    answers = await together(*(ask(world) for _ in range(20)))
    assert [type(answer) for answer in answers[:5]] == [AllTargetsFailed] * 5
    assert {said(answer) for answer in answers[6:]} == {("bypass", True, "hello")}
    assert len(world.transport.sent) == 6


@pytest.mark.parametrize("is_elsewhere", [False, True])
@in_virtual_time
async def test_a_waiter_has_its_own_deadline_and_never_calls_upstream_itself(
    is_elsewhere: bool,
) -> None:
    shared = FakeShared()
    first = Cached(shared)
    first.script("one", text("hello", delay=50))
    second = Cached(shared) if is_elsewhere else first
    slow = asyncio.create_task(ask(first))
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded, match="idempotency key"):
        await ask(second, seconds=10)
    assert asyncio.get_running_loop().time() - began == pytest.approx(10, abs=0.2)
    patient = await ask(second, seconds=100)
    assert (said(patient), said(await slow)) == (
        ("bypass", True, "hello"),
        ("bypass", False, "hello"),
    )
    assert len(first.transport.sent) == 1
    assert second is first or not second.transport.sent


@in_virtual_time
async def test_an_unavailable_store_is_ignored_and_the_process_memory_is_used() -> None:
    shared = FakeShared()
    shared.is_away = True
    world, other = Cached(shared), Cached(shared)
    world.script("one", text("hello"))
    other.script("one", text("asked again"))
    await ask(world)
    assert said(await ask(world)) == ("bypass", True, "hello")
    assert said(await ask(other)) == ("bypass", False, "asked again")


@in_virtual_time
async def test_an_answer_expires_after_its_lifetime() -> None:
    world = Cached()
    world.script("one", text("hello"), text("anew"))
    await ask(world)
    await asyncio.sleep(KEEP - 1)
    assert said(await ask(world)) == ("bypass", True, "hello")
    await asyncio.sleep(2)
    assert said(await ask(world, rule(body="another"))) == ("bypass", False, "anew")


@in_virtual_time
async def test_an_answer_outlives_the_target_that_gave_it() -> None:
    world = Cached()
    world.script("one", text("hello"))
    first = await ask(world)
    for moved in (target("two"), replace(PRICED, provider=replace(PRICED.provider, format="x"))):
        second = await ask(world, plan=plan_for([moved]))
        assert said(second) == ("bypass", True, "hello")
        assert second.target.provider.format == first.target.provider.format
        assert second.target.model.key == first.target.model.key


@in_virtual_time
async def test_a_too_large_answer_is_not_stored_and_waiters_call_upstream_themselves() -> None:
    world = Cached(max_answer_bytes=10**8)
    world.script("one", text("x" * (MAX_ENTRY_BYTES + 1), delay=1), text("mine"))
    _, second = await together(ask(world), ask(world))
    assert said(second) == ("bypass", False, "mine")


@in_virtual_time
async def test_an_unreadable_answer_is_requested_again() -> None:
    world = Cached()
    world.script("one", text("hello"), text("x"), text("x"))
    await ask(world)
    with pytest.raises(AllTargetsFailed):
        await ask(world, old=True)


def test_a_stored_stream_that_cannot_be_read_to_its_end_is_refused_at_once() -> None:
    answer = CachedAnswer("a", "m", b"text:Hi\nerror\n")
    with pytest.raises(ServerFailed):
        ReplayedStream(answer, LineParser())


@in_virtual_time
async def test_the_response_cache_is_used_behind_the_idempotency_key() -> None:
    world = Cached()
    world.script("one", text("hello"))
    both: Sequence[Rule] = (rule(), CacheRule(60))
    first, again = await ask(world, *both), await ask(world, *both)
    cached, replayed = await ask(world, rule("l"), CacheRule(60)), await ask(world, rule("l"))
    assert [said(answer)[:2] for answer in (first, again, cached, replayed)] == [
        ("miss", False),
        ("bypass", True),
        ("hit", False),
        ("bypass", True),
    ]
    assert {answer.created for answer in (first, again, cached, replayed)} == {first.created}
    assert len(world.transport.sent) == 1


@in_virtual_time
async def test_a_stream_is_replayed_as_a_stream() -> None:
    world = Cached(FakeShared())
    world.script("one", lines("start:/text:Hel", "lo/call/", 3.0, "usage:3,4/finish/end/"))
    first = await open_stream(world)
    second = asyncio.create_task(open_stream(world))
    sent = await frames(first.value)
    replayed = await second
    assert await frames(replayed.value) == sent
    assert (first.replayed, replayed.replayed) == (False, True)
    assert replayed.value.account is not None
    assert replayed.value.account.usage == Usage(3, 4)
    assert (replayed.cost, replayed.attempts) == (Decimal(0), ())
    assert len(world.transport.sent) == 1


@in_virtual_time
async def test_a_stream_is_stored_under_the_key_and_in_the_response_cache() -> None:
    world = Cached()
    world.script("one", lines("text:a/finish/end/"))
    first = await open_stream(world, rule(), CacheRule(60))
    sent = await frames(first.value)
    for rules in ([rule()], [CacheRule(60)], [rule("l"), CacheRule(60)], [rule("l")]):
        opened = await open_stream(world, *rules)
        assert await frames(opened.value) == sent
    assert len(world.transport.sent) == 1


@in_virtual_time
async def test_a_broken_or_abandoned_stream_releases_the_key() -> None:
    shared = FakeShared()
    world = Cached(shared)
    world.script("one", lines("text:a/", 1.0), lines("text:b/", 1.0, "finish/end/"))
    world.script("one", lines("text:c/finish/end/"))
    cut = await open_stream(world)
    waiting = asyncio.create_task(open_stream(world))
    with pytest.raises(TruncatedStream):
        await frames(cut.value)
    left = await waiting
    await left.value.__anext__()
    await left.value.aclose()
    third = await open_stream(world)
    assert not third.replayed
    await frames(third.value)
    assert (await open_stream(world)).replayed
    assert len(world.transport.sent) == 3
    assert not shared.leases


def test_a_stored_key_names_its_tenant() -> None:
    def owner(tenant: str, key: str) -> str:
        rule = idempotency_rule(idempotency(key, "POST /x", [b"body"]), tenant, 60, b"secret")
        assert rule is not None
        return owner_of(rule.key)

    assert owner("acme", "one") == owner("acme", "two")
    assert owner("acme", "one") != owner("globex", "one") != ""
