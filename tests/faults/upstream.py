"""A provider that sends raw bytes, scripted request by request.

What a well-behaved HTTP server can say wrong, the sandbox says; this one says the rest.
"""

import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Self

from tests.listening import listening

from . import answers


@dataclass(slots=True)
class Asked:
    """One request as it arrived; `ended` when we were done with it or the client was (seconds of
    the event loop), `was_left` where the client went first."""

    path: str
    model: str
    stream: bool
    head: bytes
    body: bytes
    at: float
    ended: float | None = None
    was_left: bool = False


class Exchange:
    """One request and the socket for its response."""

    def __init__(
        self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.asked = asked
        self._reader = reader
        self._writer = writer

    @property
    def is_anthropic(self) -> bool:
        return self.asked.path.endswith("/messages")

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def silence(self) -> None:
        """Says nothing until the client goes."""
        await self._reader.read()
        raise ConnectionResetError

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Ends the connection with RST instead of FIN."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Act = Callable[[Exchange], Awaitable[None]]


class RawUpstream:
    """Listens while the context is open. Requests take the acts of `script` in their order, and
    `usual` when there is none left; `log` holds all of them."""

    def __init__(self, usual: Act) -> None:
        self.usual = usual
        self.script: deque[Act] = deque()
        self.log: list[Asked] = []
        self.connections = 0
        self.url = ""
        self._listening = AsyncExitStack()

    async def __aenter__(self) -> Self:
        port = await self._listening.enter_async_context(listening(self._serve, limit=2**24))
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listening.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while not writer.is_closing():
            asked = await self._asked(reader)
            await self._answer(asked, reader, writer)

    async def _asked(self, reader: asyncio.StreamReader) -> Asked:
        head = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        body = await reader.readexactly(length)
        said = json.loads(body) if body else {}
        asked = Asked(
            path=head.split(b" ")[1].decode(),
            model=said.get("model", ""),
            stream=said.get("stream") is True,
            head=head,
            body=body,
            at=asyncio.get_running_loop().time(),
        )
        self.log.append(asked)
        return asked

    async def _answer(
        self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        act = self.script.popleft() if self.script else self.usual
        try:
            await act(Exchange(asked, reader, writer))
        except ConnectionError:
            asked.was_left = True
            raise
        finally:
            asked.ended = asyncio.get_running_loop().time()


def head(*fields: str, status: str = "200 OK", stream: bool = False) -> bytes:
    """Returns the head of a response."""
    kind = "text/event-stream" if stream else "application/json"
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunked(data: bytes) -> bytes:
    """Returns a chunk of a body; an empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def events_of(exchange: Exchange, pieces: Sequence[str] = answers.PIECES) -> list[bytes]:
    """Returns the events of a valid stream, in the requested format."""
    make = answers.anthropic_events if exchange.is_anthropic else answers.openai_events
    return make(pieces)


def whole_of(exchange: Exchange, text: str = answers.TEXT) -> bytes:
    """Returns a valid plain body, in the requested format."""
    make = answers.anthropic_whole if exchange.is_anthropic else answers.openai_whole
    return make(text)


def good_of(exchange: Exchange) -> bytes:
    """Returns all bytes of a valid response, with its head."""
    if exchange.asked.stream:
        body = b"".join(chunked(event) for event in events_of(exchange)) + chunked(b"")
        return head("Transfer-Encoding: chunked", stream=True) + body
    body = whole_of(exchange)
    return head(f"Content-Length: {len(body)}") + body


async def behave(exchange: Exchange) -> None:
    """A good answer, with words that stumble."""
    await exchange.send(good_of(exchange))


async def say_nothing(exchange: Exchange) -> None:
    """Receives the request and sends nothing."""
    await exchange.silence()


async def reset(exchange: Exchange) -> None:
    """Sends RST instead of a response."""
    exchange.reset()


def bytes_then_close(data: bytes) -> Act:
    """Sends these bytes, then FIN."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(data)
        exchange.close()

    return act


def bytes_then_silence(data: bytes) -> Act:
    """Sends these bytes, and keeps the connection open."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(data)
        await exchange.silence()

    return act


def cut_after(share: float, *, with_reset: bool = False) -> Act:
    """Sends a share of the bytes of a valid response, then closes the connection."""

    async def act(exchange: Exchange) -> None:
        data = good_of(exchange)
        await exchange.send(data[: int(len(data) * share)])
        if with_reset:
            await asyncio.sleep(0.05)  # RST throws away what has not been read
            exchange.reset()
        else:
            exchange.close()

    return act


def drip(seconds: float = 0.0) -> Act:
    """Sends a valid response, each byte in its own packet."""

    async def act(exchange: Exchange) -> None:
        for byte in good_of(exchange):
            await exchange.send(bytes((byte,)))
            await asyncio.sleep(seconds)

    return act


def endless(start: bytes, piece: bytes, seconds: float = 0.0) -> Act:
    """Sends a beginning, and then the same piece until the client disconnects."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(start)
        while True:
            await exchange.send(piece)
            await asyncio.sleep(seconds)

    return act


def body(data: bytes, *fields: str, status: str = "200 OK") -> Act:
    """Sends a complete response with this body."""

    async def act(exchange: Exchange) -> None:
        length = f"Content-Length: {len(data)}"
        await exchange.send(
            head(*fields, length, status=status, stream=exchange.asked.stream) + data
        )

    return act


def shaped(change: Callable[[list[bytes]], Sequence[bytes]], seconds: float = 0.0) -> Act:
    """A stream whose events were changed, this long between two of them; a good answer where no
    stream was asked for."""

    async def act(exchange: Exchange) -> None:
        if not exchange.asked.stream:
            await behave(exchange)
            return
        await exchange.send(head("Transfer-Encoding: chunked", stream=True))
        for event in change(events_of(exchange)):
            await exchange.send(chunked(event))
            await asyncio.sleep(seconds)
        await exchange.send(chunked(b""))

    return act


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Returns whether the condition came true within `seconds`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)
            return True
    return condition()
