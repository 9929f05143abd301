"""Watches a request while it is served: a body that does not arrive, a caller that disconnects."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from typing import Any

from llm_routing.core.timers import Timer

from .request_limits import BODY_TIMEOUT
from .sending import Send
from .uvicorn_internals.writes import abort

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

SHORT_SECONDS = 0.1
"""Requests that end within this time are not watched: they cost neither a timer nor a task."""


class RequestMonitor(Timer):
    """Cancels the task `handling` if the request's body is late or its caller disconnects."""

    __slots__ = ("_disconnecting", "_handling", "_is_late", "_is_long", "_is_reading", "receive")

    def __init__(self, receive: Receive, handling: "asyncio.Task[Any]") -> None:
        self.receive = receive
        self._handling = handling
        self._is_reading = True
        self._is_long = self._is_late = False
        self._disconnecting: asyncio.Task[None] | None = None
        self.start(SHORT_SECONDS, handling.get_loop())

    def body_has_come(self) -> None:
        """Ends the wait for the body. The only event that may follow is a disconnect."""
        self._is_reading = False
        if self._is_long:
            self.cancel()
            self._listen()

    def body_is_late(self) -> bool:
        """Returns whether the task was cancelled because the body is late. If so, the cancellation
        is revoked, so that the task can send the error."""
        if self._is_late:
            self._handling.uncancel()
        return self._is_late

    async def caller_is_gone(self, send: Send, response: object) -> bool:
        """Returns whether the task was cancelled because the caller disconnected, or does not read
        `response`; the connection is dropped then. If so, the cancellation is revoked."""
        if getattr(response, "has_stalled", False):
            self.close()
            await abort(send)
        elif self._disconnecting is None or not self._disconnecting.done():
            return False
        self._handling.uncancel()
        return True

    def close(self) -> None:
        """Stops watching, at the end of the request."""
        self.cancel()
        if self._disconnecting is not None:
            self._disconnecting.cancel()

    def on_timeout(self) -> None:
        """The request takes longer than `SHORT_SECONDS`, or its body longer than its limit."""
        if not self._is_reading:
            self._is_long = True
            self._listen()
        elif self._is_long:
            self._is_late = True
            self._handling.cancel()
        else:
            self._is_long = True
            self.start(max(0.0, BODY_TIMEOUT - SHORT_SECONDS), self._handling.get_loop())

    def _listen(self) -> None:
        if self._disconnecting is None:
            # A context of its own, because the timer may fire in that of another request.
            self._disconnecting = asyncio.create_task(
                _cancel_on_disconnect(self.receive, self._handling), context=Context()
            )


async def _cancel_on_disconnect(receive: Receive, handling: "asyncio.Task[Any]") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    handling.cancel()
