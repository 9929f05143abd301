"""A long-lived event loop in a thread of its own, for code without one or with a short-lived one.

Connections belong to an event loop: code that runs here keeps them from one call to the next.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from .forks import Stage
from .threads import BackgroundThread, OnePerProcess

T = TypeVar("T")


class _LoopThread:
    """An event loop and the thread that runs it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = BackgroundThread("llm_routing_loop", self._run)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the loop and waits for its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.stop()

    def _run(self, _stopping: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()


_background: OnePerProcess[_LoopThread] = OnePerProcess(Stage.EVENT_LOOP)


def background_loop() -> asyncio.AbstractEventLoop:
    """Returns the process's background event loop; starts it first if it does not run."""
    return _background.ensure(_LoopThread).loop


def run_sync(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` in the background loop and waits for its result.

    Raises `RuntimeError` in a thread that runs an event loop, because it would block that loop.
    """
    try:
        require_no_event_loop()
    except RuntimeError:
        work.close()
        raise
    future = asyncio.run_coroutine_threadsafe(work, background_loop())
    try:
        return future.result()
    except BaseException:
        # Also after Ctrl-C: nothing waits for the work any more.
        future.cancel()
        raise


def require_no_event_loop() -> None:
    """Raises `RuntimeError` in a thread that runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "This function is synchronous and would block the running event loop; "
        "await the function of the same name without _sync."
    )


async def run_in_background_loop(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` in the background loop without blocking this one, and returns its result.
    Cancelling this cancels `work`."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, background_loop()))


def stop_background_loop() -> None:
    """Stops the background loop, if it runs."""
    _background.stop()
