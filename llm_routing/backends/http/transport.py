"""The hot path's HTTP client: aiohttp, one connection pool for each provider and event loop.

What an answer means is the wire formats' business; this file moves bytes and names failures.
"""

import asyncio
import io
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from weakref import WeakKeyDictionary, WeakSet

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

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

from .direct import AiohttpResponse, Response, Use
from .pool import Destination, Pool, current_use
from .proxies import Proxies

LARGE_BODY = 2**20
CLOSE_SECONDS = 5.0
STALE_SECONDS = 2.0
"""A server that closed an idle connection as we sent is heard of within a round trip; one that
hangs up later has worked on the request, and may bill it."""


class AiohttpAnswer:
    """`core.ports.UpstreamResponse` over a response."""

    __slots__ = ("_pool", "_response", "status")

    def __init__(self, response: Response, pool: Pool) -> None:
        self._response = response
        self._pool: Pool | None = pool
        self.status = response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """See `core.ports.UpstreamResponse`."""
        return self._response.headers

    async def read(self, max_bytes: int) -> bytes:
        """The whole body; see `core.ports.UpstreamResponse`."""
        whole = self._response.whole(max_bytes)
        if whole is not None:
            # It has come along with its head.
            return whole
        # Not a list of chunks: one of a single byte takes forty.
        body = bytearray()
        while chunk := await self.next_chunk():
            if len(body) + len(chunk) > max_bytes:
                raise AnswerTooLarge(f"The answer is larger than {max_bytes} bytes.")
            body += chunk
        return bytes(body)

    async def next_chunk(self) -> bytes:
        """The bytes that have come; see `core.ports.UpstreamResponse`."""
        try:
            return await self._response.next_chunk()
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            raise _during_answer(error) from error

    async def aclose(self) -> None:
        """A connection whose answer was read to its end is already back in its pool."""
        self._response.close()
        pool, self._pool = self._pool, None
        if pool is not None and pool.leave():
            await pool.close()


class AiohttpTransport:
    """`core.ports.Transport` over aiohttp.

    An address is checked against `allowed_networks` as the socket to it is made, so neither a
    literal, nor a redirect, nor a name that changes its mind leads elsewhere. Behind a proxy the
    literal addresses are checked; a name is resolved by the proxy, which has to guard its network.

    A provider's pool is replaced when it is asked for at another address or size; the old one
    closes when nothing uses it. `on_forbidden` is called with the provider and the reason when an
    address is refused.
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
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pools] = WeakKeyDictionary()

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
    ) -> AiohttpAnswer:
        """The answer, once its head has come; see `core.ports.Transport`.

        Where a connection turns out to have been closed while it was idle, the request is sent
        again at once over a new one, if that repeats nothing (RFC 9110 section 9.2.2): it is a GET,
        or nobody can have read a byte of it.
        """
        limit = max_connections or self._pool_size
        pool = self._pool(provider, url, limit) or await self._new_pool(provider, url, limit)
        pool.enter()
        try:
            response = await self._request(
                pool, method, url, headers, body, connect_timeout, on_connected
            )
        except BaseException as error:
            if pool.leave():
                await pool.close()
            if isinstance(error, AddressForbidden) and self._on_forbidden is not None:
                self._on_forbidden(provider, error.message)
            if isinstance(error, aiohttp.ClientError | HttpProcessingError | OSError | ValueError):
                raise _before_answer(error) from error
            raise
        return AiohttpAnswer(response, pool)

    async def _request(
        self,
        pool: Pool,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        connect_timeout: float,
        on_connected: Callable[[], None],
    ) -> Response:
        use = Use(wants_new=False, on_connected=on_connected)
        began = time.monotonic()
        try:
            return await self._once(pool, method, url, headers, body, connect_timeout, use)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, ConnectionError):
            is_late = time.monotonic() - began > STALE_SECONDS
            may_repeat = method == "GET" or use.is_unread
            if not use.was_stale or not may_repeat or is_late or pool.is_closed:
                raise
        use = Use(wants_new=True, on_connected=no_op)
        return await self._once(pool, method, url, headers, body, connect_timeout, use)

    def _once(
        self,
        pool: Pool,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        connect_timeout: float,
        use: Use,
    ) -> Awaitable[Response]:
        timeout = pool.timeout(connect_timeout)
        direction = pool.direction(method, url) if len(body) < LARGE_BODY else None
        if direction is not None:
            return direction.send(headers, body, timeout, use)
        # aiohttp writes a file in chunks, but the bytes of an image at one go.
        data = (body or None) if len(body) < LARGE_BODY else io.BytesIO(body)
        return self._by_client(pool, method, url, headers, data, timeout, use)

    async def _by_client(
        self,
        pool: Pool,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: bytes | io.BytesIO | None,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # aiohttp's own
        use: Use,
    ) -> Response:
        current_use.set(use)
        client = pool.client()
        with pool.waiting():
            response = await client.request(
                method, url, headers=headers, data=data, allow_redirects=False, timeout=timeout
            )
        return AiohttpResponse(response.status, response.headers, response.content, response.close)

    async def aclose(self) -> None:
        """Closes every connection, in the event loop that each belongs to."""
        here = asyncio.get_running_loop()
        for loop, pools in list(self._pools.items()):
            self._pools.pop(loop, None)
            if loop is here:
                await pools.close()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(pools.close(), loop)
                # That loop may end before it comes to it.
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.wrap_future(closing), CLOSE_SECONDS)

    def _pool(self, provider: str, url: str, limit: int) -> Pool | None:
        """The provider's pool, where it is for such requests."""
        pools = self._pools.get(running_loop())
        pool = None if pools is None else pools.current.get(provider)
        return pool if pool is not None and pool.leads_to(url, limit) else None

    async def _new_pool(self, provider: str, url: str, limit: int) -> Pool:
        """A pool in place of the one there is, unless somebody else is quicker."""
        pools = self._pools.setdefault(asyncio.get_running_loop(), _Pools())
        while (pool := self._pool(provider, url, limit)) is None:
            origin = "/".join(url.split("/", 3)[:3])
            new = Pool(Destination(origin, self._proxy(origin), limit), self._allowed_networks)
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
    """The pools of one event loop: by provider those in use, beside them those that are retired."""

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


def _before_answer(error: Exception) -> UpstreamError:
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
            return CertificateRejected("The provider's certificate is not to be trusted.")
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
            return MalformedAnswer("The provider's answer is not HTTP.")


def _during_answer(error: Exception) -> UpstreamError:
    undecodable = (HttpProcessingError, ContentEncodingError)
    if isinstance(error, undecodable) or isinstance(error.__cause__, ContentEncodingError):
        return MalformedAnswer("The provider's answer cannot be decoded.")
    return ConnectionLost("The provider cut the connection in the middle of its answer.")
