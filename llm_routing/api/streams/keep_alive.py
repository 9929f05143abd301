"""Signs of life for a caller who hears nothing: when they are due, not what they look like."""

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

from llm_routing.core.timers import Timer, running_loop


class Listener(Protocol):
    """Whoever may have heard nothing for a while."""

    @property
    def silent_since(self) -> float | None:
        """Since when, in the loop's time; None where they do not wait for us."""


class KeepAliveTimer(Timer):
    """Runs `send` whenever the listener has waited in silence for `interval` seconds. One timer
    for all of a stream. End it in any case; it ends by itself when the listener is gone."""

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
        """Sends nothing more."""
        self.cancel()
        if self._sending is not None:
            self._sending.cancel()

    def on_timeout(self) -> None:
        """Sends if the listener has waited long enough, else sees when that will be."""
        listener = self._listener()
        if listener is None:
            return
        now = self._loop.time()
        since = listener.silent_since
        left = self._interval
        if since is not None:
            left += max(since, self._sent_at) - now
        # One that has not left yet is sign enough.
        if left <= 0:
            if self._sending is None or self._sending.done():
                self._sending = self._loop.create_task(self._send_one())
            self._sent_at, left = now, self._interval
        self.start(left, self._loop)

    async def _send_one(self) -> None:
        # A caller who is gone is noticed by whoever serves them.
        with suppress(Exception):
            await self._send()
