"""Which event loop is running, asked cheaply: the answer is that of asyncio."""

import asyncio
import threading

import pytest

from llm_routing.core.running import forget, running_loop


async def ask() -> bool:
    return running_loop() is running_loop() is asyncio.get_running_loop()


def test_one_event_loop_after_another_in_one_thread() -> None:
    assert all(asyncio.run(ask()) for _ in range(3))


def test_outside_of_any_there_is_none() -> None:
    asyncio.run(ask())
    with pytest.raises(RuntimeError):
        running_loop()


def test_each_thread_has_its_own() -> None:
    async def elsewhere() -> bool:
        found: list[bool] = []
        thread = threading.Thread(target=lambda: found.append(asyncio.run(ask())))
        thread.start()
        thread.join()
        return found == [True] and await ask()

    assert asyncio.run(elsewhere())


def test_what_is_forgotten_is_asked_again() -> None:
    async def forgotten() -> bool:
        await ask()
        forget()
        return await ask()

    assert asyncio.run(forgotten())
