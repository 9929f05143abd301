"""The request and the response that the endpoints of completions work with, whichever handler
serves them: Django's own, or `llm_routing.asgi`.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from llm_routing.core.types import Caller


class IncomingRequest(Protocol):
    """The parts of a request that endpoints may read. Header names are in lower case."""

    @property
    def method(self) -> str | None:
        """In upper case."""

    @property
    def path(self) -> str:
        """With the prefix under which the URLs are included."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The HTTP headers."""

    def read(self, size: int, /) -> bytes:
        """Returns at most `size` bytes of the body. Raises `RequestTooLarge`, `RequestTimedOut`,
        `Overloaded`, `Throttled`."""


class AuthenticatedRequest(IncomingRequest, Protocol):
    """A request with a valid API key: the attributes that authentication adds."""

    @property
    def auth(self) -> Caller:
        """The owner of the key."""

    @property
    def request_id(self) -> str:
        """The caller's id for the request, or a new one."""


class ByteStream(Protocol):
    """The body of a streamed response, which is closed explicitly."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """See `collections.abc.AsyncIterator`, which is no protocol before Python 3.13."""

    async def __anext__(self) -> bytes:
        """See `collections.abc.AsyncIterator`."""

    def keep_alive_by(self, send: Callable[[bytes], Coroutine[Any, Any, None]]) -> None:
        """Sends keep-alives with `send` instead of yielding them."""

    async def aclose(self) -> None:
        """Ends the stream and closes the upstream."""


@dataclass(slots=True)
class EndpointResponse:
    """A response: a whole body, or a stream of events."""

    content: bytes | ByteStream
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
