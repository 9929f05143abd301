"""Which event loop is running, asked cheaply: the answer is that of asyncio."""

import asyncio
import os
import threading

import pytest

from llm_routing.core.running import running_loop


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


def test_a_child_that_was_forked_by_a_running_one_has_another() -> None:
    async def fork() -> int:
        await ask()
        child = os.fork()
        if not child:
            asyncio.events._set_running_loop(None)
            os._exit(0 if asyncio.run(ask()) else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert asyncio.run(fork()) == 0
