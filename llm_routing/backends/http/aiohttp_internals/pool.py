"""The pool of the fast path: idle connections are found without aiohttp's connector."""

import asyncio
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import aiohttp
from aiohttp.connector import Connection

from llm_routing.backends.http.connection_use import ConnectionUse
from llm_routing.backends.http.pool import (
    HEADERS,
    LARGE_BODY,
    Destination,
    Pool,
)
from llm_routing.backends.http.responses import Response
from llm_routing.core.addresses import Network

from .connections import TrackedConnector, current_use
from .requests import PreparedRequest

KEEP_ALIVE = 30.0
MAX_REQUESTS = 100


class DirectPool(Pool):
    """A pool that writes requests straight to its connections. aiohttp's client sends large bodies,
    and all requests to a proxy."""

    def __init__(self, destination: Destination, allowed_networks: Sequence[Network]) -> None:
        super().__init__(destination, allowed_networks)
        self._requests: dict[tuple[str, str], PreparedRequest] = {}
        self._loop = asyncio.get_running_loop()
        self._idle: list[tuple[float, Connection]] = []
        self._tidying: asyncio.TimerHandle | None = None
        self._waiting = 0

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        connect_timeout: float,
        use: ConnectionUse,
    ) -> Awaitable[Response]:
        """See `Pool.send`."""
        if len(body) < LARGE_BODY:
            request = self._requests.get((method, url)) or self._prepare(method, url)
            if request is not None:
                return request.send(headers, body, connect_timeout, use)
        current_use.set(use)
        # They go back to aiohttp's connector, from which the client acquires connections.
        while self._idle:
            self._idle.pop()[1].release()
        return self._send_by_client(method, url, headers, body, connect_timeout, use)

    def take_idle(self, use: ConnectionUse) -> Connection | None:
        """Returns the idle connection that was used last; None if there is none."""
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
                use.bind(protocol)
                return connection
            connection.close()
        return None

    async def connect(
        self, request: aiohttp.ClientRequest, connect_timeout: float, use: ConnectionUse
    ) -> Connection:
        """Returns a new connection, or one that becomes idle before that is made."""
        current_use.set(use)
        with self._connecting():
            return await self._connector.connect(request, [], self._limits(connect_timeout))

    def give_back(self, connection: Connection, can_serve_again: bool) -> None:
        """Takes a connection back whose response is complete. It is closed if it cannot serve
        again."""
        if not can_serve_again or self.is_retired:
            connection.close()
        elif self._waiting:
            connection.release()
        else:
            self._idle.append((self._loop.time(), connection))
            if self._tidying is None:
                self._tidying = self._loop.call_later(KEEP_ALIVE, self._tidy)

    async def close(self) -> None:
        """See `Pool.close`."""
        self.is_retired = True
        if self._tidying is not None:
            self._tidying.cancel()
        while self._idle:
            self._idle.pop()[1].close()
        await super().close()

    @contextmanager
    def _connecting(self) -> Iterator[None]:
        """Connections go back to aiohttp's connector while a request waits for it."""
        self._waiting += 1
        try:
            with super()._connecting():
                yield
        finally:
            self._waiting -= 1

    def _make_connector(self, **options: Any) -> aiohttp.TCPConnector:
        self._connector = TrackedConnector(**options, keepalive_timeout=KEEP_ALIVE)
        return self._connector

    def _prepare(self, method: str, url: str) -> PreparedRequest | None:
        """Returns a new prepared request; None if aiohttp's client is to send it."""
        if self.destination.proxy:
            return None
        try:
            request = PreparedRequest(self, method, url, HEADERS)
        except (ValueError, aiohttp.InvalidURL):
            # The client tells what is wrong.
            return None
        if len(self._requests) >= MAX_REQUESTS:
            self._requests.clear()
        self._requests[method, url] = request
        return request

    def _tidy(self) -> None:
        """Closes connections that were idle for too long. The list is in order of time."""
        self._tidying, idle = None, self._idle
        now = self._loop.time()
        while idle and idle[0][0] + KEEP_ALIVE <= now:
            idle.pop(0)[1].close()
        if idle:
            self._tidying = self._loop.call_at(idle[0][0] + KEEP_ALIVE, self._tidy)
