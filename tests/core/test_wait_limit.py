"""A limit on many waits: each is limited for itself, and a cancellation stays one."""

import asyncio
from contextlib import suppress

import pytest

from llm_routing.core.wait_limit import WaitLimit

from .virtual_time import in_virtual_time


def now() -> float:
    return asyncio.get_running_loop().time()


@in_virtual_time
async def test_each_wait_has_its_own_limit() -> None:
    limit = WaitLimit()
    for _ in range(5):
        with limit.within(1.0):
            await asyncio.sleep(0.9)
    began = now()
    with pytest.raises(TimeoutError), limit.within(1.0):
        await asyncio.sleep(60)
    assert now() - began == pytest.approx(1.0)
    with limit.within(1.0):
        await asyncio.sleep(0.9)
    limit.close()


@in_virtual_time
async def test_a_shorter_limit_after_a_longer_one_counts() -> None:
    limit = WaitLimit()
    with limit.within(100.0):
        await asyncio.sleep(0)
    began = now()
    with pytest.raises(TimeoutError), limit.within(2.0):
        await asyncio.sleep(60)
    assert now() - began == pytest.approx(2.0)


@in_virtual_time
async def test_no_time_at_all_is_over_at_once() -> None:
    began = now()
    with pytest.raises(TimeoutError), WaitLimit().within(-1.0):
        await asyncio.sleep(60)
    assert now() - began == pytest.approx(0.0)


@in_virtual_time
async def test_time_between_waits_does_not_count() -> None:
    limit = WaitLimit()
    with limit.within(1.0):
        await asyncio.sleep(0)
    await asyncio.sleep(60)
    with limit.within(1.0):
        await asyncio.sleep(0.9)


@in_virtual_time
async def test_what_is_raised_within_is_passed_on() -> None:
    with pytest.raises(ValueError, match="mine"), WaitLimit().within(1.0):
        raise ValueError("mine")


@in_virtual_time
async def test_a_cancellation_by_others_stays_one() -> None:
    async def wait() -> None:
        with WaitLimit().within(10.0):
            await asyncio.sleep(60)

    task = asyncio.create_task(wait())
    asyncio.get_running_loop().call_later(5.0, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert now() == pytest.approx(1005.0)


@in_virtual_time
async def test_both_at_the_same_moment_is_a_cancellation() -> None:
    async def wait() -> None:
        with WaitLimit().within(10.0):
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_at(now() + 10.0, task.cancel)
            await asyncio.sleep(60)

    task = asyncio.create_task(wait())
    with pytest.raises(asyncio.CancelledError):
        await task


@in_virtual_time
async def test_a_wait_that_swallows_its_end_is_not_ended_twice() -> None:
    limit = WaitLimit()
    task = asyncio.current_task()
    assert task is not None
    with limit.within(1.0), suppress(asyncio.CancelledError):
        await asyncio.sleep(60)
    assert task.cancelling() == 0
    with limit.within(1.0):
        await asyncio.sleep(0.5)
