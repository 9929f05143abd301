"""Deadlines in the executor: when a missed deadline counts against the target."""

import asyncio

import pytest

from llm_routing.core.attempts.calls import Call
from llm_routing.core.errors import (
    DeadlineExceeded,
)
from llm_routing.core.types import Caller
from tests.core.fakes import World, call, lines, plan_for, text
from tests.core.virtual_time import in_virtual_time

from .breaker_store import OPERATION, Breakers


def hurried(seconds: float) -> Call:
    """Returns a request whose caller has set the deadline."""
    now = asyncio.get_running_loop().time()
    return Call("req_1", Caller(), now + seconds, deadline_is_callers=True)


async def missed(request: Call) -> list[str]:
    """Sends a request whose only target misses the deadline; returns what its breaker recorded."""
    breakers = Breakers()
    world = World(breakers)
    world.script("a", text("Late", delay=90))
    with pytest.raises(DeadlineExceeded):
        await world.executor.complete(OPERATION, plan_for("a"), request)
    return breakers.words


async def failed_over(request: Call) -> list[str]:
    """Sends a request whose first target uses up its share of the deadline; returns what the
    breakers recorded."""
    breakers = Breakers()
    world = World(breakers)
    world.script("a", text("Late", delay=90))
    world.script("b", text("Hello"))
    await world.executor.complete(OPERATION, plan_for("ab"), request)
    return breakers.words


@in_virtual_time
async def test_a_short_deadline_of_the_caller_does_not_count_against_the_target() -> None:
    assert await missed(hurried(2)) == ["a released"]


@in_virtual_time
async def test_a_stream_cut_by_the_caller_s_deadline_does_not_count_against_the_target() -> None:
    breakers = Breakers()
    world = World(breakers)
    world.script("a", lines("text:Hi/", 9.0, "finish/end/"))
    result = await world.executor.open_stream(OPERATION, plan_for("a"), hurried(2))
    with pytest.raises(DeadlineExceeded):
        async for _ in result.value:
            pass
    await result.value.aclose()
    assert breakers.words == ["a released"]


@in_virtual_time
async def test_a_target_that_uses_up_the_route_s_deadline_has_failed() -> None:
    assert await missed(call(20)) == ["a cut_by_deadline"]


@in_virtual_time
async def test_a_target_that_uses_up_its_share_of_the_route_s_deadline_has_failed() -> None:
    assert await failed_over(call(20)) == ["a cut_by_deadline", "b succeeded"]


@in_virtual_time
async def test_a_used_up_share_of_the_caller_s_deadline_does_not_count_against_the_target() -> None:
    assert await failed_over(hurried(2)) == ["a released", "b succeeded"]


@in_virtual_time
async def test_a_target_that_got_only_the_remaining_time_has_not_failed() -> None:
    breakers = Breakers()
    world = World(breakers, total=15)
    world.script("a", text("Late", delay=90))
    world.script("b", text("Late", delay=90))
    with pytest.raises(DeadlineExceeded):
        await world.executor.complete(OPERATION, plan_for("ab"), call(20))
    assert breakers.words == ["a cut_by_deadline", "b released"]
