"""Responses as the transport reads them, and those of aiohttp's client."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from typing import Protocol

import aiohttp

from llm_routing.core.errors import ConnectionLost, MalformedAnswer
from llm_routing.core.timers import timeout

MAX_CHUNK = 64 * 1024
"""The maximum length of a chunk; more received data waits in the buffer."""

NOT_HTTP = "The provider's answer is not HTTP."
UNDECODABLE = "The provider's answer cannot be decoded."
CUT = "The provider cut the connection in the middle of its answer."

_DECODING_ERRORS = {"ContentEncodingError", "DecompressSizeError"}
"""Causes of an `aiohttp.ClientPayloadError`; these classes are not public."""


class Response(Protocol):
    """A response whose head has been received."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by names in lower case."""

    def whole(self, max_bytes: int) -> bytes | None:
        """Returns the body if all of it is buffered and it has at most `max_bytes`; else None."""

    def next_chunk(self, within: float | None = None) -> Awaitable[bytes]:
        """Returns received body data as soon as there is any, at most `MAX_CHUNK`; empty at the
        end. Raises `ConnectionLost`, `MalformedAnswer`, and `TimeoutError` if there is none
        `within` so many seconds."""

    def close(self) -> None:
        """Stops reading, and drops the connection unless the response is complete."""


class ClientResponse:
    """A response of aiohttp's client. Its connection goes back to the pool once the body is
    complete."""

    __slots__ = ("_close", "_content", "_headers", "status")

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        content: aiohttp.StreamReader,
        close: Callable[[], None],
    ) -> None:
        self.status = status
        self._headers = headers
        self._content = content
        self._close = close

    @property
    def headers(self) -> Mapping[str, str]:
        """See `Response`."""
        return {name.lower(): value.strip(" \t") for name, value in self._headers.items()}

    def whole(self, max_bytes: int) -> bytes | None:
        """See `Response`."""
        return None

    async def next_chunk(self, within: float | None = None) -> bytes:
        """See `Response`."""
        with nullcontext() if within is None else timeout(within):
            return await self._read()

    async def _read(self) -> bytes:
        try:
            return await self._content.read(MAX_CHUNK)
        except (aiohttp.ClientError, OSError) as error:
            if type(error.__cause__).__name__ in _DECODING_ERRORS:
                raise MalformedAnswer(UNDECODABLE) from error
            raise ConnectionLost(CUT) from error
        except Exception as error:  # aiohttp's parser errors have no public base class
            raise MalformedAnswer(UNDECODABLE) from error

    def close(self) -> None:
        """See `Response`."""
        self._close()
