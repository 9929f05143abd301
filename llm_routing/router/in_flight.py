"""Open streams, token counts, and the measurement of requests from beginning to end."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

from llm_routing.core.attempts.limits import Slot
from llm_routing.core.errors import INTERNAL_ERROR, LLMError
from llm_routing.core.events import Frame
from llm_routing.core.ports import Clock, FrameStream, MetricsSink
from llm_routing.core.routing_table import RouteSpec
from llm_routing.core.types import (
    AttemptOutcome,
    AttemptSummary,
    RequestEnded,
    RoutingFacts,
    TargetKey,
    Usage,
)


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens of a prompt; `estimated` if no vendor counted them."""

    input_tokens: int
    estimated: bool
    routing: RoutingFacts


class MeasuredRequest(Struct, eq=False):
    """A request in progress, settled exactly once: by an exception in its `with` block or by an
    explicit call.

    Set `route` when it is known and `slot` when the request is admitted; the slot is released at
    the end. `left_out` names the fields that the caller requested but may not use.
    """

    _operation: str
    _metrics: MetricsSink
    _clock: Clock
    began: float = 0.0
    route: RouteSpec | None = None
    left_out: tuple[str, ...] = ()
    slot: Slot | None = None
    _facts: RoutingFacts | None = None
    _has_ended: bool = False

    def __post_init__(self) -> None:
        self.began = self._clock.monotonic()
        self._metrics.request_started()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.fail(error)

    def answered(self, facts: RoutingFacts) -> None:
        """Notes that an answer, or its beginning, has arrived."""
        self._facts = facts

    def succeed(self) -> None:
        """Settles the request after a complete answer."""
        self._end(AttemptOutcome.SUCCESS)

    def cancel(self) -> None:
        """Settles the request after the caller disconnected."""
        self._end(AttemptOutcome.CANCELLED)

    def fail(self, error: BaseException) -> None:
        """Settles the request without a complete answer."""
        if isinstance(error, LLMError):
            self._end(AttemptOutcome.FAILURE, error.code, error.attempts)
        elif isinstance(error, Exception):
            self._end(AttemptOutcome.FAILURE, INTERNAL_ERROR)
        else:
            self.cancel()

    def _end(
        self,
        outcome: AttemptOutcome,
        error_code: str = "",
        attempts: tuple[AttemptSummary, ...] = (),
    ) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        if self.slot is not None:
            self.slot.release()
        facts, route = self._facts, self.route
        self._metrics.request_ended(
            RequestEnded(
                self._operation,
                route.use_case if route else "",
                route.tier if route else "",
                outcome,
                error_code,
                self._clock.monotonic() - self.began,
                facts.overhead_ms / 1000 if facts else None,
                facts.cache if facts else None,
                _left(facts.attempts if facts else attempts),
            )
        )


def _left(attempts: tuple[AttemptSummary, ...]) -> tuple[TargetKey, ...]:
    """Returns the targets that were followed by another one."""
    if len(attempts) < 2:
        return ()
    targets = [(attempt.provider, attempt.model) for attempt in attempts]
    return tuple(one for one, another in pairwise(targets) if one != another)


class RoutedStream:
    """A stream whose first content has arrived. Iterate over its batches; always close it.

    `facts` are known at its beginning. Iterating raises the `LLMError` that cut the answer short.
    """

    def __init__(
        self, stream: FrameStream, facts: RoutingFacts, clock: Clock, measured: MeasuredRequest
    ) -> None:
        self.facts = facts
        self._stream = stream
        self._clock = clock
        self._measured = measured

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Frame]:
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            self._measured.succeed()
            raise
        except BaseException as error:
            self._measured.fail(error)
            raise

    async def aclose(self) -> None:
        """Ends the upstream call and settles its attempt."""
        if self._stream.account is None:
            self._measured.cancel()
        else:
            self._measured.succeed()
        await self._stream.aclose()

    def response_facts(self) -> RoutingFacts:
        """Returns `facts`, completed by the cost and latency that are known at the end."""
        account = self._stream.account
        facts, later = self.facts, self._stream.attempts
        if later:
            facts = replace(
                facts,
                provider=later[-1].provider,
                model=later[-1].model,
                attempts=(*facts.attempts[:-1], *later),
            )
        return replace(
            facts,
            cost=account.cost if account else None,
            latency_ms=(self._clock.monotonic() - self._measured.began) * 1000,
            time_to_first_token_ms=account.time_to_first_token_ms if account else None,
        )

    @property
    def created(self) -> int:
        """The time of the answer in Unix seconds."""
        return self.facts.created

    @property
    def usage(self) -> Usage | None:
        """The tokens; None before the end of the answer."""
        account = self._stream.account
        return account.usage if account else None
