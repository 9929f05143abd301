"""A provider's connections in one event loop: how many, where to, and when they are closed.

Requests and what their failures are called are `http_aiohttp`'s.
"""

import asyncio
import functools
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohappyeyeballs import AddrInfoType
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage

from llm_routing.core.addresses import Network, address_problem
from llm_routing.core.errors import AddressForbidden

from .direct import DirectConnection, Direction, Use, unacknowledged_bytes
from .reader import MAX_HEAD_BYTES, AnswerReader, Incoming, LeftToAiohttp

KEEP_ALIVE = 30.0
DNS_TTL = 30
MAX_DIRECTIONS = 100
# A body that is not compressed can be no bomb and is relayed as it is.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "llm_routing"}


@dataclass(frozen=True, slots=True)
class Destination:
    """Identifies a pool. `origin` is `scheme://host:port`, `proxy` the URL of the proxy or empty,
    `limit` the maximum number of connections."""

    origin: str
    proxy: str
    limit: int


class Pool:
    """The connections to one destination. A retired pool closes when its last user has left."""

    def __init__(self, destination: Destination, allowed_networks: Sequence[Network]) -> None:
        self.destination = destination
        self._allowed_networks = allowed_networks
        self._users = 0
        self._is_retired = False
        self.is_closed = False
        self._timeout = aiohttp.ClientTimeout(total=None)
        self._directions: dict[tuple[str, str], Direction] = {}
        self._loop = asyncio.get_running_loop()
        self._idle: list[tuple[float, Connection]] = []
        self._tidying: asyncio.TimerHandle | None = None
        self._connecting = 0
        self._connector = _Connector(
            limit=destination.limit,
            ttl_dns_cache=DNS_TTL,
            keepalive_timeout=KEEP_ALIVE,
            # The proxy is the operator's choice, wherever it is.
            socket_factory=None if destination.proxy else self._socket,
        )
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=destination.proxy or None,
            headers=HEADERS,
        )

    def enter(self) -> None:
        """One more user."""
        self._users += 1

    def leave(self) -> bool:
        """One user less. Whether the pool is to be closed now."""
        self._users -= 1
        return self._is_retired and self._users == 0

    async def retire(self) -> None:
        """There will be no new user."""
        self._is_retired = True
        if self._users == 0:
            await self.close()

    def leads_to(self, url: str, limit: int) -> bool:
        """Whether the pool is for requests to `url`, with so many connections."""
        destination = self.destination
        if destination.limit != limit:
            return False
        origin = destination.origin
        return url == origin or url.startswith(origin + "/")

    def client(self) -> aiohttp.ClientSession:
        """aiohttp's own client, to which the idle connections are left."""
        while self._idle:
            self._idle.pop()[1].release()
        return self._session

    async def connect(
        self,
        request: aiohttp.ClientRequest,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # aiohttp's own
        use: Use,
    ) -> Connection:
        """The idle connection that was used last, else a new one; see `Connections`."""
        idle = self._idle
        while idle:
            since, connection = idle.pop()
            protocol = connection.protocol
            if (
                protocol is not None
                and protocol.is_connected()
                and not use.wants_new
                and self._loop.time() - since <= KEEP_ALIVE
            ):
                use.of(protocol)
                return connection
            connection.close()
        current_use.set(use)
        with self.waiting():
            return await self._connector.connect(request, [], timeout)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Somebody waits at aiohttp's connector, to which connections go back meanwhile."""
        self._connecting += 1
        try:
            yield
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.is_closed and task is not None and not task.cancelling():
                # aiohttp's word for who waits when it is closed.
                raise aiohttp.ClientConnectionError("The pool is closed.") from None
            raise
        finally:
            self._connecting -= 1

    def give_back(self, connection: Connection, can_serve_again: bool) -> None:
        """See `Connections`."""
        if not can_serve_again or self._is_retired:
            connection.close()
        elif self._connecting:
            connection.release()
        else:
            self._idle.append((self._loop.time(), connection))
            if self._tidying is None:
                self._tidying = self._loop.call_later(KEEP_ALIVE, self._tidy)

    def timeout(self, connect: float) -> aiohttp.ClientTimeout:
        """Of a request that may take `connect` seconds to connect, and any time after that."""
        if self._timeout.sock_connect != connect:
            self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=None)
        return self._timeout

    def direction(self, method: str, url: str) -> Direction | None:
        """The way to `url` without aiohttp's client; None where there is none."""
        if self.destination.proxy:
            return None
        direction = self._directions.get((method, url))
        if direction is None:
            try:
                direction = Direction(self, method, url, HEADERS)
            except (ValueError, aiohttp.InvalidURL):
                # The client says what is wrong with it.
                return None
            if len(self._directions) >= MAX_DIRECTIONS:
                self._directions.clear()
            self._directions[method, url] = direction
        return direction

    async def close(self) -> None:
        """Closes all connections, in use or not."""
        self._is_retired = self.is_closed = True
        if self._tidying is not None:
            self._tidying.cancel()
        while self._idle:
            self._idle.pop()[1].close()
        await self._session.close()

    def _tidy(self) -> None:
        """Closes what has been idle for too long; what came back first stands first."""
        self._tidying, idle = None, self._idle
        now = self._loop.time()
        while idle and idle[0][0] + KEEP_ALIVE <= now:
            idle.pop(0)[1].close()
        if idle:
            self._tidying = self._loop.call_at(idle[0][0] + KEEP_ALIVE, self._tidy)

    def _socket(self, address: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, destination = address
        host = str(destination[0])
        problem = address_problem(
            host,
            self._allowed_networks,
            is_encrypted=self.destination.origin.startswith("https:"),
        )
        if problem:
            raise AddressForbidden(problem)
        return socket.socket(family, kind, protocol)


current_use: ContextVar[Use] = ContextVar("llm_routing_use_of_a_connection")


class _Protocol(ResponseHandler, DirectConnection):
    """aiohttp's end of a connection, whose answers are read by httptools where they can be."""

    _reader: AnswerReader | None = None

    def expect(self, incoming: Incoming) -> bool:
        """See `DirectConnection`."""
        if self._reader is None:
            self._reader = AnswerReader()
        tail, self._tail = self._tail, b""
        self._reader.expect(incoming, is_unasked=bool(tail))
        if tail:
            # A server that has no room says so before it is asked.
            self.data_received(tail)
        return not tail

    def is_connected(self) -> bool:
        """Not where something came while nobody had asked: it would be taken for an answer."""
        return super().is_connected() and not self._buffer and not self._tail

    def set_response_params(self, **params: Any) -> None:
        """aiohttp reads the next answer."""
        self._reader = None
        super().set_response_params(**params)

    def feed_data(self, data: tuple[RawResponseMessage, Any], size: int = 0) -> None:
        if data[0].code >= HTTPStatus.OK:
            self.head_bytes = None
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        self.is_silent = False
        if self._reader is not None:
            try:
                if not self._reader.feed(data) and self.transport is not None:
                    self.transport.abort()
                return
            except LeftToAiohttp as left:
                data = left.data
                self.set_response_params(read_until_eof=True)
                left.incoming.end(can_serve_again=False)
        super().data_received(data)
        if self.head_bytes is not None:
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD_BYTES and self.transport is not None:
                self.set_exception(HttpProcessingError(message="a head without end"))
                self.transport.abort()
        error, payload = self.exception(), self._payload
        if error is not None and payload is not None and payload.exception() is None:
            # aiohttp tells of broken framing whoever waits for a head, and lets the one who reads
            # the body wait for ever.
            payload.set_exception(error)

    def eof_received(self) -> None:
        self.unacknowledged = unacknowledged_bytes(self.transport)
        super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._reader is not None:
            self._reader.lose(exc)
        super().connection_lost(exc)


def _protocol(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _Protocol(loop)


class _Connector(aiohttp.TCPConnector):
    """Tells the current use which connection it has, and gives it a new one if it wants one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Were this no longer what aiohttp reads, no use would ever count as stale.
        self._factory = functools.partial(_protocol, loop=self._loop)

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # aiohttp's own signature
    ) -> Connection:
        use = current_use.get()
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if use.wants_new and isinstance(protocol, _Protocol) and protocol.uses:
                connection.close()
                continue
            use.of(protocol)
            return connection
