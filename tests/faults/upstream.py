"""A provider made of bytes: whatever can come over a socket, scripted request by request.

What a well-behaved HTTP server can say wrong, the sandbox says; this one says the rest.
"""

import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

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
    """One request and the socket that its answer goes to."""

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
        self._tasks: set[asyncio.Task[Any]] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**24)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while not writer.is_closing():
                asked = await self._asked(reader)
                await self._answer(asked, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

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
    """The head of an answer."""
    kind = "text/event-stream" if stream else "application/json"
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunked(data: bytes) -> bytes:
    """One chunk of a body of unknown length; empty is its end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def events_of(exchange: Exchange, pieces: Sequence[str] = answers.PIECES) -> list[bytes]:
    """A good stream's events, in the format that was asked for."""
    make = answers.anthropic_events if exchange.is_anthropic else answers.openai_events
    return make(pieces)


def whole_of(exchange: Exchange, text: str = answers.TEXT) -> bytes:
    """A good whole body, in the format that was asked for."""
    make = answers.anthropic_whole if exchange.is_anthropic else answers.openai_whole
    return make(text)


def good_of(exchange: Exchange) -> bytes:
    """All bytes of a good answer, head included."""
    if exchange.asked.stream:
        body = b"".join(chunked(event) for event in events_of(exchange)) + chunked(b"")
        return head("Transfer-Encoding: chunked", stream=True) + body
    body = whole_of(exchange)
    return head(f"Content-Length: {len(body)}") + body


async def behave(exchange: Exchange) -> None:
    """A good answer, with words that stumble."""
    await exchange.send(good_of(exchange))


async def say_nothing(exchange: Exchange) -> None:
    """Takes the request and keeps silent."""
    await exchange.silence()


async def reset(exchange: Exchange) -> None:
    """RST in place of an answer."""
    exchange.reset()


def bytes_then_close(data: bytes) -> Act:
    """These bytes, then FIN."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(data)
        exchange.close()

    return act


def bytes_then_silence(data: bytes) -> Act:
    """These bytes, then nothing more."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(data)
        await exchange.silence()

    return act


def cut_after(share: float, *, with_reset: bool = False) -> Act:
    """This share of a good answer's bytes, then the end of the connection."""

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
    """A good answer, every byte in a packet of its own."""

    async def act(exchange: Exchange) -> None:
        for byte in good_of(exchange):
            await exchange.send(bytes((byte,)))
            await asyncio.sleep(seconds)

    return act


def endless(start: bytes, piece: bytes, seconds: float = 0.0) -> Act:
    """A beginning, and then the same piece until the client goes."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(start)
        while True:
            await exchange.send(piece)
            await asyncio.sleep(seconds)

    return act


def body(data: bytes, *fields: str, status: str = "200 OK") -> Act:
    """A whole answer with this body."""

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
    """Whether it came to be so within `seconds`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)
            return True
    return condition()
