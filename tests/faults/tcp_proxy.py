"""A TCP proxy for what networks do to connections: delay, silence, resets, a thin line."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from tests.listening import listening

T = TypeVar("T")

PIECE = 64 * 1024


@dataclass(slots=True)
class Weather:
    """What happens to bytes under way, in both directions. `delay` is in seconds for each piece,
    `rate` in bytes a second; `swallows`: they disappear, and nobody is told; `refuses`: new
    connections are reset."""

    delay: float = 0.0
    rate: float | None = None
    swallows: bool = False
    refuses: bool = False


class Proxied(Protocol):
    """Something behind a proxy."""

    @property
    def proxy(self) -> "TcpProxy": ...


def weather(**fields: Any) -> Callable[[Proxied], None]:
    """Returns a function that sets the weather, and breaks what is connected if new connections
    are reset."""

    def change(where: Proxied) -> None:
        where.proxy.weather = Weather(**fields)
        if where.proxy.weather.refuses:
            where.proxy.reset()

    return change


class TcpProxy:
    """In front of the server that a URL leads to, in a thread of its own; `url` is the same URL
    through the proxy. Change `weather` at any time; `reset` breaks what is connected."""

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        assert parts.hostname
        assert parts.port
        self.weather = Weather()
        self.accepted = 0
        """Connections accepted since the start."""
        self._server_url = server_url
        self._target = (parts.hostname, parts.port)
        self._open: set[asyncio.StreamWriter] = set()
        self._listening = contextlib.AsyncExitStack()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        parts = urlsplit(self._server_url)
        userinfo = parts.netloc.rpartition("@")[0]
        port = self._run(self._listening.enter_async_context(listening(self._serve)))
        netloc = f"{userinfo}@127.0.0.1:{port}" if userinfo else f"127.0.0.1:{port}"
        self.url = urlunsplit(parts._replace(netloc=netloc))
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._open) // 2

    def reset(self) -> None:
        """RST to everybody who is connected."""
        self._run(self._reset_all())

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    async def _reset_all(self) -> None:
        for writer in list(self._open):
            _reset(writer)

    async def _stop(self) -> None:
        await self._reset_all()
        await self._listening.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.weather.refuses:
            _reset(writer)
            return
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            return
        self._open |= {writer, back}
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            self._open -= {writer, back}
            back.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(PIECE):
                weather = self.weather
                if weather.delay:
                    await asyncio.sleep(weather.delay)
                if weather.rate:
                    await asyncio.sleep(len(data) / weather.rate)
                if weather.swallows:
                    continue
                writer.write(data)
                await writer.drain()
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
