"""The hot path's HTTP client: aiohttp, one connection pool for each provider and event loop.

What an answer means is the wire formats' business; this file moves bytes and names failures.
"""

import asyncio
import io
import socket
import ssl
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

import aiohttp
from aiohappyeyeballs import AddrInfoType
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

from llm_routing.core.addresses import Network, is_allowed
from llm_routing.core.errors import (
    AddressForbidden,
    AnswerTooLarge,
    ConnectionFailed,
    ConnectionLost,
    ConnectTimeout,
    MalformedAnswer,
    NameResolutionFailed,
    TLSFailed,
    UpstreamError,
)

KEEP_ALIVE = 30.0
DNS_TTL = 30
LARGE_BODY = 2**20


class AiohttpAnswer:
    """`core.ports.Answer` over an aiohttp response."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }

    async def read(self, max_bytes: int) -> bytes:
        """The whole body; see `core.ports.Answer`."""
        chunks: list[bytes] = []
        size = 0
        while chunk := await self.next_chunk():
            size += len(chunk)
            if size > max_bytes:
                raise AnswerTooLarge(f"The answer is larger than {max_bytes} bytes.")
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def next_chunk(self) -> bytes:
        """The bytes that have come; see `core.ports.Answer`."""
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            raise _during_answer(error) from error

    async def aclose(self) -> None:
        """A connection whose answer was read to its end is already back in its pool."""
        self._response.close()


class AiohttpTransport:
    """`core.ports.Transport` over aiohttp.

    An address is checked against `allowed_networks` as the socket to it is made, so neither a
    literal, nor a redirect, nor a name that changes its mind leads elsewhere.
    """

    def __init__(self, *, pool_size: int, allowed_networks: Sequence[Network]) -> None:
        self._pool_size = pool_size
        self._allowed_networks = tuple(allowed_networks)
        self._sessions: WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[str, aiohttp.ClientSession]
        ] = WeakKeyDictionary()

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
    ) -> AiohttpAnswer:
        """The answer, once its head has come; see `core.ports.Transport`."""
        session = self._session(provider, max_connections)
        try:
            response = await session.request(
                method,
                url,
                headers=headers,
                # aiohttp writes a file in chunks, but the bytes of an image at one go.
                data=(body or None) if len(body) < LARGE_BODY else io.BytesIO(body),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=connect_timeout, sock_read=None
                ),
            )
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            raise _before_answer(error) from error
        return AiohttpAnswer(response)

    async def aclose(self) -> None:
        """Closes every connection, in the event loop that each belongs to."""
        here = asyncio.get_running_loop()
        for loop, sessions in list(self._sessions.items()):
            self._sessions.pop(loop, None)
            if loop is here:
                await _close(sessions)
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(_close(sessions), loop)
                await asyncio.wrap_future(closing)

    def _session(self, provider: str, max_connections: int | None) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        sessions = self._sessions.get(loop)
        if sessions is None:
            sessions = self._sessions[loop] = {}
        session = sessions.get(provider)
        if session is None:
            session = sessions[provider] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=max_connections or self._pool_size,
                    ttl_dns_cache=DNS_TTL,
                    keepalive_timeout=KEEP_ALIVE,
                    socket_factory=self._socket,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                # A body that is not compressed can be no bomb and is relayed as it is.
                headers={"Accept-Encoding": "identity", "User-Agent": "llm_routing"},
            )
        return session

    def _socket(self, address: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, destination = address
        host = str(destination[0])
        if not is_allowed(host, self._allowed_networks):
            raise AddressForbidden(
                f"The provider's address {host} is not public; settings do not allow it "
                "(LLM_ALLOWED_UPSTREAM_NETWORKS)."
            )
        return socket.socket(family, kind, protocol)


async def _close(sessions: Mapping[str, aiohttp.ClientSession]) -> None:
    for session in sessions.values():
        await session.close()


def _before_answer(error: Exception) -> UpstreamError:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return NameResolutionFailed("The provider's name has no address.")
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return TLSFailed("No TLS connection to the provider.")
        case ssl.SSLError():
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
