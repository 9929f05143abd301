"""A provider's connections in one event loop: how many, where to, and when they are closed.

Requests and what their failures are called are `http_aiohttp`'s.
"""

import asyncio
import functools
import socket
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohappyeyeballs import AddrInfoType
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from llm_routing.core.addresses import Network, is_allowed
from llm_routing.core.errors import AddressForbidden

KEEP_ALIVE = 30.0
DNS_TTL = 30


@dataclass(frozen=True, slots=True)
class Destination:
    """What a pool is for. `origin` is `scheme://host:port`, `proxy` the URL of the proxy on the
    way there or empty, `limit` how many connections there may be at one time."""

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
        self.session = aiohttp.ClientSession(
            connector=_Connector(
                limit=destination.limit,
                ttl_dns_cache=DNS_TTL,
                keepalive_timeout=KEEP_ALIVE,
                # The proxy is the operator's choice, wherever it is.
                socket_factory=None if destination.proxy else self._socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=destination.proxy or None,
            # A body that is not compressed can be no bomb and is relayed as it is.
            headers={"Accept-Encoding": "identity", "User-Agent": "llm_routing"},
        )

    def enter(self) -> None:
        """One more user."""
        self._users += 1

    async def leave(self) -> None:
        """One user less."""
        self._users -= 1
        await self._close_if_idle()

    async def retire(self) -> None:
        """There will be no new user."""
        self._is_retired = True
        await self._close_if_idle()

    async def close(self) -> None:
        """Closes all connections, in use or not."""
        await self.session.close()

    async def _close_if_idle(self) -> None:
        if self._is_retired and self._users == 0:
            await self.close()

    def _socket(self, address: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, destination = address
        host = str(destination[0])
        if not is_allowed(host, self._allowed_networks):
            raise AddressForbidden(
                f"The provider's address {host} is not public; settings do not allow it "
                "(LLM_ALLOWED_UPSTREAM_NETWORKS)."
            )
        return socket.socket(family, kind, protocol)


class Use:
    """One use of a connection, as far as it matters to whether it may be repeated."""

    def __init__(self, *, wants_new: bool) -> None:
        self.wants_new = wants_new
        self._connection: ResponseHandler | None = None

    def of(self, connection: ResponseHandler | None) -> None:
        """The connection that was found."""
        self._connection = connection

    @property
    def was_stale(self) -> bool:
        """Whether the connection had served before and brought no byte this time: then it was
        most likely closed while it was idle, and nobody has read the request."""
        connection = self._connection
        return isinstance(connection, _Protocol) and connection.uses > 1 and connection.is_silent


current_use: ContextVar[Use] = ContextVar("llm_routing_use_of_a_connection")


class _Protocol(ResponseHandler):
    """Knows how often the connection has served, and whether it has answered this time."""

    uses = 0
    is_silent = True

    def data_received(self, data: bytes) -> None:
        self.is_silent = False
        super().data_received(data)


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
            if isinstance(protocol, _Protocol):
                if use.wants_new and protocol.uses:
                    connection.close()
                    continue
                protocol.uses += 1
                protocol.is_silent = True
            use.of(protocol)
            return connection
