"""Tokens, cost and error in the usage record of an attempt."""

from contextlib import suppress
from decimal import Decimal

import pytest

from llm_routing.core.errors import AllTargetsFailed, ConnectionLost, RequestRejected
from llm_routing.core.events import UsageReported
from llm_routing.core.pricing import Price
from llm_routing.core.routing_table import StreamRecovery
from llm_routing.core.types import CostSource, Usage
from tests.core.fakes import (
    FakeCredential,
    World,
    call,
    lines,
    plan_for,
    refusal,
    target,
    text,
    with_prefill,
)
from tests.core.text_operation import TextOperation
from tests.core.virtual_time import in_virtual_time

THREE = Price(Decimal(3), Decimal(15))
EMBEDDING = Price(Decimal(2))


class Silent(TextOperation):
    """An operation whose answers are not text, such as a vector or a number."""

    def usage(self, result: str) -> Usage:
        return super().usage(result) or Usage()

    def output_length(self, result: str) -> int:
        return 0


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        ("Hi|3,4", Usage(3, 4)),
        # A count of zero beside actual text is treated as missing. The prompt has 400 characters.
        ("Hi|0,0", Usage(100, 2, estimated=True)),
        ("Hi|3,0", Usage(3, 2, estimated=True)),
        ("Hi|0,4", Usage(100, 4, estimated=True)),
        ("Hi", Usage(100, 1, estimated=True)),
    ],
)
@in_virtual_time
async def test_a_token_count_of_zero_for_a_nonempty_answer_is_estimated(
    body: str, usage: Usage
) -> None:
    world = World()
    world.script("a", text(body))
    await world.executor.complete(TextOperation(), plan_for([target("a", THREE)]), call())
    (settled,) = world.ledger.ends
    assert settled.usage == usage
    source = CostSource.ESTIMATED if usage.estimated else CostSource.PRICE_LIST
    assert settled.cost_source is source


@in_virtual_time
async def test_a_stream_reports_the_estimated_usage_to_the_caller() -> None:
    world = World()
    world.script("a", lines("start/text:Hi/usage:0,0/finish/end"))
    result = await world.executor.open_stream(TextOperation(), plan_for(["a"]), call())
    frames = [frame async for batch in result.value for frame in batch]
    reports = [e.usage for f in frames for e in f.events if isinstance(e, UsageReported)]
    assert reports == [Usage(0, 0), Usage(100, 1, estimated=True)]
    assert frames[-1].raw == b"end"


@in_virtual_time
async def test_an_unbilled_operation_costs_nothing_whatever_its_outcome() -> None:
    for reply in (text("14"), refusal(500, "Down."), lines(100.0)):
        world = World()
        world.script("a", reply)
        counting = Silent("count_tokens", is_billed=False)
        plan = plan_for([target("a", THREE)])
        with suppress(AllTargetsFailed):
            await world.executor.complete(counting, plan, call())
        (settled,) = world.ledger.ends
        assert settled.opened.input_tokens == 0
        assert not settled.cost
        assert settled.usage is None or settled.usage.total_tokens == 0


@in_virtual_time
async def test_an_answer_without_output_tokens_needs_no_output_price() -> None:
    world = World()
    world.script("a", text("|1000,0"), text("|1000,1"))
    for expected in (Decimal("0.002"), None):
        embedding = Silent("embeddings")
        plan = plan_for([target("a", EMBEDDING)])
        await world.executor.complete(embedding, plan, call())
        settled = world.ledger.ends[-1]
        assert settled.cost == expected
        assert (settled.cost_source is None) is (expected is None)


@in_virtual_time
async def test_a_failure_is_recorded_with_its_message_and_the_vendor_s_request_id() -> None:
    world = World()
    reply = refusal(400, "Bad `max_tokens` in 'Tell Ann'.", x_request_id="req_9", retry_after="3")
    world.script("a", reply)
    with pytest.raises(RequestRejected) as caught:
        await world.executor.complete(TextOperation(), plan_for(["a"]), call())
    (settled,) = world.ledger.ends
    assert settled.error_message == "Bad `max_tokens` in '…'."
    assert settled.upstream_request_id == "req_9"
    assert caught.value.upstream_headers == {
        "x-upstream-request-id": "req_9",
        "x-upstream-retry-after": "3",
    }


@in_virtual_time
async def test_a_response_header_that_contains_our_key_is_not_forwarded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    monkeypatch.setattr(
        world.credentials,
        "get",
        lambda _: FakeCredential({"authorization": "Bearer 0123456789"}),
    )
    reply = refusal(500, x_request_id="req_1", x_ratelimit_key="0123456789 is used up")
    world.script("a", reply)
    with pytest.raises(AllTargetsFailed) as caught:
        await world.executor.complete(TextOperation(), plan_for(["a"]), call())
    assert not caught.value.upstream_headers
    assert world.ledger.ends[0].upstream_request_id == ""


@in_virtual_time
async def test_headers_of_the_last_failure_are_forwarded() -> None:
    world = World()
    world.script("a", refusal(500, x_request_id="req_a"))
    world.script("b", refusal(500, x_request_id="req_b"))
    with pytest.raises(AllTargetsFailed) as caught:
        await world.executor.complete(TextOperation(), plan_for(["a", "b"]), call())
    assert caught.value.upstream_headers == {"x-upstream-request-id": "req_b"}
    assert [settled.upstream_request_id for settled in world.ledger.ends] == ["req_a", "req_b"]


@pytest.mark.parametrize("tail", ["usage:5,2/finish/end", "usage:0,0/finish/end", "finish/end"])
@in_virtual_time
async def test_the_cost_of_a_continued_answer_is_the_sum_of_its_attempts(tail: str) -> None:
    world = World()
    world.script("a", lines("start/text:Hello,", ConnectionLost("Cut.")))
    world.script("b", lines(f"start/text: world/{tail}"))
    targets = [with_prefill(target(name, THREE)) for name in ("a", "b")]
    plan = plan_for(targets, stream_recovery=StreamRecovery.CONTINUE)
    result = await world.executor.open_stream(TextOperation(), plan, call())
    frames = [frame async for batch in result.value for frame in batch]
    reports = [e.usage for f in frames for e in f.events if isinstance(e, UsageReported)]
    usages = [settled.usage for settled in world.ledger.ends]
    costs = [settled.cost for settled in world.ledger.ends]
    assert len(usages) == 2
    told = (reports[-1].input_tokens, reports[-1].output_tokens)
    assert told == tuple(
        sum(getattr(usage, name) for usage in usages) for name in ("input_tokens", "output_tokens")
    )
    account = result.value.account
    assert account is not None
    assert account.usage == reports[-1]
    assert account.cost == sum(cost for cost in costs if cost is not None)


@in_virtual_time
async def test_both_attempts_of_a_hedged_request_are_recorded() -> None:
    world = World()
    world.expect(1.0, ["a", "b"])
    world.script("a", lines(50.0))
    world.script("b", text("Hi|5,2"))
    plan = plan_for([target("a", THREE), target("b", THREE)], is_hedged=True)
    await world.executor.complete(TextOperation(), plan, call())
    found = {settled.opened.provider: settled for settled in world.ledger.ends}
    assert found["b"].usage == Usage(5, 2)
    lost = found["a"]
    assert (lost.usage, lost.cost_source) == (Usage(100, 0, estimated=True), CostSource.ESTIMATED)
