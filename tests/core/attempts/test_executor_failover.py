"""Retries, failover and the final error of a chain of targets."""

from dataclasses import replace

import pytest

from llm_routing.core.attempts.latency import MIN_CALLS
from llm_routing.core.attempts.retry import BACKOFF_BASE, RATE_LIMIT_BACKOFF_BASE
from llm_routing.core.errors import (
    AllTargetsFailed,
    AnswerTooLarge,
    ConnectionFailed,
    ConnectionLost,
    ConnectTimeout,
    ContentFiltered,
    ContextTooLong,
    MalformedAnswer,
    NoTargetAvailable,
    RateLimited,
    RequestRejected,
    UnsupportedRequest,
    UpstreamError,
)
from llm_routing.core.planner import RoutePlan
from llm_routing.core.routing_table import RouteSpec
from tests.core.fakes import (
    MAX_ANSWER_BYTES,
    Reply,
    World,
    call,
    failing,
    plan_for,
    refusal,
    target,
    text,
)
from tests.core.text_operation import TextOperation
from tests.core.virtual_time import in_virtual_time

OPERATION = TextOperation()


@in_virtual_time
async def test_without_retries_a_failed_target_is_skipped_at_once_and_listed() -> None:
    world = World()
    world.script("a", refusal(500))
    world.script("b", failing(ConnectionFailed("Refused.")))
    world.script("c", text("Hello"))
    result = await world.executor.complete(OPERATION, plan_for("abc"), call())
    assert result.value == "Hello"
    assert [(tried.provider, tried.outcome, tried.error_code) for tried in result.attempts] == [
        ("a", "failure", "server_failed"),
        ("b", "failure", "connection_failed"),
        ("c", "success", ""),
    ]
    assert result.ignored == ("seed for c",)
    assert len({sent.at for sent in world.transport.sent}) == 1
    assert [account.number for account in world.ledger.accounts] == [1, 2, 3]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_failed_target_is_retried_once_after_a_backoff_then_the_next_is_called() -> None:
    world = World(retries=9)
    world.script("a", refusal(500), refusal(503))
    world.script("b", refusal(529), text("Hello"))
    result = await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert result.value == "Hello"
    assert world.asked() == ["a", "a", "b", "b"]
    at = [sent.at for sent in world.transport.sent]
    assert 0 < at[1] - at[0] <= BACKOFF_BASE
    assert at[2] == at[1]
    assert 0 < at[3] - at[2] <= BACKOFF_BASE
    assert result.upstream_seconds == pytest.approx(at[3] - at[0])
    assert [account.number for account in world.ledger.accounts] == [1, 2, 3, 4]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_no_target_is_called_more_than_three_times() -> None:
    world = World(retries=9)
    world.script("a", refusal(500), refusal(503), refusal(500))
    with pytest.raises(AllTargetsFailed) as caught:
        await world.executor.complete(OPERATION, plan_for("a"), call())
    assert world.asked() == ["a", "a", "a"]
    assert [tried.error_code for tried in caught.value.attempts] == ["server_failed"] * 3
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_each_provider_has_a_retry_budget() -> None:
    world = World(retries=1)
    world.script("a", refusal(500), text("Hello"), refusal(500))
    world.script("b", refusal(500), text("Hello"))
    await world.executor.complete(OPERATION, plan_for("a"), call())
    with pytest.raises(AllTargetsFailed):
        await world.executor.complete(OPERATION, plan_for("a"), call())
    await world.executor.complete(OPERATION, plan_for("b"), call())
    assert world.asked() == ["a", "a", "a", "b", "b"]


@in_virtual_time
async def test_a_rate_limited_request_goes_to_the_next_target() -> None:
    world = World(retries=9)
    world.script("a", refusal(429, retry_after="0.1"))
    world.script("b", text("Hello"))
    await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert world.asked() == ["a", "b"]


@pytest.mark.parametrize(("wait", "asked"), [("2", ["a", "a"]), ("5", ["a", "b"])])
@in_virtual_time
async def test_a_rate_limited_request_waits_if_that_is_faster_than_the_next_target(
    wait: str, asked: list[str]
) -> None:
    world = World(retries=9)
    for provider, delay in (("a", 1.0), ("b", 4.0)):
        world.script(provider, *(text("Hello", delay=delay) for _ in range(MIN_CALLS)))
        for _ in range(MIN_CALLS):
            await world.executor.complete(OPERATION, plan_for(provider), call())
    world.transport.sent.clear()
    world.script("a", refusal(429, retry_after=wait), text("Hello"))
    world.script("b", text("Hello"))
    await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert world.asked() == asked


@in_virtual_time
async def test_retry_after_of_another_failure_is_not_waited_for_while_a_target_is_left() -> None:
    world = World(retries=9)
    world.script("a", refusal(503, retry_after="2"))
    world.script("b", text("Hello"))
    await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert world.asked() == ["a", "b"]


@pytest.mark.parametrize(
    ("windows", "asked"),
    [
        ((8_000, 8_000, 4_000, 9_000), ["a", "d"]),
        ((8_000, None), ["a", "b"]),
        ((None, 4_000), ["a", "b"]),
        ((8_000, 8_000), ["a"]),
    ],
)
@in_virtual_time
async def test_a_too_long_prompt_goes_only_to_larger_context_windows(
    windows: tuple[int | None, ...], asked: list[str]
) -> None:
    world = World(retries=9)
    targets = []
    for name, window in zip("abcd", windows, strict=False):
        spec = target(name)
        targets.append(replace(spec, model=replace(spec.model, context_window=window)))
        world.script(name, refusal(413, "Too long.") if name == "a" else text("Hello"))
    chain = world.executor.complete(OPERATION, plan_for(targets), call())
    if len(asked) == 1:
        with pytest.raises(ContextTooLong):
            await chain
    else:
        await chain
    assert world.asked() == asked


@in_virtual_time
async def test_a_route_s_limits_override_the_provider_s() -> None:
    world = World(connect=5)
    world.script("a", text("Hello"))
    route = RouteSpec("debugging", "premium", (), connect_timeout=2)
    plan = RoutePlan((target("a", connect_timeout=3),), route)
    await world.executor.complete(OPERATION, plan, call())
    assert world.transport.sent[0].connect_timeout == 2


@in_virtual_time
async def test_a_retry_waits_for_the_vendor_s_retry_after() -> None:
    for reply in (refusal(429, retry_after="7"), refusal(429, "wait 7", retry_after="1")):
        world = World(retries=9)
        world.script("a", reply, text("Hello"))
        await world.executor.complete(OPERATION, plan_for("a"), call())
        first, second = (sent.at for sent in world.transport.sent)
        assert 7 <= second - first <= 7 + RATE_LIMIT_BACKOFF_BASE


@in_virtual_time
async def test_a_retry_after_may_be_a_date() -> None:
    world = World(retries=9)
    world.script("a", refusal(429, retry_after="Thu, 01 Jan 2026 00:00:30 GMT"), text("Hello"))
    result = await world.executor.complete(OPERATION, plan_for("a"), call())
    waited = world.transport.sent[1].at - world.transport.sent[0].at
    assert 30 <= waited <= 30 + RATE_LIMIT_BACKOFF_BASE
    assert result.attempts[0].latency_ms < 1


@in_virtual_time
async def test_a_wait_beyond_the_deadline_is_returned_to_the_caller_as_retry_after() -> None:
    world = World()
    world.script("a", refusal(429, retry_after="50"))
    world.script("b", refusal(429, retry_after="40"))
    world.script("c", refusal(500))
    with pytest.raises(AllTargetsFailed) as caught:
        await world.executor.complete(OPERATION, plan_for("cab"), call(30))
    assert world.asked() == ["c", "a", "b"]
    assert caught.value.retry_after == 40


@pytest.mark.parametrize(("status", "kind"), [(400, RequestRejected), (403, ContentFiltered)])
@in_virtual_time
async def test_an_error_that_no_other_target_could_avoid_ends_the_chain(
    status: int, kind: type[UpstreamError]
) -> None:
    world = World()
    world.script("a", refusal(500))
    world.script("b", refusal(status, "The reason."))
    with pytest.raises(kind, match="The reason") as caught:
        await world.executor.complete(OPERATION, plan_for("abc"), call())
    assert world.asked() == ["a", "b"]
    assert [tried.provider for tried in caught.value.attempts] == ["a", "b"]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_if_every_target_rejects_the_request_the_last_reason_is_returned() -> None:
    world = World()
    world.script("b", refusal(413, "Too long for b."))
    world.script("c", refusal(413, "Too long for c."))
    operation = TextOperation(unsupported=frozenset("a"))
    with pytest.raises(ContextTooLong, match="Too long for c") as caught:
        await world.executor.complete(operation, plan_for("abc"), call())
    assert [tried.error_code for tried in caught.value.attempts] == [
        "unsupported_request",
        "context_too_long",
        "context_too_long",
    ]


@in_virtual_time
async def test_one_target_with_another_failure_makes_all_targets_failed() -> None:
    world = World()
    world.script("a", refusal(500))
    world.script("b", refusal(413, "Too long."))
    with pytest.raises(AllTargetsFailed) as caught:
        await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert isinstance(caught.value.last, ContextTooLong)
    assert caught.value.http_status == 502


@in_virtual_time
async def test_the_final_error_lists_targets_and_reasons_and_nothing_else() -> None:
    world = World()
    world.script("a", refusal(500, "secret of a"))
    world.script("b", failing(ConnectTimeout("secret of b")))
    with pytest.raises(AllTargetsFailed) as caught:
        await world.executor.complete(OPERATION, plan_for("ab"), call())
    error = caught.value
    assert str(error) == "Every target failed (a/m: server_failed; b/m: connect_timeout)."
    assert [(tried.provider, tried.model) for tried in error.attempts] == [("a", "m"), ("b", "m")]
    assert error.http_status == 504
    assert error.retry_after is None


@in_virtual_time
async def test_a_request_that_cannot_be_built_or_has_no_key_has_no_record() -> None:
    world = World()
    world.credentials.missing = {"b"}
    world.script("c", text("Hello"))
    operation = TextOperation(unsupported=frozenset("a"))
    result = await world.executor.complete(operation, plan_for("abc"), call())
    assert [tried.error_code for tried in result.attempts] == [
        "unsupported_request",
        "credential_rejected",
        "",
    ]
    assert [account.provider for account in world.ledger.accounts] == ["c"]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_targets_that_cannot_be_called_do_not_count_as_attempts() -> None:
    world = World(retries=9)
    world.credentials.missing = set("abcde")
    world.script("f", refusal(500), text("Hello"))
    result = await world.executor.complete(OPERATION, plan_for("abcdef"), call())
    assert result.value == "Hello"
    assert world.asked() == ["f", "f"]


@in_virtual_time
async def test_at_most_four_providers_are_called() -> None:
    world = World()
    for provider in "abcdef":
        world.script(provider, refusal(500))
    with pytest.raises(AllTargetsFailed) as caught:
        await world.executor.complete(OPERATION, plan_for("abcdef"), call())
    assert world.asked() == ["a", "b", "c", "d"]
    assert len(caught.value.attempts) == 4


@in_virtual_time
async def test_a_route_without_a_single_key_has_no_target_available() -> None:
    world = World()
    world.credentials.missing = set("ab")
    with pytest.raises(NoTargetAvailable) as caught:
        await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert str(caught.value) == (
        "No target can be called (a/m: credential_rejected; b/m: credential_rejected)."
    )
    assert len(caught.value.attempts) == 2
    assert world.ledger.accounts == []


@in_virtual_time
async def test_a_request_that_no_target_supports_is_the_caller_s_error() -> None:
    world = World()
    operation = TextOperation(unsupported=frozenset("ab"))
    with pytest.raises(UnsupportedRequest) as caught:
        await world.executor.complete(operation, plan_for("ab"), call())
    assert caught.value.http_status == 400
    assert world.ledger.accounts == []


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply((b"",)), MalformedAnswer),
        (Reply((b"Hel", ConnectionLost("Cut."))), ConnectionLost),
        (Reply((b"x" * (MAX_ANSWER_BYTES + 1),)), AnswerTooLarge),
        (failing(RateLimited("Wait.")), RateLimited),
    ],
)
@in_virtual_time
async def test_an_unusable_answer_moves_on_to_the_next_target(
    reply: Reply, kind: type[UpstreamError]
) -> None:
    world = World()
    world.script("a", reply)
    world.script("b", text("Hello"))
    result = await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert [tried.error_code for tried in result.attempts] == [kind.code, ""]
    world.assert_accounts_are_closed()


@pytest.mark.parametrize(
    "chunks", [(b"x" * 65_537,), (b"cut", ConnectionLost("Cut.")), (b"stalled", 1000.0)]
)
@in_virtual_time
async def test_an_error_whose_body_is_endless_broken_or_late_is_classified_by_its_status(
    chunks: tuple[bytes, ...],
) -> None:
    world = World()
    world.script("a", Reply(chunks, status=403))
    with pytest.raises(ContentFiltered, match=r"^No reason\.$") as caught:
        await world.executor.complete(OPERATION, plan_for("a"), call())
    assert caught.value.status == 403
    assert world.transport.answers[0].caps == [64 * 1024]
    assert world.ledger.ends[0].latency_ms <= 5000.001
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_statuses_other_than_2xx_are_errors() -> None:
    for status, is_answer in [(199, False), (200, True), (299, True), (300, False)]:
        world = World(retries=9)
        world.script("a", Reply((b"Hello",), status=status), text("again"))
        result = await world.executor.complete(OPERATION, plan_for("a"), call())
        assert (result.value == "Hello") is is_answer
        assert world.ledger.ends[0].status == status


@in_virtual_time
async def test_a_rejection_of_a_request_that_the_gateway_wrote_moves_on() -> None:
    world = World()
    world.script("a", refusal(400, "We wrote it."))
    world.script("b", text("Hello"))
    result = await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert [tried.error_code for tried in result.attempts] == ["request_rejected", ""]

    # If all reject it, the first vendor's reason is returned; if one could not be reached, all
    # targets failed.
    world.script("a", refusal(400, "We wrote it."))
    world.script("b", refusal(413))
    with pytest.raises(RequestRejected, match="We wrote it") as caught:
        await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert len(caught.value.attempts) == 2
    world.script("a", refusal(400, "We wrote it."))
    world.script("b", refusal(503))
    with pytest.raises(AllTargetsFailed):
        await world.executor.complete(OPERATION, plan_for("ab"), call())
