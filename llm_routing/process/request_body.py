"""The body of a request to the app's own endpoints, received within limits of size and time."""

import asyncio
from collections.abc import Mapping

from llm_routing.conf import get_settings
from llm_routing.core.errors import LLMError, RequestTimedOut
from llm_routing.core.types import Caller
from llm_routing.serving.request_limits import BODY_TIMEOUT, body_too_large
from llm_routing.serving.request_monitor import RequestMonitor

from .admission import admission
from .body_budget import body_budget


class RequestBody:
    """A body in memory. If it exceeds a limit the rest is not received, and `read` raises the
    error, so that the endpoint answers in its own format."""

    __slots__ = ("_content", "_counted", "_error", "_key_name", "_monitor", "_position")

    def __init__(self, monitor: RequestMonitor) -> None:
        self._monitor = monitor
        self._content = b""
        self._position = 0
        self._error: LLMError | None = None
        self._key_name = ""
        self._counted = 0

    async def fill(self, headers: Mapping[str, str], caller: Caller) -> bool:
        """Receives the body; returns False if the caller disconnected. Nothing is received if the
        gateway has no capacity for the request."""
        self._error = admission.refusal()
        if self._error is not None:
            self._monitor.body_has_come()
            return True
        limit = get_settings().max_body_bytes
        self._key_name = key_name = caller.key_name
        announced = headers.get("content-length", "")
        size = int(announced[:20]) if announced.isdecimal() else 0
        is_too_large = size > limit
        self._error = body_budget.refusal(key_name, size)
        receive, more = self._monitor.receive, True
        pieces: list[bytes] = []
        received = 0
        try:
            while more and not is_too_large and self._error is None:
                event = await receive()
                if event["type"] == "http.disconnect":
                    return False
                if piece := event.get("body"):
                    pieces.append(piece)
                    received += len(piece)
                    self._error = body_budget.take(key_name, len(piece))
                    if self._error is None:
                        self._counted = received
                more = event.get("more_body", False)
                is_too_large = received > limit
        except asyncio.CancelledError:
            if not self._monitor.body_is_late():
                raise
            self._error = RequestTimedOut(f"The body took longer than {BODY_TIMEOUT:.0f} s.")
        if is_too_large:
            self._error = body_too_large(limit)
        self._monitor.body_has_come()
        self._content = b"".join(pieces)
        return True

    def close(self) -> None:
        """Frees the memory, at the end of the request."""
        self._content = b""
        if self._counted:
            body_budget.release(self._key_name, self._counted)
            self._counted = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """See `io.BytesIO.read`. Raises `RequestTooLarge`, `RequestTimedOut`, `Overloaded`,
        `Throttled`."""
        if self._error is not None:
            raise self._error
        start = self._position
        stop = len(self._content) if size is None or size < 0 else start + size
        piece = self._content[start:stop]
        self._position += len(piece)
        return piece
