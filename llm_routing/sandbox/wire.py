"""Sends replies over a connection, with the requested faults: cut, stalled, misframed.

The modules of the formats write the replies.
"""

import asyncio
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace

from aiohttp import web

from .faults import Faults
from .journal import Entry
from .reply import Event, Streamed, Whole

_MISSING_BYTES = 64
_PING_SECONDS = 0.1
_NO_LINGER = struct.pack("ii", 1, 0)
_NO_CHUNK = b"this is no chunk size\r\n"
_COMMENT = Event(b": the sandbox is at work\n\n")


class Dropped(Exception):
    """The connection was closed because a fault requested it."""


class ShuttingDown(Exception):
    """The sandbox stopped while an answer was delayed."""


class Wire:
    """Writes the answer to one request."""

    def __init__(
        self, request: web.Request, faults: Faults, entry: Entry, stopping: asyncio.Event
    ) -> None:
        self._request = request
        self._faults = faults
        self._entry = entry
        self._stopping = stopping

    async def pause(self, seconds: float | None) -> None:
        """Waits; with None until the client disconnects or the sandbox stops. Raises
        `ShuttingDown`."""
        if seconds == 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
        raise ShuttingDown

    def drop(self) -> Dropped:
        """Closes the connection after pending data was sent, or resets it if a fault requests
        that."""
        transport = self._request.transport
        if transport is not None and self._faults.reset:
            raw = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            transport.abort()
        elif transport is not None:
            transport.close()
        return Dropped()

    async def send(self, reply: Whole | Streamed) -> web.StreamResponse:
        """Sends a reply. Raises `Dropped` if a fault ends the connection, `ShuttingDown`, and
        `ConnectionResetError` or `CancelledError` if the client has disconnected."""
        headers = dict(reply.headers)
        if self._faults.retry_after is not None:
            headers["Retry-After"] = self._faults.retry_after
        response = web.StreamResponse(status=reply.status, headers=headers)
        self._entry.status = reply.status
        if isinstance(reply, Whole):
            await self._send_whole(response, reply)
        else:
            await self._send_events(response, reply)
        if self._faults.wrong_content_length:
            raise self.drop()
        await response.write_eof()
        return response

    async def _send_whole(self, response: web.StreamResponse, reply: Whole) -> None:
        faults, body = self._faults, reply.body
        response.headers["Content-Type"] = reply.content_type
        if faults.malformed_after is not None:
            body = body[: len(body) // 2] + b'"}{'
        if faults.truncate_json:
            body = body[: len(body) * 2 // 3]
        if faults.bad_framing_after is None:
            missing = _MISSING_BYTES if faults.wrong_content_length else 0
            response.content_length = len(body) + missing
        await response.prepare(self._request)
        await self.pause(faults.first_token_delay)
        half = len(body) // 2
        await self._write(response, body[:half])
        await self._interrupt(None)
        await self._write(response, body[half:])

    async def _send_events(self, response: web.StreamResponse, reply: Streamed) -> None:
        response.headers["Content-Type"] = "text/event-stream; charset=utf-8"
        response.headers["Cache-Control"] = "no-cache"
        events: Iterable[Event] = self._misshapen(reply)
        if self._faults.wrong_content_length:
            events = list(events)
            response.content_length = sum(len(self._framed(each)) for each in events)
            response.content_length += _MISSING_BYTES
        await response.prepare(self._request)
        sent = 0
        for event in events:
            if event.content and sent == 0:
                while self._faults.pings:
                    await self._write(response, _COMMENT.data)
                    await self.pause(_PING_SECONDS)
                await self.pause(self._faults.first_token_delay)
            if event.content or sent:
                await self._interrupt(sent)
            if event.content and sent:
                await self.pause(self._faults.token_delay)
            await self._write(response, self._framed(event))
            self._entry.events += 1
            sent += event.content
        if sent:
            await self._interrupt(sent)

    async def _interrupt(self, sent: int | None) -> None:
        """Cuts or stalls the answer if a fault is due after `sent` chunks of content. None stands
        for the middle of a whole body, where every such fault is due."""

        def due(after: int | None) -> bool:
            return after is not None and sent in (None, after)

        if due(self._faults.stall_after):
            await self.pause(None)
        if due(self._faults.bad_framing_after):
            if self._request.transport is not None:
                self._request.transport.write(_NO_CHUNK)
            raise self.drop()
        if due(self._faults.cut_after):
            raise self.drop()

    def _misshapen(self, reply: Streamed) -> Iterator[Event]:
        """Yields the events, with those that faults insert or truncate."""
        faults = self._faults
        malformed_left = faults.malformed_after is not None
        sent = 0
        for event in reply.events:
            due = event.content or sent > 0
            if due and malformed_left and faults.malformed_after == sent:
                malformed_left = False
                yield reply.broken
            if due and faults.error_in_200 == sent:
                yield reply.error
                return
            if due and faults.truncate_json and sent == 1:
                yield Event(event.data[: len(event.data) * 2 // 3])
                return
            if faults.comments:
                yield _COMMENT
            if event.content and faults.hole_after == sent:
                event = replace(event, data=event.data.rstrip()[:-1] + b"\n\n")
            yield event
            sent += event.content

    def _framed(self, event: Event) -> bytes:
        return event.data.replace(b"\n", b"\r\n") if self._faults.crlf else event.data

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        size = self._faults.split or len(data)
        for start in range(0, len(data), size or 1):
            await response.write(data[start : start + size])
            if self._faults.split:
                # Lets the kernel send each piece separately.
                await asyncio.sleep(0)
