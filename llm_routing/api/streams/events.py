"""Answers as server-sent events; the upstream response has begun before ours does.

The caller's format renders events. This module turns batches into chunks and errors into the last
event.
"""

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Literal

from django.http import StreamingHttpResponse

from llm_routing.api.errors import as_llm_error
from llm_routing.conf import get_settings
from llm_routing.core.events import Frame
from llm_routing.core.timers import Timer
from llm_routing.formats.base import StreamRenderer
from llm_routing.serving.shutdown import shutdown_error, was_cancelled_by_shutdown

from .keep_alive import KeepAliveTimer
from .pending import ResponseStream
from .read_ahead import IDLE, Idle, ReadAhead

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    # Keeps Django's GZipMiddleware away: it compresses a stream into many gzip members, of which
    # httpx reads only the first.
    "Content-Encoding": "identity",
}
"""Headers of server-sent events, which must not be cached, buffered or transformed."""

_closing: set[asyncio.Task[None]] = set()


class EventStream:
    """The bytes for the caller: one chunk per batch of frames, and keep-alives between them.

    An error in the middle is sent as the last event. The upstream closes when the stream ends or is
    closed, and at the latest when the last reference to it goes: a caller may leave between the
    response's head and its first chunk.

    A server takes chunks as long as its buffer has room. If it does not request the next chunk
    within `WRITE_TIMEOUT`, the caller is not reading: the task that serves the caller is cancelled,
    and `has_stalled` is true.
    """

    def __init__(self, frames: ResponseStream, renderer: StreamRenderer, request_id: str) -> None:
        settings = get_settings()
        self.has_stalled = False
        self._keep_alive_interval = settings.keep_alive_interval
        self._frames = ReadAhead(frames, self._keep_alive_interval)
        self._next: Callable[[], Awaitable[Sequence[Frame] | Literal[Idle.IDLE]]]
        self._next = self._frames.next
        self._signs: KeepAliveTimer | None = None
        self._renderer = renderer
        self._request_id = request_id
        self._write_timeout = settings.write_timeout
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Task[Any] | None = None
        self._taken_at = self._loop.time()
        self._is_waiting = False
        self._watch: _WriteTimer | None = None
        self._ended = False
        self._closed = False

    def __aiter__(self) -> "EventStream":
        return self

    def keep_alive_by(self, send: Callable[[bytes], Coroutine[Any, Any, None]]) -> None:
        """Sends keep-alives by `send` instead of yielding them as chunks, for servers that can send
        while they iterate. Reading then needs no extra task, whose cost every frame would pay."""
        self._next = self._frames.directly
        if self._keep_alive_interval:
            sign = partial(send, self._renderer.keep_alive)
            self._signs = KeepAliveTimer(sign, self._keep_alive_interval, weakref.ref(self))

    async def __anext__(self) -> bytes:
        self._is_waiting = True
        while not self._ended:
            has_ended = False
            try:
                batch = await self._next()
                if batch is IDLE:
                    chunk = self._renderer.keep_alive
                elif len(batch) == 1:
                    chunk = self._renderer.render(batch[0])
                else:
                    chunk = b"".join(map(self._renderer.render, batch))
            except StopAsyncIteration:
                has_ended = True
                chunk = self._renderer.end()
            except asyncio.CancelledError:
                if not was_cancelled_by_shutdown():
                    raise
                has_ended = True
                chunk = self._renderer.error(shutdown_error(), self._request_id)
            except Exception as error:  # noqa: BLE001  # told, and logged where it is a fault
                has_ended = True
                told = as_llm_error(error, self._request_id)
                chunk = self._renderer.error(told, self._request_id)
            if has_ended:
                await self.aclose()
            if chunk:
                self._is_waiting = False
                self._taken_at = self._loop.time()
                if self._watch is None:
                    self._server = asyncio.current_task()
                    self._watch_for(self._write_timeout)
                return chunk
        self._unwatch()
        raise StopAsyncIteration

    @property
    def silent_since(self) -> float | None:
        """Since when the caller has received nothing, in the event loop's time; None while a chunk
        waits to be sent."""
        return self._taken_at if self._is_waiting else None

    async def aclose(self) -> None:
        """Closes the upstream."""
        self._ended = True
        self._unwatch()
        if self._signs is not None:
            self._signs.end()
        if not self._closed:
            self._closed = True
            await self._frames.aclose()

    def check(self) -> None:
        """Cancels the serving task if the caller does not read, else schedules the next check."""
        self._watch = None
        if self._is_waiting:
            # We are waiting for the upstream; the next chunk is monitored again.
            return
        left = self._taken_at + self._write_timeout - self._loop.time()
        if left > 0:
            self._watch_for(left)
        elif self._server is not None:
            self.has_stalled = True
            self._server.cancel()

    def _watch_for(self, seconds: float) -> None:
        # One timer serves many chunks.
        self._watch = _WriteTimer(self)
        self._watch.start(seconds, self._loop)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._server = None

    def __del__(self) -> None:
        if not self._closed and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_close, self._frames)


class EventStreamResponse(StreamingHttpResponse):
    """A response that closes its events when its own reader does."""

    _iterator: AsyncIterator[bytes]

    @property
    def has_stalled(self) -> bool:
        """Whether the stream was cut because the caller did not read."""
        return isinstance(self._iterator, EventStream) and self._iterator.has_stalled

    def __aiter__(self) -> AsyncIterator[bytes]:
        # Django wraps a generator in another one: closing the outer one leaves the inner one, and
        # so the upstream, to the garbage collector.
        return self._iterator


class _WriteTimer(Timer):
    """Calls `EventStream.check`. A pending timer does not keep its stream alive."""

    __slots__ = ("_stream",)

    def __init__(self, stream: EventStream) -> None:
        self._stream = weakref.ref(stream)

    def on_timeout(self) -> None:
        stream = self._stream()
        if stream is not None:
            stream.check()


def _close(frames: ReadAhead[Any]) -> None:
    task = asyncio.ensure_future(frames.aclose())
    _closing.add(task)
    task.add_done_callback(_closing.discard)
