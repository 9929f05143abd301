"""What the router hands out besides whole answers: open streams and token counts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from .core.events import Frame
from .core.ports import Clock, FrameStream
from .core.types import RoutingFacts, Usage


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens of a prompt; `estimated` where no vendor counted them."""

    input_tokens: int
    estimated: bool
    routing: RoutingFacts


class RoutedStream:
    """A stream whose first content has come. Iterate over its batches, and close it in any case.

    `facts` are what is known at its beginning. Iterating raises the `LLMError` that cut the
    answer short.
    """

    def __init__(
        self, stream: FrameStream, facts: RoutingFacts, clock: Clock, began: float
    ) -> None:
        self.facts = facts
        self._stream = stream
        self._clock = clock
        self._began = began

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Frame]:
        return await self._stream.__anext__()

    async def aclose(self) -> None:
        """Ends the upstream call and settles its attempt."""
        await self._stream.aclose()

    def response_facts(self) -> RoutingFacts:
        """`facts` with what the end of the answer tells: cost and latency."""
        account = self._stream.account
        return replace(
            self.facts,
            cost=account.cost if account else None,
            latency_ms=(self._clock.monotonic() - self._began) * 1000,
            time_to_first_token_ms=account.time_to_first_token_ms if account else None,
        )

    @property
    def usage(self) -> Usage | None:
        """The tokens, once the answer has ended."""
        account = self._stream.account
        return account.usage if account else None
