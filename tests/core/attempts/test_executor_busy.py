"""Providers whose connections are all in use: waiting, failover and errors."""

import asyncio
from contextlib import aclosing, suppress

import pytest

from llm_routing.core.attempts.chain import Result
from llm_routing.core.attempts.limits import Slot
from llm_routing.core.breaker import Rejected
from llm_routing.core.errors import (
    AllTargetsFailed,
    DeadlineExceeded,
    LLMError,
    NoTargetAvailable,
)
from llm_routing.core.routing_table import Target
from tests.core.fakes import Reply, World, call, lines, plan_for, refusal, target, text
from tests.core.text_operation import TextOperation
from tests.core.virtual_time import in_virtual_time

OPERATION = TextOperation()


def in_use(world: World, provider: str = "a") -> int:
    return world.limits.statuses()[provider].in_use


async def ask(world: World, *targets: str | Target, seconds: float = 120) -> Result[str]:
    return await world.executor.complete(OPERATION, plan_for(targets), call(seconds))


async def busy(world: World, seconds: float, *targets: str) -> "asyncio.Task[Result[str]]":
    """Starts a request that occupies the first target's connection for `seconds`."""
    world.script(targets[0], text("slow", delay=seconds))
    task = asyncio.create_task(ask(world, *targets))
    await asyncio.sleep(0.1)
    return task


@in_virtual_time
async def test_a_call_waits_for_a_connection_of_a_busy_provider() -> None:
    world = World(pool_size=1)
    first = await busy(world, 5, "a")
    world.script("a", text("quick"))
    result = await ask(world, "a")
    assert result.value == "quick"
    assert world.transport.sent[1].at >= world.transport.sent[0].at + 5
    # The wait counts as upstream time, but not as the target's latency.
    assert result.upstream_seconds == pytest.approx(4.9)
    assert world.ledger.ends[1].latency_ms == 0
    assert (await first).value == "slow"
    assert in_use(world) == 0
    world.assert_accounts_are_closed()


@in_virtual_time
async def test_a_provider_with_a_full_queue_is_skipped_without_a_record() -> None:
    world = World(pool_size=1, max_queued=0)
    first = await busy(world, 5, "a")
    world.script("b", text("from b"))
    result = await ask(world, "a", "b")
    assert result.value == "from b"
    assert [(one.provider, one.error_code) for one in result.attempts] == [
        ("a", "provider_busy"),
        ("b", ""),
    ]
    assert world.asked() == ["a", "b"]
    await first
    assert len(world.ledger.accounts) == len(world.ledger.ends) == 2


@in_virtual_time
async def test_with_another_target_left_the_wait_for_a_connection_is_limited() -> None:
    world = World(pool_size=1, first_token=3)
    first = await busy(world, 30, "a", "b")
    began = asyncio.get_running_loop().time()
    world.script("b", text("from b"))
    assert (await ask(world, "a", "b")).value == "from b"
    assert asyncio.get_running_loop().time() == began + 3
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    assert in_use(world) == 0


@in_virtual_time
async def test_if_every_target_is_busy_retry_after_is_set() -> None:
    world = World(pool_size=1, max_queued=0)
    slow = [await busy(world, 5, "a"), await busy(world, 5, "b")]
    with pytest.raises(NoTargetAvailable) as caught:
        await ask(world, "a", "b")
    assert caught.value.http_status == 503
    assert caught.value.retry_after == 1
    assert [one.error_code for one in caught.value.attempts] == ["provider_busy"] * 2
    await asyncio.gather(*slow)


@in_virtual_time
async def test_a_busy_target_does_not_hide_the_failure_of_another() -> None:
    world = World(pool_size=1, max_queued=0)
    slow = await busy(world, 5, "b")
    world.script("a", refusal(500), refusal(500))
    with pytest.raises(AllTargetsFailed) as caught:
        await ask(world, "a", "b")
    assert caught.value.last.code == "server_failed"
    await slow


class Refusing:
    """A breaker store whose breaker opens during the wait."""

    is_open = False
    is_broken = False

    async def admit(self, target: Target, *, force: bool = False) -> "Refusing | Rejected":
        await asyncio.sleep(0)
        if self.is_broken:
            raise asyncio.CancelledError
        is_refused = self.is_open and not force
        return Rejected(9.0, "server_failed") if is_refused else self

    def succeed(self, seconds: float = 0.0) -> None: ...

    def fail(self, error: LLMError) -> None: ...

    def release(self) -> None: ...


@in_virtual_time
async def test_a_breaker_that_opens_during_the_wait_rejects_the_waiting_calls() -> None:
    breakers = Refusing()
    world = World(breakers, pool_size=1)
    first = await busy(world, 5, "a")
    waiting = asyncio.create_task(ask(world, "a"))
    await asyncio.sleep(1)
    breakers.is_open = True
    with pytest.raises(NoTargetAvailable):
        await waiting
    assert world.asked() == ["a"]
    breakers.is_broken = True
    with pytest.raises(asyncio.CancelledError):
        await ask(world, "a")
    await first
    assert in_use(world) == 0


@in_virtual_time
async def test_a_forced_call_waits_for_a_connection_too() -> None:
    breakers = Refusing()
    breakers.is_open = True
    world = World(breakers, pool_size=1)
    plan = plan_for("a", probes_when_all_open=True)
    asking = asyncio.create_task(world.executor.complete(OPERATION, plan, call(5)))
    taking = asyncio.create_task(world.limits.acquire(plan.targets[0].provider, 9999.0))
    with pytest.raises(DeadlineExceeded):
        await asking
    assert isinstance(await taking, Slot)
    assert world.asked() == []


@in_virtual_time
async def test_a_stream_keeps_its_connection_slot_until_it_is_closed() -> None:
    world = World(pool_size=1)
    world.script("a", lines("text:hi/", 1, "text:ho/finish/end/"), text("next"))
    result = await world.executor.open_stream(OPERATION, plan_for(["a"]), call())
    async with aclosing(result.value) as stream:
        assert len([batch async for batch in stream]) == 2
        waiting = asyncio.create_task(ask(world, "a"))
        await asyncio.sleep(1)
        assert not waiting.done()
        assert in_use(world) == 1
    await stream.aclose()
    assert (await waiting).value == "next"
    assert in_use(world) == 0


@pytest.mark.parametrize(
    "replies",
    [
        [refusal(500), text("good")],
        [text(""), text("good")],
        [text("never", delay=1000)],
        [text("bug")],
    ],
)
@in_virtual_time
async def test_every_outcome_of_an_attempt_releases_its_connection_slot(
    replies: list[Reply],
) -> None:
    world = World(pool_size=1)
    world.script("a", *replies)
    with suppress(LLMError, ZeroDivisionError):
        await ask(world, "a")
    assert in_use(world) == 0
    world.script("a", lines(*["text:hi/"] * 2, 1000))
    with suppress(LLMError):
        result = await world.executor.open_stream(OPERATION, plan_for([target("a")]), call())
        async with aclosing(result.value) as stream:
            async for _ in stream:
                pass
    assert in_use(world) == 0
