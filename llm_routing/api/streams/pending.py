"""A stream that is still being opened when its response begins.

A route that holds answers back until they are whole (`StreamRecovery.BUFFER`) would leave its
callers in silence; so their response begins, and signs of life fill the time.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol, Self

from django.utils import timezone

from llm_routing.core.events import Frame
from llm_routing.core.types import RoutingFacts, Usage
from llm_routing.router.in_flight import RoutedStream


class ResponseStream(Protocol):
    """The source of a streamed response: a `RoutedStream`, open or still being opened."""

    def __aiter__(self) -> Self:
        """Itself."""

    async def __anext__(self) -> Sequence[Frame]:
        """The next batch. Raises `LLMError`."""

    async def aclose(self) -> None:
        """Ends it, read to its end or not."""

    def response_facts(self) -> RoutingFacts:
        """The routing facts of the answer, once it has ended."""

    @property
    def usage(self) -> Usage | None:
        """Its tokens, once it has ended."""

    @property
    def created(self) -> int:
        """The moment of the answer, in Unix seconds."""


class PendingStream:
    """`ResponseStream` over one that `opening` will give. What fails until then is raised by the
    first `__anext__`."""

    def __init__(self, opening: "asyncio.Task[RoutedStream]") -> None:
        self._opening = opening
        self.created = int(timezone.now().timestamp())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Frame]:
        return await (await self._opening).__anext__()

    async def aclose(self) -> None:
        """Ends the opening, or what it has given."""
        self._opening.cancel()
        await asyncio.wait({self._opening})
        if not self._opening.cancelled() and self._opening.exception() is None:
            await self._opening.result().aclose()

    def response_facts(self) -> RoutingFacts:
        """Of the stream, which is open by then."""
        return self._opening.result().response_facts()

    @property
    def usage(self) -> Usage | None:
        """Of the stream, which is open by then."""
        return self._opening.result().usage


async def open_within(
    opening: "asyncio.Task[RoutedStream]", seconds: float
) -> RoutedStream | PendingStream:
    """The stream, if it is open within `seconds`, else one that is late. Raises what the opening
    raises in that time."""
    try:
        await asyncio.wait({opening}, timeout=seconds)
    except BaseException:
        opening.cancel()
        raise
    return opening.result() if opening.done() else PendingStream(opening)
