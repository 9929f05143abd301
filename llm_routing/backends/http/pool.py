"""A provider's connections in one event loop: how many, to which address, and when they close.

This is aiohttp's own path, by documented API only. `aiohttp_internals` has a faster one.
"""

import asyncio
import io
import socket
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp

from llm_routing.core.addresses import Network, address_problem
from llm_routing.core.errors import AddressForbidden

from .connection_use import ConnectionUse
from .responses import ClientResponse, Response

DNS_TTL = 30
LARGE_BODY = 2**20
# A body without compression cannot be a compression bomb, and is relayed unchanged.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "llm_routing"}


@dataclass(frozen=True, slots=True)
class Destination:
    """Identifies a pool. `origin` is `scheme://host:port`, `proxy` the URL of the proxy or empty,
    `limit` the maximum number of connections."""

    origin: str
    proxy: str
    limit: int


class Pool:
    """The connections to one destination. A retired pool closes when its last user releases it."""

    def __init__(self, destination: Destination, allowed_networks: Sequence[Network]) -> None:
        self.destination = destination
        self._prefix = f"{destination.origin}/"
        self.is_closed = False
        self.is_retired = False
        self._allowed_networks = allowed_networks
        self._users = 0
        self._timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(
            connector=self._make_connector(
                limit=destination.limit,
                ttl_dns_cache=DNS_TTL,
                # The operator chose the proxy, at whatever address.
                socket_factory=None if destination.proxy else self._socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=destination.proxy or None,
            headers=HEADERS,
            trace_configs=[_trace_connections()],
        )

    def acquire(self) -> None:
        """Adds a user."""
        self._users += 1

    def release(self) -> bool:
        """Removes a user. Returns whether the pool is to be closed now."""
        self._users -= 1
        return self.is_retired and self._users == 0

    async def retire(self) -> None:
        """Takes no new users, and closes the pool if it has none."""
        self.is_retired = True
        if self._users == 0:
            await self.close()

    def serves(self, url: str, limit: int) -> bool:
        """Whether the pool is for requests to `url` over at most `limit` connections."""
        return limit == self.destination.limit and (
            url.startswith(self._prefix) or url == self.destination.origin
        )

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        connect_timeout: float,
        use: ConnectionUse,
    ) -> Awaitable[Response]:
        """Returns the response once its head was received. `connect_timeout` is in seconds. Raises
        `aiohttp.ClientError`, `OSError`, `ValueError`, `MalformedAnswer`."""
        return self._send_by_client(method, url, headers, body, connect_timeout, use)

    async def close(self) -> None:
        """Closes all connections, used or idle."""
        self.is_retired = self.is_closed = True
        await self._session.close()

    async def _send_by_client(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        connect_timeout: float,
        use: ConnectionUse,
    ) -> Response:
        # aiohttp writes a file in chunks, but bytes at once.
        data = (body or None) if len(body) < LARGE_BODY else io.BytesIO(body)
        with self._connecting():
            response = await self._session.request(
                method,
                url,
                headers=headers,
                data=data,
                allow_redirects=False,
                timeout=self._limits(connect_timeout),
                trace_request_ctx=use,
            )
        return ClientResponse(response.status, response.headers, response.content, response.close)

    @contextmanager
    def _connecting(self) -> Iterator[None]:
        """Raises `aiohttp.ClientConnectionError` if the pool is closed during the block."""
        try:
            yield
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.is_closed and task is not None and not task.cancelling():
                # aiohttp cancels requests that wait for a connection when it is closed.
                raise aiohttp.ClientConnectionError("The pool is closed.") from None
            raise

    def _limits(self, connect_timeout: float) -> aiohttp.ClientTimeout:
        """Returns the timeouts of a request: only connecting has one."""
        if self._timeout.sock_connect != connect_timeout:
            self._timeout = aiohttp.ClientTimeout(
                total=None, sock_connect=connect_timeout, sock_read=None
            )
        return self._timeout

    def _make_connector(self, **options: Any) -> aiohttp.TCPConnector:
        # A new connection for each request. aiohttp's client would take unsolicited bytes on an
        # idle one for a response, and fails if the server has just closed it.
        return aiohttp.TCPConnector(**options, force_close=True)

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
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


def _trace_connections() -> aiohttp.TraceConfig:
    """Returns the hooks by which aiohttp's client reports that a request has a connection."""

    async def on_connection(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
        context.trace_request_ctx.connected()

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(on_connection)
    trace.on_connection_reuseconn.append(on_connection)
    return trace
