"""Circuit breakers in the executor: open targets are skipped, and failures are attributed to the
right target."""

import asyncio
from contextlib import aclosing

import pytest

from llm_routing.core.attempts.calls import Call
from llm_routing.core.errors import (
    AllTargetsFailed,
    AllTargetsRateLimited,
    ContextTooLong,
    LLMError,
    NoTargetAvailable,
    ServerFailed,
)
from llm_routing.core.types import Caller
from tests.core.fakes import World, call, lines, plan_for, refusal, text
from tests.core.text_operation import TextOperation
from tests.core.virtual_time import in_virtual_time

from .breaker_store import OPERATION, Breakers


@in_virtual_time
async def test_a_target_with_an_open_breaker_is_skipped_without_a_record() -> None:
    breakers = Breakers(a=9)
    world = World(breakers)
    world.script("b", text("Hello"))
    result = await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert world.asked() == ["b"]
    assert [(tried.provider, tried.error_code) for tried in result.attempts] == [
        ("a", "breaker_open"),
        ("b", ""),
    ]
    assert [account.number for account in world.ledger.accounts] == [1]
    assert breakers.words == ["b succeeded"]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_the_breaker_receives_the_duration_of_a_whole_answer() -> None:
    breakers = Breakers()
    world = World(breakers)
    world.script("a", text("Hello", delay=3))
    await world.executor.complete(OPERATION, plan_for("a"), call())
    assert breakers.seconds == [pytest.approx(3)]


@in_virtual_time
async def test_the_breaker_receives_the_time_to_first_content_of_a_stream() -> None:
    breakers = Breakers()
    world = World(breakers)
    world.script("a", lines("start:/", 2.0, "text:Hel/", 8.0, "text:lo/", 8.0, "finish/end/"))
    result = await world.executor.open_stream(OPERATION, plan_for("a"), call())
    async with aclosing(result.value) as stream:
        async for _ in stream:
            pass
    assert breakers.words == ["a succeeded"]
    assert breakers.seconds == [pytest.approx(2)]


@in_virtual_time
async def test_if_all_breakers_are_open_no_target_is_called_and_retry_after_is_set() -> None:
    world = World(Breakers(a=9, b=4, c=30))
    with pytest.raises(NoTargetAvailable) as caught:
        await world.executor.complete(OPERATION, plan_for("abc"), call())
    assert caught.value.http_status == 503
    assert caught.value.retry_after == 4
    assert [tried.provider for tried in caught.value.attempts] == ["a", "b", "c"]
    assert "a/m: breaker_open" in caught.value.message
    assert world.asked() == []
    assert world.ledger.accounts == []


@in_virtual_time
async def test_a_target_without_a_key_and_an_open_target_give_no_target_available() -> None:
    breakers = Breakers(b=4)
    world = World(breakers)
    world.credentials.missing.add("a")
    with pytest.raises(NoTargetAvailable) as caught:
        await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert caught.value.retry_after == 4
    # It was never called, so nothing is known about its health.
    assert breakers.words == ["a released"]


@in_virtual_time
async def test_a_failed_target_is_retried_before_the_next_one() -> None:
    world = World(Breakers(b=4), retries=1)
    world.script("a", refusal(500), text("Hello"))
    result = await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert world.asked() == ["a", "a"]
    assert [(tried.provider, tried.error_code) for tried in result.attempts] == [
        ("a", "server_failed"),
        ("a", ""),
    ]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_target_whose_failure_opened_its_breaker_is_not_retried() -> None:
    world = World(Breakers(trips=True), retries=1)
    world.script("a", refusal(500))
    with pytest.raises(AllTargetsFailed) as caught:
        await world.executor.complete(OPERATION, plan_for("a"), call())
    assert world.asked() == ["a"]
    assert isinstance(caught.value.last, ServerFailed)
    assert caught.value.retry_after == 5
    assert [tried.error_code for tried in caught.value.attempts] == [
        "server_failed",
        "breaker_open",
    ]


@in_virtual_time
async def test_a_timeout_followed_by_an_open_target_is_a_504() -> None:
    world = World(Breakers(b=4), total=10)
    world.script("a", text("Late", delay=20))
    with pytest.raises(AllTargetsFailed) as caught:
        await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert caught.value.http_status == 504


@in_virtual_time
async def test_a_too_long_prompt_does_not_end_the_chain_if_an_open_target_may_fit_it() -> None:
    world = World(Breakers(b=4))
    world.script("a", refusal(413))
    with pytest.raises(AllTargetsFailed) as caught:
        await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert isinstance(caught.value.last, ContextTooLong)


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (500, "server_failed"),
        (429, "rate_limited"),
        # Failures caused by the request.
        (400, "released"),
        (403, "released"),
        (413, "released"),
    ],
)
def test_only_failures_of_the_target_count_against_it(status: int, word: str) -> None:
    @in_virtual_time
    async def run() -> None:
        breakers = Breakers()
        world = World(breakers)
        world.script("a", refusal(status), refusal(status))
        with pytest.raises(LLMError):
            await world.executor.complete(OPERATION, plan_for("a"), call())
        assert set(breakers.words) == {f"a {word}"}
        breakers.assert_all_settled()

    run()


@in_virtual_time
async def test_an_unsupported_request_does_not_count_for_the_breaker() -> None:
    breakers = Breakers()
    world = World(breakers)
    world.script("b", text("Hello"))
    operation = TextOperation(unsupported=frozenset("a"))
    await world.executor.complete(operation, plan_for("ab"), call())
    assert breakers.words == ["a released", "b succeeded"]


@in_virtual_time
async def test_a_cancelled_call_does_not_count_for_the_breaker() -> None:
    breakers = Breakers()
    world = World(breakers)
    world.script("a", text("Late", delay=50))
    task = asyncio.create_task(world.executor.complete(OPERATION, plan_for("a"), call()))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert breakers.words == ["a released"]
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_stream_reports_to_the_breaker_only_at_its_end() -> None:
    breakers = Breakers()
    world = World(breakers)
    world.script("a", lines("text:Hi/", 1.0, "finish/end/"))
    result = await world.executor.open_stream(OPERATION, plan_for("a"), call())
    assert breakers.words == []
    async with aclosing(result.value) as stream:
        async for _ in stream:
            pass
    assert breakers.words == ["a succeeded"]


@in_virtual_time
async def test_a_broken_stream_is_a_failure_and_an_abandoned_one_does_not_count() -> None:
    breakers = Breakers()
    world = World(breakers)
    world.script("a", lines("text:Hi/", "error/"), lines("text:Hi/", 1.0, "finish/end/"))
    result = await world.executor.open_stream(OPERATION, plan_for("a"), call())
    with pytest.raises(ServerFailed):
        async for _ in result.value:
            pass
    await result.value.aclose()
    assert breakers.words == ["a server_failed"]
    result = await world.executor.open_stream(OPERATION, plan_for("a"), call())
    await result.value.aclose()
    assert breakers.words == ["a server_failed", "a released"]


@in_virtual_time
async def test_a_call_can_be_limited_to_one_attempt() -> None:
    world = World()
    world.script("a", refusal(500))
    now = asyncio.get_running_loop().time()
    once = Call("req_1", Caller(), now + 60, max_attempts=1)
    with pytest.raises(AllTargetsFailed):
        await world.executor.complete(OPERATION, plan_for("ab"), once)
    assert world.asked() == ["a"]


class TestAllOpen:
    @in_virtual_time
    async def test_the_target_due_first_is_called_if_the_route_says_so(self) -> None:
        world = World(Breakers(a=9, b=2, c=4))
        world.script("b", text("Hello"))
        plan = plan_for("abc", probes_when_all_open=True)
        result = await world.executor.complete(OPERATION, plan, call())
        assert world.asked() == ["b"]
        assert [tried.error_code for tried in result.attempts] == ["breaker_open"] * 3 + [""]
        world.assert_accounts_are_closed()

    @in_virtual_time
    async def test_a_target_that_rejects_a_forced_call_is_skipped(self) -> None:
        breakers = Breakers(a=1, b=2)
        breakers.shut.add("a")
        world = World(breakers)
        world.script("b", text("Hello"))
        await world.executor.complete(OPERATION, plan_for("ab", probes_when_all_open=True), call())
        assert world.asked() == ["b"]

    @in_virtual_time
    async def test_if_all_targets_reject_forced_calls_none_is_called(self) -> None:
        breakers = Breakers(a=1)
        breakers.shut.add("a")
        world = World(breakers)
        plan = plan_for("a", probes_when_all_open=True)
        with pytest.raises(NoTargetAvailable):
            await world.executor.complete(OPERATION, plan, call())
        assert world.asked() == []

    @in_virtual_time
    async def test_a_forced_target_is_called_once(self) -> None:
        world = World(Breakers(a=9, b=2))
        world.script("b", refusal(500))
        plan = plan_for("ab", probes_when_all_open=True)
        with pytest.raises(AllTargetsFailed):
            await world.executor.complete(OPERATION, plan, call())
        assert world.asked() == ["b"]

    @in_virtual_time
    async def test_other_routes_reject_the_request(self) -> None:
        world = World(Breakers(a=9))
        with pytest.raises(NoTargetAvailable):
            await world.executor.complete(OPERATION, plan_for("a"), call())
        assert world.asked() == []

    @in_virtual_time
    async def test_no_call_is_forced_while_one_target_is_not_open(self) -> None:
        world = World(Breakers(a=9))
        world.script("b", refusal(500))
        plan = plan_for("ab", probes_when_all_open=True)
        with pytest.raises(AllTargetsFailed):
            await world.executor.complete(OPERATION, plan, call())
        assert world.asked() == ["b"]


@in_virtual_time
async def test_failures_provoked_by_the_caller_are_distinguished_from_the_target_s() -> None:
    breakers = Breakers()
    world = World(breakers)
    world.script("a", refusal(500, "The caller provoked it."))
    world.script("b", refusal(500))
    world.script("c", text("Hello"))
    await world.executor.complete(OPERATION, plan_for("abc"), call())
    assert breakers.words == ["a released", "b server_failed", "c succeeded"]
    breakers.assert_all_settled()


@in_virtual_time
async def test_an_operation_that_does_not_prove_health_never_changes_a_breaker() -> None:
    breakers = Breakers()
    world = World(breakers)
    world.script("a", refusal(500))
    world.script("b", text("Hello"))
    counting = TextOperation(proves_health=False)
    await world.executor.complete(counting, plan_for("ab"), call())
    assert breakers.words == ["a released", "b released"]


@in_virtual_time
async def test_a_breaker_opened_by_a_rate_limit_reports_it() -> None:
    breakers = Breakers(a=9, b=4)
    breakers.cause = "rate_limited"
    world = World(breakers)
    with pytest.raises(AllTargetsRateLimited) as caught:
        await world.executor.complete(OPERATION, plan_for("ab"), call())
    assert (caught.value.http_status, caught.value.retry_after) == (429, 4)
    world.script("c", refusal(429, retry_after="7"))
    with pytest.raises(AllTargetsRateLimited) as caught:
        await world.executor.complete(OPERATION, plan_for("abc"), call(5))
    assert caught.value.retry_after == 4
    world.script("c", refusal(503))
    with pytest.raises(AllTargetsFailed) as failed:
        await world.executor.complete(OPERATION, plan_for("abc"), call())
    assert failed.value.http_status == 502
