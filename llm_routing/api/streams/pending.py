"""A stream that is still being opened when its response begins.

A route that buffers answers until they are complete (`StreamRecovery.BUFFER`) would keep its
callers waiting without a byte. So the response begins early, and keep-alives fill the time.
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
        """Returns itself."""

    async def __anext__(self) -> Sequence[Frame]:
        """Returns the next batch. Raises `LLMError`."""

    async def aclose(self) -> None:
        """Closes the stream, at its end or before."""

    def response_facts(self) -> RoutingFacts:
        """The routing facts of the answer; available at its end."""

    @property
    def usage(self) -> Usage | None:
        """The tokens; available at the end."""

    @property
    def created(self) -> int:
        """The time of the answer, in Unix seconds."""


class PendingStream:
    """A `ResponseStream` over the result of `opening`. Errors of the opening are raised by the
    first `__anext__`."""

    def __init__(self, opening: "asyncio.Task[RoutedStream]") -> None:
        self._opening = opening
        self.created = int(timezone.now().timestamp())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Frame]:
        return await (await self._opening).__anext__()

    async def aclose(self) -> None:
        """Cancels the opening, or closes the opened stream."""
        self._opening.cancel()
        await asyncio.wait({self._opening})
        if not self._opening.cancelled() and self._opening.exception() is None:
            await self._opening.result().aclose()

    def response_facts(self) -> RoutingFacts:
        """The facts of the opened stream."""
        return self._opening.result().response_facts()

    @property
    def usage(self) -> Usage | None:
        """The tokens of the opened stream."""
        return self._opening.result().usage


async def open_within(
    opening: "asyncio.Task[RoutedStream]", seconds: float
) -> RoutedStream | PendingStream:
    """Returns the stream if it opens within `seconds`, else a `PendingStream`. Raises errors of the
    opening in that time."""
    try:
        await asyncio.wait({opening}, timeout=seconds)
    except BaseException:
        opening.cancel()
        raise
    return opening.result() if opening.done() else PendingStream(opening)
