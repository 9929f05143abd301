"""Reads ahead from a slow stream, so that keep-alives can be sent in between."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from typing import Final, Generic, Literal, Protocol, TypeVar

from llm_routing.core.timers import StallTimeout

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Idle(Enum):
    """The type of `IDLE`."""

    IDLE = "silence"


IDLE: Final = Idle.IDLE
"""No item has arrived for a while; the next call continues to wait."""


class Source(Protocol[T_co]):
    """The stream to read. `ReadAhead` always closes it."""

    def __anext__(self) -> Awaitable[T_co]:
        """Returns the next item."""

    async def aclose(self) -> None:
        """Closes the stream, at its end or before."""


class ReadAhead(Generic[T]):
    """The items of `source`, and `IDLE` whenever no item arrives for `silence` seconds (0: never).

    One task reads the whole source, so a wait is never cancelled and restarted. Call `aclose` in
    every case; it closes the source.
    """

    def __init__(self, source: Source[T], silence: float) -> None:
        self._source = source
        self._silence = silence
        self._loop = asyncio.get_running_loop()
        self._reading: asyncio.Task[None] | None = None
        self._items: deque[T | BaseException] = deque()
        self._item: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._idle_timeout = StallTimeout()

    @property
    def directly(self) -> Callable[[], Awaitable[T]]:
        """Reads like `next` from the first item on, but without `IDLE` and so without a task."""
        return self._source.__anext__

    async def next(self) -> T | Literal[Idle.IDLE]:
        """Returns the next item. Raises the errors of the source, and `StopAsyncIteration` at its
        end. Only one call at a time is allowed; a cancelled call consumes no item."""
        if not self._silence:
            return await self._source.__anext__()
        if self._reading is None:
            self._reading = self._loop.create_task(self._read())
        if not self._items:
            await self._wait()
            if not self._items:
                return IDLE
        item = self._items.popleft()
        _wake(self._room)
        if isinstance(item, BaseException):
            raise item
        return item

    async def aclose(self) -> None:
        """Stops reading and closes the source."""
        try:
            if self._reading is not None and not self._reading.done():
                self._reading.cancel()
                await asyncio.wait({self._reading})
        finally:
            await self._source.aclose()

    async def _wait(self) -> None:
        self._item = self._loop.create_future()
        try:
            with suppress(TimeoutError), self._idle_timeout.within(self._silence):
                await self._item
        finally:
            self._item = None

    async def _read(self) -> None:
        has_more = True
        while has_more:
            item: T | BaseException
            try:
                item = await self._source.__anext__()
            except BaseException as error:  # noqa: BLE001  # whoever asks for the next item gets it
                item, has_more = error, False
            is_awaited = self._item is not None and not self._item.done()
            self._items.append(item)
            _wake(self._item)
            # Reads one item ahead. If a caller waits, the item counts as taken.
            if has_more and not is_awaited:
                self._room = self._loop.create_future()
                await self._room
                self._room = None


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
