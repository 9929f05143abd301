"""The next call after a failure: at once, after a wait, to the next target, or none."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from llm_routing.sandbox.journal import Step

from .callers import CALLERS, Reply
from .conftest import Bench

ONCE = (
    "status=500",
    "status=503",
    "status=529",
    "disconnect",
    "html",
    "error_in_200 code=api_error",
)


@pytest.mark.parametrize(
    "fault",
    [
        "status=500",
        *(pytest.param(fault, marks=pytest.mark.faults) for fault in ONCE[1:4]),
    ],
)
async def test_a_failure_is_retried_and_then_succeeds(bench: Bench, fault: str) -> None:
    bench.witness.may_send_again = fault == "disconnect"
    for caller in CALLERS:
        bench.sandbox.journal.script(Step(fault, model="alpha"))
        reply = await bench.ask(caller, deadline=10)
        assert reply.is_whole, (caller, reply.body)
        assert reply.headers["x-llm-model"] == "alpha", caller
        assert await bench.asked(reply) == ["alpha", "alpha"]


@pytest.mark.faults
@pytest.mark.parametrize("fault", ONCE)
async def test_a_single_target_is_retried(bench: Bench, fault: str) -> None:
    bench.witness.may_send_again = fault == "disconnect"
    for caller in CALLERS:
        bench.sandbox.journal.script(Step(fault, model="alpha"))
        asked = len(bench.sandbox.journal.entries)
        reply = await bench.ask(caller, "debugging:economy", deadline=10)
        assert reply.is_whole, (caller, reply.body)
        assert await bench.asked(reply) == ["alpha", "alpha"]
        assert len(bench.sandbox.journal.entries) == asked + 2, "as many as are recorded"


async def _limited(bench: Bench, model: str, retry_after: str, deadline: float) -> list[Reply]:
    """Returns the replies to callers if alpha answers 429 once."""
    quoted = f'"{retry_after}"'
    replies = []
    for caller in CALLERS:
        bench.sandbox.journal.script(Step(f"status=429 retry_after={quoted}", model="alpha"))
        replies.append(await bench.ask(caller, model, deadline=deadline))
    return replies


async def test_a_rate_limit_with_a_long_wait_fails_over_at_once(bench: Bench) -> None:
    for reply in await _limited(bench, "debugging", "30", 10):
        assert reply.is_whole
        assert reply.headers["x-llm-model"] == "beta"
        assert await bench.asked(reply) == ["alpha", "beta"]


@pytest.mark.faults
async def test_a_single_target_waits_for_its_rate_limit(bench: Bench) -> None:
    for reply in await _limited(bench, "debugging:economy", "1", 10):
        assert reply.is_whole, reply.body
        assert reply.seconds >= 1
        assert await bench.asked(reply) == ["alpha", "alpha"]


@pytest.mark.faults
@pytest.mark.parametrize("garbage", ["0", "-1", "soon", "1e9", "9" * 400, "nan", "Wed, 99 Foo"])
async def test_an_invalid_retry_after_is_ignored(bench: Bench, garbage: str) -> None:
    for reply in await _limited(bench, "debugging:economy", garbage, 10):
        assert reply.status in (200, 429), reply.body
        assert len(await bench.asked(reply)) <= 2


@pytest.mark.faults
async def test_a_retry_after_may_be_a_date(bench: Bench) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    for reply in await _limited(bench, "debugging", soon, 10):
        assert reply.headers["x-llm-model"] == "beta"
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=600), usegmt=True)
    for reply in await _limited(bench, "debugging:economy", past, 10):
        assert reply.is_whole, reply.body


async def test_no_wait_begins_that_would_exceed_the_deadline(bench: Bench) -> None:
    for reply in await _limited(bench, "debugging:economy", "40", 5):
        # A wait would have ended at the deadline.
        assert reply.status != 200
        assert reply.error != "deadline_exceeded"
        assert int(reply.headers["retry-after"]) in range(30, 41)
        assert await bench.asked(reply) == ["alpha"]


@pytest.mark.parametrize("routing", [{"RETRY_BUDGET": 0.2}], indirect=True)
async def test_if_all_requests_fail_few_retry_and_at_different_times(bench: Bench) -> None:
    native = CALLERS[0]
    faults = "[[status=503]]"
    await asyncio.gather(
        *(bench.ask(native, "debugging:economy", faults=faults, deadline=10) for _ in range(30))
    )
    moments = sorted(entry.received_at for entry in bench.sandbox.journal.entries)
    again = moments[30:]
    assert 3 <= len(again) <= 30 * 0.2
    assert again[-1] - again[0] > 0.01, "full jitter spreads them"
