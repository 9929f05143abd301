"""An event loop that lasts, in a thread of its own, for code that has none or one that ends soon.

Connections belong to an event loop; what runs here keeps them from one call to the next.
"""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

STOP_TIMEOUT = 10.0


class _LastingLoop:
    """The loop and its thread; starts when it is made."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="llm_routing_loop", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the loop and waits for its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(STOP_TIMEOUT)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()


_lock = threading.Lock()
_lasting: list[_LastingLoop] = []
_inherited: list[_LastingLoop] = []


def lasting_loop() -> asyncio.AbstractEventLoop:
    """The process's lasting loop, started where it was not."""
    with _lock:
        if not _lasting:
            _lasting.append(_LastingLoop())
        return _lasting[0].loop


def run_sync(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, run in the lasting loop while this thread waits.

    Raises `RuntimeError` in a thread that runs an event loop: it would stand still meanwhile.
    """
    try:
        refuse_event_loop()
    except RuntimeError:
        work.close()
        raise
    future = asyncio.run_coroutine_threadsafe(work, lasting_loop())
    try:
        return future.result()
    except BaseException:
        # Also for Ctrl-C here: nobody waits for the work any more.
        future.cancel()
        raise


def refuse_event_loop() -> None:
    """Raises `RuntimeError` in a thread that runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "This is synchronous and would stop the event loop it was called in; "
        "use the function of the same name without _sync, and await it."
    )


async def run_lasting(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, run in the lasting loop while this loop goes on. A cancellation is
    passed on."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, lasting_loop()))


def stop_lasting_loop() -> None:
    """Ends the lasting loop, if there is one."""
    with _lock:
        running = _lasting.copy()
        _lasting.clear()
    for lasting in running:
        lasting.stop()


def _after_fork() -> None:
    """Threads do not survive a fork: the child starts its own loop when it needs one. Its parent's
    is not to be collected, see `factory`."""
    _inherited.extend(_lasting)
    _lasting.clear()
    _lock.release()


# Held across the fork, so that the child does not inherit it from a thread that it does not have.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)
