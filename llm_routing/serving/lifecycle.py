"""How a server process ends: SIGTERM is heard at once, what has begun is finished within a limit.

What the process opens and closes is `asgi`'s; whether it is ready is kept in `serving.readiness`.
"""

import asyncio
import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any
from weakref import WeakSet

from llm_routing.conf import get_settings
from llm_routing.core.errors import Overloaded

from . import readiness
from .uvicorn_internals.sockets import ServerSockets

logger = logging.getLogger(__name__)

Handler = Callable[[int, FrameType | None], Any]

ACCESS_LOG = logging.getLogger("uvicorn.access")
CUT_SECONDS = 5.0
POLL_SECONDS = 0.05
GARBAGE = (20_000, 20, 100)
"""After how many new objects the collector looks at them, and how much more seldom at older ones: a
request makes some hundreds, and nearly none of them in cycles."""
SWITCH_SECONDS = 0.0005
"""After so long a thread that ships usage records lets the event loop go on; Python's own 5 ms are
what a request waits at the most, several times while one batch is shipped."""
_cut: WeakSet["asyncio.Task[Any]"] = WeakSet()


class Lifecycle:
    """The requests that are under way, and the signal that ends them.

    A server such as uvicorn tells an application of its end only when all connections are closed,
    and it closes those at once whose request has not arrived yet. So SIGTERM is handled here first.
    The process is not ready from then on, stops listening after `drain_delay`, and serves the
    connections that it has until they are closed or `drain_timeout` is over; only then does the
    server's own handler get the signal. A second SIGTERM goes to it directly.

    After a graceful end uvicorn raises the signal again, so that a process without a handler of
    its own ends by it (status 143 in a shell). With `exit_zero_on_sigterm` the process exits with
    0; use it for a process that only runs the server.
    """

    def __init__(self, *, exit_zero_on_sigterm: bool = False) -> None:
        self._exits_in_order = exit_zero_on_sigterm
        self._requests: set[asyncio.Task[Any]] = set()
        self._server_handler: Handler | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self._was_told = False

    def begin(self, request: "asyncio.Task[Any]") -> None:
        """A request is under way, which is cut where the process has to end."""
        self._requests.add(request)

    def end(self, request: "asyncio.Task[Any]") -> None:
        """It has ended."""
        self._requests.discard(request)

    def start(self) -> None:
        """From now on SIGTERM is heard, where the server itself handles it and does so in this
        thread."""
        readiness.stop_draining()
        self._was_told = False
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGTERM)
        if callable(handler):
            self._server_handler = handler
            signal.signal(signal.SIGTERM, self._on_signal)

    def tune_process(self) -> None:
        """What the process needs to serve is there: where it is a server and nothing else, the
        garbage collector need not look at all that again and again, threads in the background hand
        the interpreter's lock back soon, and uvicorn need not put together a line for each request
        that its level of logging then leaves out."""
        if self._exits_in_order:
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GARBAGE)
            sys.setswitchinterval(SWITCH_SECONDS)
            if not ACCESS_LOG.isEnabledFor(logging.INFO):
                ACCESS_LOG.handlers.clear()
                ACCESS_LOG.propagate = False

    def stop(self) -> None:
        """The server has no request any more: the signal is its own again."""
        if self._server_handler is not None:
            if signal.getsignal(signal.SIGTERM) == self._on_signal:
                signal.signal(signal.SIGTERM, self._server_handler)
            self._server_handler = None
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None
        readiness.start_draining()

    def finish(self) -> None:
        """All is closed and shipped: nothing is left that the signal could ask for."""
        readiness.stop_draining()
        if self._was_told and self._exits_in_order:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._was_told or self._loop is None:
            self._pass_on(number)
            return
        self._was_told = True
        readiness.start_draining()
        # A signal comes between any two instructions, so this is the one safe way to the loop.
        self._loop.call_soon_threadsafe(self._begin_draining, number)

    def _begin_draining(self, number: int) -> None:
        self._draining = asyncio.get_running_loop().create_task(self._drain(number))

    async def _drain(self, number: int) -> None:
        settings = get_settings()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + settings.drain_timeout
        logger.info("Draining: %d requests are under way.", len(self._requests))
        await asyncio.sleep(min(settings.drain_delay, settings.drain_timeout))
        sockets = ServerSockets(self._server_handler)
        await sockets.stop_listening()
        await self._finish_requests(sockets, deadline)
        if self._requests:
            logger.warning("Draining took too long: %d requests are cut.", len(self._requests))
            self._cut()
            await asyncio.wait(tuple(self._requests), timeout=CUT_SECONDS)
        self._pass_on(number)
        # Until the server has closed its sockets, one more request may have come.
        await asyncio.sleep(deadline - loop.time())
        self._cut()

    async def _finish_requests(self, sockets: ServerSockets, deadline: float) -> None:
        """Returns when no request is under way and no connection can bring another, or at the
        `deadline`. Idle connections get the time that the server always gives them: one that is
        closed earlier may be closed while its next request is on the way."""
        loop = asyncio.get_running_loop()
        idle_until = loop.time() + sockets.idle_seconds
        while (now := loop.time()) < deadline:
            if self._requests:
                await asyncio.wait(tuple(self._requests), timeout=deadline - now)
                idle_until = loop.time() + sockets.idle_seconds
            elif sockets.has_connections and now < idle_until:
                await asyncio.sleep(POLL_SECONDS)
            else:
                return

    def _cut(self) -> None:
        for task in self._requests:
            _cut.add(task)
            task.cancel()

    def _pass_on(self, number: int) -> None:
        if self._server_handler is not None:
            self._server_handler(number, None)


def was_cancelled_by_shutdown() -> bool:
    """Whether the running task was cancelled because the process ends. That is told once: the task
    goes on, to say so and to end."""
    task = asyncio.current_task()
    if task is None or task not in _cut:
        return False
    _cut.discard(task)
    task.uncancel()
    return True


def shutdown_error() -> Overloaded:
    """What a caller is told whose request was cut."""
    return Overloaded("The gateway is shutting down. Ask again.")
