"""What a forked child must not take over from its parent."""

import asyncio
import os

import llm_routing.process.background  # noqa: F401  # it is told of forks, and tells the others
from llm_routing.core.ids import new_id
from llm_routing.core.running import running_loop


def test_a_forked_child_has_ids_of_its_own() -> None:
    new_id()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, " ".join(new_id() for _ in range(200)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = set(pipe.read().split())
    os.waitpid(child, 0)
    assert len(theirs) == 200
    assert not theirs & {new_id() for _ in range(200)}


async def is_right() -> bool:
    return running_loop() is running_loop() is asyncio.get_running_loop()


def test_a_child_that_was_forked_by_a_running_one_has_another() -> None:
    async def fork() -> int:
        running_loop()
        child = os.fork()
        if not child:
            asyncio.events._set_running_loop(None)
            os._exit(0 if asyncio.run(is_right()) else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert asyncio.run(fork()) == 0
