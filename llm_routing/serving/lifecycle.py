"""Shuts a server process down gracefully: SIGTERM starts draining, within a time limit.

`asgi` opens and closes what the process uses; `readiness` holds whether it accepts requests.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from llm_routing.conf import get_settings

from . import readiness
from .process_tuning import tune_process
from .shutdown import cancel_for_shutdown
from .uvicorn_internals.sockets import ServerSockets

logger = logging.getLogger(__name__)

Handler = Callable[[int, FrameType | None], Any]

CANCEL_SECONDS = 5.0
POLL_SECONDS = 0.05


class Lifecycle:
    """The requests under way, and the signal that ends them.

    A server such as uvicorn sends an application the end of its lifespan only after all connections
    are closed, and it closes connections at once whose request has not arrived yet. So SIGTERM is
    handled here first. From then on the process is not ready. It stops listening after
    `drain_delay` and serves its connections until they are closed or `drain_timeout` is over; then
    the server's own handler gets the signal. A second SIGTERM goes to that handler directly.

    After a graceful shutdown uvicorn raises the signal again, so a process without a handler of
    its own is ended by it (status 143 in a shell). With `exit_zero_on_sigterm` the process exits
    with status 0; use it for a process that only runs the server.
    """

    def __init__(self, *, exit_zero_on_sigterm: bool = False) -> None:
        self._exit_zero_on_sigterm = exit_zero_on_sigterm
        self._requests: set[asyncio.Task[Any]] = set()
        self._server_handler: Handler | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self._has_sigterm = False

    def begin(self, request: "asyncio.Task[Any]") -> None:
        """Adds a request under way; it is cancelled if draining takes too long."""
        self._requests.add(request)

    def end(self, request: "asyncio.Task[Any]") -> None:
        """Removes a request that has ended."""
        self._requests.discard(request)

    def start(self) -> None:
        """Handles SIGTERM from now on, if the server itself handles it, in this thread."""
        readiness.stop_draining()
        self._has_sigterm = False
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGTERM)
        if callable(handler):
            self._server_handler = handler
            signal.signal(signal.SIGTERM, self._on_signal)

    def tune_process(self) -> None:
        """Tunes the interpreter once everything is loaded, if the process only runs the server."""
        if self._exit_zero_on_sigterm:
            tune_process()

    def stop(self) -> None:
        """Gives the signal back to the server, which has no requests any more."""
        if self._server_handler is not None:
            if signal.getsignal(signal.SIGTERM) == self._on_signal:
                signal.signal(signal.SIGTERM, self._server_handler)
            self._server_handler = None
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None
        readiness.start_draining()

    def finish(self) -> None:
        """Ends the lifecycle after everything is closed; a late SIGTERM must not change the exit
        status."""
        readiness.stop_draining()
        if self._has_sigterm and self._exit_zero_on_sigterm:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._has_sigterm or self._loop is None:
            self._pass_on(number)
            return
        self._has_sigterm = True
        readiness.start_draining()
        # A signal may interrupt any two instructions; only this call is safe then.
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
            logger.warning(
                "Draining took too long: %d requests are cancelled.", len(self._requests)
            )
            cancel_for_shutdown(self._requests)
            await asyncio.wait(tuple(self._requests), timeout=CANCEL_SECONDS)
        self._pass_on(number)
        # One more request may have arrived before the server closed its sockets.
        await asyncio.sleep(deadline - loop.time())
        cancel_for_shutdown(self._requests)

    async def _finish_requests(self, sockets: ServerSockets, deadline: float) -> None:
        """Returns when no request is under way and no connection can bring another, or at the
        `deadline`. Idle connections stay open as long as the server usually keeps them: closing one
        earlier could lose a request that is on its way."""
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

    def _pass_on(self, number: int) -> None:
        if self._server_handler is not None:
            self._server_handler(number, None)
