"""Answers as server-sent events: the upstream is open before the response begins.

How an event looks is the caller's format's; here batches become chunks, and an end is an end.
"""

import asyncio
from collections.abc import AsyncIterator

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from llm_routing.formats.base import StreamRenderer
from llm_routing.lifecycle import is_cut, shutting_down
from llm_routing.routed import RoutedStream

from .errors import as_llm_error

_closing: set[asyncio.Task[None]] = set()


class EventStream:
    """The caller's bytes, one chunk for each batch of frames.

    An error in the middle is told in the stream, as its last word. The upstream is closed when the
    stream ends, when it is closed, and at the latest when nobody holds it any more: a caller may
    leave between the answer's head and its first chunk.
    """

    def __init__(self, frames: RoutedStream, renderer: StreamRenderer, request_id: str) -> None:
        self._frames = frames
        self._renderer = renderer
        self._request_id = request_id
        self._loop = asyncio.get_running_loop()
        self._ended = False
        self._closed = False

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> bytes:
        while not self._ended:
            try:
                batch = await anext(self._frames, None)
                has_ended = batch is None
                if batch is None:
                    chunk = self._renderer.end()
                else:
                    chunk = b"".join([self._renderer.render(frame) for frame in batch])
            except asyncio.CancelledError:
                if not is_cut():
                    raise
                has_ended = True
                chunk = self._renderer.error(shutting_down(), self._request_id)
            except Exception as error:  # noqa: BLE001  # told, and logged where it is a fault
                has_ended = True
                told = as_llm_error(error, self._request_id)
                chunk = self._renderer.error(told, self._request_id)
            if has_ended:
                await self.aclose()
            if chunk:
                return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Closes the upstream."""
        self._ended = True
        if not self._closed:
            self._closed = True
            await self._frames.aclose()

    def __del__(self) -> None:
        if not self._closed and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_close, self._frames)


async def stream_response(request: HttpRequest, events: EventStream) -> HttpResponseBase:
    """Server-sent events that are not to be cached, buffered or changed on the way.

    Under WSGI the event loop ends with the view, so there the whole answer is read first.
    """
    response: HttpResponseBase
    if isinstance(request, WSGIRequest):
        response = HttpResponse(b"".join([chunk async for chunk in events]))
    else:
        response = EventStreamResponse(events)
    response.headers["Content-Type"] = "text/event-stream; charset=utf-8"
    response.headers["Cache-Control"] = "no-cache, no-transform"
    response.headers["X-Accel-Buffering"] = "no"
    # Keeps Django's GZipMiddleware away, whose streams of many gzip members httpx reads to the end
    # of the first.
    response.headers["Content-Encoding"] = "identity"
    return response


class EventStreamResponse(StreamingHttpResponse):
    """A response that closes its events when its own reader does."""

    _iterator: AsyncIterator[bytes]

    def __aiter__(self) -> AsyncIterator[bytes]:
        # Django's own is a generator around a generator: closing the outer one leaves the inner
        # one, and with it the upstream, to the garbage collector.
        return self._iterator


def _close(frames: RoutedStream) -> None:
    task = asyncio.ensure_future(frames.aclose())
    _closing.add(task)
    task.add_done_callback(_closing.discard)
