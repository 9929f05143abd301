"""Concurrency limits: slots are handed on in order, never lost and never given twice."""

import asyncio
import threading

from llm_routing.core.attempts.limits import (
    ConcurrencyLimit,
    LimitStatus,
    ProviderLimits,
    QueueFull,
    Slot,
)
from llm_routing.core.routing_table import ProviderSpec
from tests.core.fakes import LoopClock
from tests.core.virtual_time import in_virtual_time

MINUTE = 60.0


def now() -> float:
    return asyncio.get_running_loop().time()


def a_limit(size: int = 1, max_queued: int = 10) -> ConcurrencyLimit:
    return ConcurrencyLimit(size, max_queued, LoopClock())


async def entered(limit: ConcurrencyLimit, seconds: float = MINUTE) -> Slot:
    slot = await limit.acquire(now() + seconds)
    assert isinstance(slot, Slot)
    return slot


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@in_virtual_time
async def test_waiting_calls_are_admitted_in_order() -> None:
    limit = a_limit()
    order: list[int] = []

    async def work(number: int) -> None:
        slot = await entered(limit)
        order.append(number)
        await asyncio.sleep(1)
        slot.release()

    await asyncio.gather(*(work(number) for number in range(6)))
    assert order == list(range(6))
    assert limit.status == LimitStatus(in_use=0, queued=0, shed=0)


@in_virtual_time
async def test_a_new_call_does_not_overtake_waiting_ones() -> None:
    limit = a_limit()
    first = await entered(limit)
    waiting = asyncio.create_task(entered(limit))
    await settle()
    first.release()
    late = asyncio.create_task(entered(limit))
    await settle()
    assert waiting.done()
    assert not late.done()
    (await waiting).release()
    (await late).release()


@in_virtual_time
async def test_a_full_queue_rejects_at_once() -> None:
    limit = a_limit(max_queued=1)
    slot = await entered(limit)
    waiting = asyncio.create_task(entered(limit))
    await settle()
    began = now()
    assert limit.refusal(MINUTE, is_final=False) == QueueFull(1.0)
    assert await limit.acquire(now() + MINUTE) == QueueFull(1.0)
    assert limit.refusal(MINUTE, is_final=True) == QueueFull(1.0)
    assert now() == began
    assert limit.status == LimitStatus(in_use=1, queued=1, shed=2)
    slot.release()
    (await waiting).release()
    assert limit.refusal(MINUTE, is_final=True) is None


@in_virtual_time
async def test_a_waiting_call_is_rejected_at_its_deadline() -> None:
    limit = a_limit()
    slot = await entered(limit)
    assert await limit.acquire(now() + 2) == QueueFull(1.0)
    assert now() == 1002
    assert limit.status == LimitStatus(in_use=1, queued=0, shed=1)
    slot.release()
    assert limit.status.in_use == 0


@in_virtual_time
async def test_a_call_whose_deadline_is_before_its_expected_turn_is_rejected_at_once() -> None:
    limit = a_limit()
    slot = await entered(limit)
    patient = asyncio.create_task(entered(limit))
    await asyncio.sleep(20)
    began = now()
    full = await limit.acquire(now() + 10)
    assert full == QueueFull(20.0)
    assert now() == began
    next_one = asyncio.create_task(entered(limit))
    await settle()
    slot.release()
    (await patient).release()
    (await next_one).release()


@in_virtual_time
async def test_recent_waits_count_only_while_the_queue_is_not_empty() -> None:
    limit = a_limit()
    slots = [await entered(limit)]
    waiting = [asyncio.create_task(entered(limit, 1000)) for _ in range(2)]
    await asyncio.sleep(100)
    slots.pop().release()
    slots.append(await waiting.pop(0))
    waiting.append(asyncio.create_task(entered(limit, 1000)))
    await settle()
    await asyncio.sleep(0.5)
    # The first in the queue has waited 100 seconds; the smoothed wait is 20.
    assert isinstance(await limit.acquire(now() + 10), QueueFull)
    for _ in range(2):
        slots.pop().release()
        slots.append(await waiting.pop(0))
    await asyncio.sleep(1)
    waiting.append(asyncio.create_task(entered(limit)))
    await settle()
    assert limit.refusal(10, is_final=True) is None
    slots.pop().release()
    (await waiting.pop()).release()


@in_virtual_time
async def test_retry_after_is_at_most_a_minute() -> None:
    limit = a_limit()
    slot = await entered(limit)
    patient = asyncio.create_task(entered(limit, 1000))
    await asyncio.sleep(500)
    assert await limit.acquire(now() + 10) == QueueFull(60.0)
    slot.release()
    (await patient).release()


@in_virtual_time
async def test_a_cancelled_waiting_call_takes_no_slot() -> None:
    limit = a_limit()
    slot = await entered(limit)
    leaving = asyncio.create_task(entered(limit))
    staying = asyncio.create_task(entered(limit))
    await settle()
    leaving.cancel()
    await settle()
    assert limit.status.queued == 1
    slot.release()
    (await staying).release()
    assert limit.status == LimitStatus(in_use=0, queued=0, shed=0)


@in_virtual_time
async def test_a_call_cancelled_just_as_it_gets_a_slot_hands_it_on() -> None:
    limit = a_limit()
    slot = await entered(limit)
    leaving = asyncio.create_task(entered(limit))
    staying = asyncio.create_task(entered(limit))
    await settle()
    slot.release()
    leaving.cancel()
    await settle()
    assert leaving.cancelled()
    (await staying).release()
    assert limit.status == LimitStatus(in_use=0, queued=0, shed=0)


@in_virtual_time
async def test_releasing_a_slot_repeatedly_counts_once() -> None:
    limit = a_limit(size=2)
    first, _second = await entered(limit), await entered(limit)
    first.release()
    first.release()
    assert limit.status.in_use == 1
    Slot().release()


@in_virtual_time
async def test_a_larger_limit_admits_waiting_calls_and_a_smaller_one_admits_fewer() -> None:
    limit = a_limit()
    slots = [await entered(limit)]
    waiting = [asyncio.create_task(entered(limit)) for _ in range(3)]
    await settle()
    limit.resize(3)
    await settle()
    assert [task.done() for task in waiting] == [True, True, False]
    slots += [await waiting.pop(0), await waiting.pop(0)]
    limit.resize(1)
    slots.pop().release()
    slots.pop().release()
    await settle()
    assert not waiting[0].done()
    slots.pop().release()
    (await waiting.pop()).release()


def test_slots_are_shared_by_the_event_loops_of_the_process() -> None:
    clock = LoopClock()
    limit = ConcurrencyLimit(3, 1000, clock)
    most = under_way = 0
    lock = threading.Lock()

    async def work() -> None:
        nonlocal most, under_way
        slot = await entered(limit)
        with lock:
            under_way += 1
            most = max(most, under_way)
        await asyncio.sleep(0.001)
        with lock:
            under_way -= 1
        slot.release()

    async def many() -> None:
        await asyncio.gather(*(work() for _ in range(50)))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert most == 3
    assert limit.status == LimitStatus(in_use=0, queued=0, shed=0)


def test_a_waiting_call_whose_event_loop_is_closed_is_skipped() -> None:
    limit = a_limit()
    gone, here = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        slot = here.run_until_complete(entered(limit))
        coroutine = entered(limit)
        gone.run_until_complete(_begin(gone, coroutine))
        gone.close()

        async def wait_and_go() -> None:
            waiting = asyncio.create_task(entered(limit))
            await settle()
            slot.release()
            (await waiting).release()

        here.run_until_complete(wait_and_go())
        assert limit.status == LimitStatus(in_use=0, queued=0, shed=0)
        coroutine.close()
    finally:
        here.close()


async def _begin(loop: asyncio.AbstractEventLoop, coroutine: object) -> None:
    """Runs a coroutine up to its first wait, outside of a task, so that no loop cancels it."""
    coroutine.send(None)  # type: ignore[attr-defined]  # it is a coroutine


@in_virtual_time
async def test_each_provider_has_a_limit_of_the_size_of_its_pool() -> None:
    limits = ProviderLimits(2, 0, LoopClock())

    def provider(name: str, max_connections: int | None = None) -> ProviderSpec:
        return ProviderSpec(
            name,
            vendor="fake",
            format="lines",
            base_url="https://x",
            max_connections=max_connections,
        )

    deadline = now() + MINUTE
    one = [await limits.acquire(provider("one", 1), deadline) for _ in range(2)]
    two = [await limits.acquire(provider("two"), deadline) for _ in range(3)]
    assert [isinstance(slot, Slot) for slot in (*one, *two)] == [True, False, True, True, False]
    assert limits.statuses() == {
        "one": LimitStatus(in_use=1, queued=0, shed=1),
        "two": LimitStatus(in_use=2, queued=0, shed=1),
    }
    assert isinstance(await limits.acquire(provider("one", 2), deadline), Slot)
