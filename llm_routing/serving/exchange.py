"""A request and its answer as the endpoints of completions know them, whichever handler there is
around them: Django's own, or `llm_routing.asgi` with nothing in between.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from llm_routing.core.types import Caller


class IncomingRequest(Protocol):
    """A request as far as anybody may read it. Names of headers are asked for in lower case."""

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
        """At most so many bytes of the body. Raises `RequestTooLarge`, `RequestTimedOut`,
        `Overloaded`, `Throttled`."""


class AddressedRequest(IncomingRequest, Protocol):
    """A request with the address of its client."""

    @property
    def client_address(self) -> str:
        """The client's IP address, as the server reports it; empty if there is none."""

    @property
    def scope(self) -> Mapping[str, Any]:
        """As ASGI has it."""


class AuthenticatedRequest(IncomingRequest, Protocol):
    """A request whose key is good: what the edge and the check of its key have added."""

    @property
    def auth(self) -> Caller:
        """On whose behalf it is."""

    @property
    def request_id(self) -> str:
        """The caller's or a new one."""


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
    """An answer: whole, or as a stream of events."""

    content: bytes | ByteStream
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
