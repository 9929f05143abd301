"""The HTTP client for providers: aiohttp, with one pool for each provider and event loop.

It moves bytes and names failures; wire formats read the bytes.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from weakref import WeakSet

import aiohttp

from llm_routing.core.addresses import Network, check_base_url
from llm_routing.core.errors import (
    AddressForbidden,
    AnswerTooLarge,
    CertificateRejected,
    ConnectionFailed,
    ConnectionLost,
    ConnectTimeout,
    MalformedAnswer,
    NameResolutionFailed,
    TLSFailed,
    UpstreamError,
)
from llm_routing.core.ports import no_op
from llm_routing.core.timers import running_loop

from .aiohttp_internals.versions import problems
from .connection_use import ConnectionUse
from .pool import Destination, Pool
from .proxies import Proxies
from .responses import NOT_HTTP, Response

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0
STALE_SECONDS = 2.0
"""If a server closes an idle connection while a request is sent, that is noticed within a round
trip. A server that hangs up later has worked on the request, and may bill it."""


class AiohttpUpstreamResponse:
    """`core.ports.UpstreamResponse` over a `Response`."""

    __slots__ = ("_pool", "_response", "headers", "status")

    def __init__(self, response: Response, pool: Pool) -> None:
        self._response = response
        self._pool: Pool | None = pool
        self.status = response.status
        self.headers = response.headers

    async def read(self, max_bytes: int) -> bytes:
        """Returns the whole body; see `core.ports.UpstreamResponse`."""
        whole = self._response.whole(max_bytes)
        if whole is not None:
            return whole
        # Not a list of chunks: a chunk of a single byte takes 40 bytes of memory.
        body = bytearray()
        while chunk := await self.next_chunk():
            if len(body) + len(chunk) > max_bytes:
                raise AnswerTooLarge(f"The answer is larger than {max_bytes} bytes.")
            body += chunk
        return bytes(body)

    def next_chunk(self, within: float | None = None) -> Awaitable[bytes]:
        """Returns the bytes received so far; see `core.ports.UpstreamResponse`."""
        return self._response.next_chunk(within)

    async def aclose(self) -> None:
        """Drops the connection, unless the response is complete: then it is back in its pool."""
        self._response.close()
        pool, self._pool = self._pool, None
        if pool is not None and pool.release():
            await pool.close()


class AiohttpTransport:
    """`core.ports.Transport` over aiohttp.

    Each address is checked against `allowed_networks` when a socket to it is made, so neither a
    literal address, a redirect nor a name that changes its address leads elsewhere. With a proxy
    only literal addresses are checked: the proxy resolves names, and has to guard its network.

    A provider's pool is replaced if its address or size changes; the old pool closes when it is not
    in use any more. `on_forbidden` is called with the provider and the reason when an address is
    refused. With a release of aiohttp whose internals are not known, aiohttp's own client sends
    each request over a new connection, and only the deadline ends a response with endless interim
    responses or broken chunks.
    """

    def __init__(
        self,
        *,
        pool_size: int,
        allowed_networks: Sequence[Network],
        proxies: Proxies = Proxies(),  # noqa: B008  # it is frozen
        on_forbidden: Callable[[str, str], None] | None = None,
    ) -> None:
        self._pool_size = pool_size
        self._allowed_networks = tuple(allowed_networks)
        self._proxies = proxies
        self._on_forbidden = on_forbidden
        self._make_pool = _pool_class()
        # Pools refer to their loop, so weak references to loops would free nothing.
        self._pools: dict[asyncio.AbstractEventLoop, _Pools] = {}

    async def send(
        self,
        provider: str,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        connect_timeout: float,
        max_connections: int | None,
        on_connected: Callable[[], None] = no_op,
    ) -> AiohttpUpstreamResponse:
        """Returns the response once its head was received; see `core.ports.Transport`.

        If the connection was closed while it was idle, the request is sent again at once over a new
        one, provided that it is a GET or nobody can have read a byte of it (RFC 9110 section
        9.2.2).
        """
        limit = max_connections or self._pool_size
        pool = self._pool(provider, url, limit) or await self._new_pool(provider, url, limit)
        pool.acquire()
        use = ConnectionUse(on_connected)
        began = time.monotonic()
        try:
            try:
                response = await pool.send(method, url, headers, body, connect_timeout, use)
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, ConnectionError):
                is_late = time.monotonic() - began > STALE_SECONDS
                may_repeat = method == "GET" or use.is_unread
                if not use.was_stale or not may_repeat or is_late or pool.is_closed:
                    raise
                use = ConnectionUse(no_op, wants_new=True)
                response = await pool.send(method, url, headers, body, connect_timeout, use)
        except BaseException as error:
            if pool.release():
                await pool.close()
            if isinstance(error, AddressForbidden) and self._on_forbidden is not None:
                self._on_forbidden(provider, error.message)
            if isinstance(error, aiohttp.ClientError | OSError | ValueError):
                raise _error_before_response(error) from error
            raise
        return AiohttpUpstreamResponse(response, pool)

    async def aclose(self) -> None:
        """Closes all connections, each in its own event loop."""
        here = asyncio.get_running_loop()
        for loop, pools in list(self._pools.items()):
            self._pools.pop(loop, None)
            if loop is here:
                await pools.close()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(pools.close(), loop)
                # That loop may end before it runs this.
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.wrap_future(closing), CLOSE_SECONDS)

    def _pool(self, provider: str, url: str, limit: int) -> Pool | None:
        """Returns the provider's pool; None if it has none for such requests."""
        pools = self._pools.get(running_loop())
        pool = None if pools is None else pools.current.get(provider)
        return pool if pool is not None and pool.serves(url, limit) else None

    async def _new_pool(self, provider: str, url: str, limit: int) -> Pool:
        """Replaces the provider's pool, unless another request does so meanwhile."""
        pools = self._pools.setdefault(asyncio.get_running_loop(), _Pools())
        while (pool := self._pool(provider, url, limit)) is None:
            origin = "/".join(url.split("/", 3)[:3])
            destination = Destination(origin, self._proxy(origin), limit)
            new = self._make_pool(destination, self._allowed_networks)
            await pools.replace(provider, new)
        return pool

    def _proxy(self, origin: str) -> str:
        try:
            proxy = self._proxies.for_origin(origin)
        except ValueError:
            raise ConnectionFailed("The provider's base URL is not valid.") from None
        if proxy:
            try:
                check_base_url(origin, self._allowed_networks)
            except ValueError as error:
                raise AddressForbidden(str(error)) from None
        return proxy


class _Pools:
    """The pools of one event loop: the current ones by provider, and the retired ones."""

    def __init__(self) -> None:
        self.current: dict[str, Pool] = {}
        self._retired: WeakSet[Pool] = WeakSet()

    async def replace(self, provider: str, new: Pool) -> None:
        old = self.current.get(provider)
        self.current[provider] = new
        if old is not None:
            self._retired.add(old)
            await old.retire()

    async def close(self) -> None:
        for pool in (*self.current.values(), *self._retired):
            await pool.close()


def _pool_class() -> type[Pool]:
    if found := problems():
        logger.warning("Requests go through aiohttp's own client: %s.", "; ".join(found))
        return Pool
    # With other releases of aiohttp this may not even import.
    from .aiohttp_internals.pool import DirectPool

    return DirectPool


def _error_before_response(error: Exception) -> UpstreamError:
    match error:
        case aiohttp.ClientProxyConnectionError():
            return ConnectionFailed("No connection to the HTTP proxy.")
        case aiohttp.ClientHttpProxyError():
            return ConnectionFailed(
                f"The HTTP proxy does not connect to the provider (status {error.status})."
            )
        case aiohttp.ClientConnectorDNSError():
            return NameResolutionFailed("The provider's name has no address.")
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            return CertificateRejected("The provider's certificate is not trusted.")
        case aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            return TLSFailed("No TLS connection to the provider.")
        case aiohttp.ConnectionTimeoutError() | aiohttp.ServerTimeoutError():
            return ConnectTimeout("No connection to the provider in time.")
        case aiohttp.InvalidURL() | ValueError():
            return ConnectionFailed("The provider's base URL is not valid.")
        case aiohttp.ClientConnectorError():
            return ConnectionFailed("No connection to the provider.")
        case aiohttp.ClientConnectionError() | OSError():
            return ConnectionLost("The provider closed the connection before it answered.")
        case _:
            return MalformedAnswer(NOT_HTTP)
