"""Decides when keep-alives of idle streams are due; formats decide how they look."""

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

from llm_routing.core.timers import Timer, running_loop


class Listener(Protocol):
    """A stream whose caller may have received nothing for a while."""

    @property
    def silent_since(self) -> float | None:
        """Since when, in the event loop's time; None while the caller does not wait for us."""


class KeepAliveTimer(Timer):
    """Runs `send` whenever the listener has waited for `interval` seconds. One timer serves the
    whole stream. Call `end` in every case; the timer also ends when the listener is
    garbage-collected."""

    def __init__(
        self,
        send: Callable[[], Coroutine[Any, Any, None]],
        interval: float,
        listener: "weakref.ref[Any]",
    ) -> None:
        self._send = send
        self._interval = interval
        self._listener: weakref.ref[Listener] = listener
        self._loop = running_loop()
        self._sent_at = 0.0
        self._sending: asyncio.Task[None] | None = None
        self.start(interval, self._loop)

    def end(self) -> None:
        """Stops sending."""
        self.cancel()
        if self._sending is not None:
            self._sending.cancel()

    def on_timeout(self) -> None:
        """Sends if the listener has waited long enough, else restarts the timer for the rest."""
        listener = self._listener()
        if listener is None:
            return
        now = self._loop.time()
        since = listener.silent_since
        left = self._interval
        if since is not None:
            left += max(since, self._sent_at) - now
        # The previous one has not been sent yet.
        if left <= 0:
            if self._sending is None or self._sending.done():
                self._sending = self._loop.create_task(self._send_one())
            self._sent_at, left = now, self._interval
        self.start(left, self._loop)

    async def _send_one(self) -> None:
        # The serving task notices that the caller is gone.
        with suppress(Exception):
            await self._send()
