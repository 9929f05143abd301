"""The cached executor: single-flight, hits, replayed streams and shared caches."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from msgspec import structs

from llm_routing.core.attempts.calls import Call
from llm_routing.core.cached_answer import CachedAnswer
from llm_routing.core.caching import executor as cached
from llm_routing.core.caching.ports import CacheHit
from llm_routing.core.caching.rules import MAX_ENTRY_BYTES, CacheRule
from llm_routing.core.planner import RoutePlan
from llm_routing.core.types import CacheState, Caller
from tests.core.fakes import FakeCredential, call, lines, plan_for, target, text
from tests.core.text_operation import TextOperation
from tests.core.virtual_time import in_virtual_time

from .cached_world import PRICED, Cached, FakeShared, said


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
async def test_other_tasks_run_between_the_targets_of_a_large_request() -> None:
    """The key of the cache has the request as it is written for each target."""
    world = Cached()
    world.script("one", text("a"))
    world.script("two", text("b"))
    asking = asyncio.create_task(
        world.ask("x" * (cached.MAX_TURN_BYTES + 1), plan=plan_for(["one", "two"]))
    )
    turns = 0
    while not world.transport.sent:
        await asyncio.sleep(0)
        turns += 1
    assert turns > 2
    assert said(await asking)[0] == "miss"


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
async def test_a_too_large_answer_is_not_stored() -> None:
    world = Cached(max_answer_bytes=10**8)
    world.script("one", text("x" * (MAX_ENTRY_BYTES + 1)), text("small"))
    await world.ask()
    assert said(await world.ask()) == ("miss", "small")


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
