"""The request that is sent to a provider, and its usage record."""

import asyncio
from decimal import Decimal

import pytest

from llm_routing.core.errors import (
    ConnectionFailed,
    ConnectionLost,
    DeadlineExceeded,
    UpstreamError,
)
from llm_routing.core.planner import RoutePlan
from llm_routing.core.routing_table import Price
from llm_routing.core.types import Caller, Usage
from tests.core.fakes import (
    MAX_ANSWER_BYTES,
    Reply,
    World,
    call,
    failing,
    lines,
    plan_for,
    refusal,
    target,
    text,
)
from tests.core.text_operation import TextOperation
from tests.core.virtual_time import in_virtual_time

PRICE = Price(Decimal(3), Decimal(15))
OPERATION = TextOperation()


@in_virtual_time
async def test_a_request_is_sent_to_the_provider_s_url_with_its_key_and_limits() -> None:
    world = World(connect=5)
    world.script("a", text("Hello"))
    world.script("b", refusal(500))
    plan = plan_for([target("b", connect_timeout=0.5), "a"])
    await world.executor.complete(OPERATION, plan, call())
    at_b, at_a = world.transport.sent
    assert (at_a.method, at_a.url, at_a.body) == ("POST", "https://a.test/ask/m", b"question")
    assert at_a.headers == {"content-type": "text/plain", "authorization": "key of a"}
    assert at_b.headers["authorization"] == "key of b"
    assert (at_a.connect_timeout, at_b.connect_timeout) == (5, 0.5)
    assert world.transport.answers[1].caps == [MAX_ANSWER_BYTES]


@in_virtual_time
async def test_a_record_names_caller_route_and_target() -> None:
    world = World()
    world.script("a", text("Hello|3,4", delay=2))
    plan = plan_for([target("a", PRICE)])
    result = await world.executor.complete(OPERATION, plan, call())
    (opened,), (settled,) = world.ledger.accounts, world.ledger.ends
    assert (opened.request_id, opened.caller) == ("req_1", Caller("acme", "laptop"))
    assert (opened.operation, opened.use_case, opened.tier) == ("chat", "debugging", "premium")
    assert (opened.provider, opened.model, opened.number) == ("a", "m", 1)
    assert opened.started_at.isoformat() == "2026-01-01T00:00:00+00:00"
    assert settled is result.attempt.settled
    assert (settled.outcome, settled.error_code, settled.status) == ("success", "", 200)
    assert settled.usage == Usage(3, 4)
    assert settled.cost == Decimal("0.000069")
    assert settled.latency_ms == pytest.approx(2000)
    assert settled.time_to_first_token_ms is None
    assert result.upstream_seconds == pytest.approx(2)


@in_virtual_time
async def test_the_record_of_a_directly_addressed_model_has_no_route() -> None:
    world = World()
    world.script("a", text("Hello"))
    await world.executor.complete(OPERATION, RoutePlan((target("a"),)), call())
    assert (world.ledger.accounts[0].use_case, world.ledger.accounts[0].tier) == ("", "")


@in_virtual_time
async def test_tokens_are_estimated_if_the_vendor_does_not_count_them() -> None:
    world = World()
    world.script("a", text("x" * 41))
    await world.executor.complete(OPERATION, plan_for([target("a", PRICE)]), call())
    assert world.ledger.ends[0].usage == Usage(100, 11, estimated=True)
    assert world.ledger.ends[0].cost == Decimal("0.000465")


@in_virtual_time
async def test_a_model_without_a_price_has_usage_but_no_cost() -> None:
    world = World()
    world.script("a", text("Hello|3,4"))
    await world.executor.complete(OPERATION, plan_for("a"), call())
    assert world.ledger.ends[0].usage == Usage(3, 4)
    assert world.ledger.ends[0].cost is None


@pytest.mark.parametrize(
    ("reply", "usage"),
    [
        (failing(ConnectionFailed("Refused.")), None),
        (refusal(500), None),
        (Reply((ConnectionLost("Cut."),)), Usage(100, 0, estimated=True)),
        (Reply((100.0,)), Usage(100, 0, estimated=True)),
        (Reply(), Usage(100, 0, estimated=True)),
    ],
)
@in_virtual_time
async def test_a_failure_has_usage_if_the_vendor_may_bill_for_it(
    reply: Reply, usage: Usage | None
) -> None:
    world = World()
    world.script("a", reply)
    world.script("b", text("Hello"))
    await world.executor.complete(OPERATION, plan_for([target("a", PRICE), "b"]), call())
    assert world.ledger.ends[0].usage == usage
    assert (world.ledger.ends[0].cost is None) is (usage is None)


@pytest.mark.parametrize(
    "reply",
    [
        text("Hello", delay=50),
        Reply((b"Hel", 50.0)),
        Reply((50.0,), status=500),
        lines("start", 50.0),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
@in_virtual_time
async def test_a_disconnect_settles_the_attempt_once_and_closes_the_response(
    reply: Reply, streaming: bool
) -> None:
    world = World()
    world.script("a", refusal(500))
    world.script("b", Reply(reply.chunks, reply.status, delay=reply.delay))
    run = world.executor.open_stream if streaming else world.executor.complete
    task = asyncio.ensure_future(run(OPERATION, plan_for("abc"), call()))
    await asyncio.sleep(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.ledger.outcomes == [
        ("a", "failure", "server_failed"),
        ("b", "cancelled", ""),
    ]
    assert world.ledger.ends[1].usage == Usage(100, 0, estimated=True)
    world.assert_accounts_are_closed()


@pytest.mark.parametrize("streaming", [False, True])
@in_virtual_time
async def test_a_request_that_was_never_sent_has_no_usage(streaming: bool) -> None:
    world = World()
    world.script("a", Reply((b"Hello",), connects_after=50))
    run = world.executor.open_stream if streaming else world.executor.complete
    task = asyncio.ensure_future(run(OPERATION, plan_for("a"), call()))
    await asyncio.sleep(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    world.script("a", Reply((b"Hello",), connects_after=50))
    with pytest.raises(DeadlineExceeded):
        await run(OPERATION, plan_for("a"), call(5))
    codes = [("a", "cancelled", ""), ("a", "failure", "cut_by_deadline")]
    assert world.ledger.outcomes == codes
    assert [(end.usage, end.cost) for end in world.ledger.ends] == [(None, None)] * 2


@in_virtual_time
async def test_a_disconnect_between_attempts_leaves_nothing_open() -> None:
    world = World(retries=1)
    world.script("a", refusal(429, retry_after="30"))
    task = asyncio.ensure_future(world.executor.complete(OPERATION, plan_for("a"), call()))
    await asyncio.sleep(10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.ledger.outcomes == [("a", "failure", "rate_limited")]
    world.assert_accounts_are_closed()


@pytest.mark.parametrize("streaming", [False, True])
@in_virtual_time
async def test_an_internal_error_is_raised_unchanged_and_its_attempt_is_settled(
    streaming: bool,
) -> None:
    world = World()
    world.script("a", text("bug"))
    run = world.executor.open_stream if streaming else world.executor.complete
    with pytest.raises(ZeroDivisionError):
        await run(OPERATION, plan_for("ab"), call())
    assert world.ledger.outcomes == [("a", "cancelled", "")]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_settled_attempt_cannot_be_settled_again() -> None:
    world = World()
    world.script("a", text("Hello|3,4"))
    attempt = (await world.executor.complete(OPERATION, plan_for("a"), call())).attempt
    attempt.cancel()
    attempt.fail(ConnectionLost("Cut."))
    attempt.succeed(None, 1)
    assert world.ledger.outcomes == [("a", "success", "")]
    assert attempt.settled is world.ledger.ends[0]


@in_virtual_time
async def test_errors_do_not_share_their_attempts() -> None:
    errors: list[UpstreamError] = []
    for _ in range(2):
        world = World()
        world.script("a", refusal(400))
        with pytest.raises(UpstreamError) as caught:
            await world.executor.complete(OPERATION, plan_for("a"), call())
        errors.append(caught.value)
    assert [len(error.attempts) for error in errors] == [1, 1]
    assert UpstreamError.attempts == ()
