"""Hedging over real sockets: the next target is called beside a slow first one."""

import asyncio

import pytest

from llm_routing.core.attempts.latency import MIN_CALLS

from .callers import CALLERS, Caller
from .conftest import Bench

ANSWER = 0.3
"""The usual latency of the first target, in seconds."""


async def learned(bench: Bench, caller: Caller) -> None:
    """A hedged route whose first target has a known latency."""
    await bench.route(is_hedged=True)
    faults = f"[[delay={ANSWER} model=alpha]]"
    await asyncio.gather(*(bench.ask(caller, faults=faults) for _ in range(MIN_CALLS)))


def some(*callers: Caller) -> list[object]:
    first, *rest = callers
    return [first, *(pytest.param(caller, marks=pytest.mark.faults) for caller in rest)]


@pytest.mark.parametrize("caller", some(*CALLERS), ids=repr)
async def test_the_faster_target_answers_and_the_other_call_is_closed_and_recorded(
    bench: Bench, caller: Caller
) -> None:
    await learned(bench, caller)
    reply = await bench.ask(caller, faults="[[delay=60 model=alpha]]", deadline=50)
    assert reply.is_whole
    assert reply.headers["x-llm-model"] == "beta"
    records = await bench.records(reply)
    assert [(record.model, record.outcome) for record in records] == [
        ("alpha", "cancelled"),
        ("beta", "success"),
    ]
    assert all(record.cost for record in records)


@pytest.mark.parametrize("caller", some(*CALLERS), ids=repr)
async def test_an_answer_does_not_wait_for_the_hedged_connection(
    bench: Bench, caller: Caller
) -> None:
    await bench.provider("beta", max_connections=1)
    await learned(bench, caller)
    holds = "[[delay=8 model=beta]] [[status=500 model=alpha]]"
    holding = asyncio.create_task(bench.ask(caller, faults=holds, deadline=40))
    while "beta" not in bench.witness.asked():
        await asyncio.sleep(0.02)
    slow = f"[[delay={ANSWER * 4} model=alpha]]"
    reply = await bench.ask(caller, faults=slow, deadline=20)
    assert not holding.done()
    assert reply.headers["x-llm-model"] == "alpha"
    assert (await holding).headers["x-llm-model"] == "beta"
    assert await bench.asked(reply) == ["alpha"]
