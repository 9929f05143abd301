"""One attempt at a target, from the first byte sent to its place in the ledger.

It measures and accounts; whether to try again is decided in `retry`.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from .errors import UpstreamError
from .limits import Slot
from .ports import AttemptOpened, AttemptSettled, Clock, Credential, Permit, UsageSink
from .pricing import cost, estimate_tokens
from .redaction import mask_error
from .routing_table import Target
from .types import AttemptOutcome, AttemptSummary, Usage


class Waiting:
    """`with waiting:` around what a provider is waited for; `seconds` are all of it so far."""

    __slots__ = ("_began", "_clock", "seconds")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._began = 0.0
        self.seconds = seconds

    def __enter__(self) -> None:
        self._began = self._clock.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds += self._clock.monotonic() - self._began


class Attempt:
    """An attempt under way. Once opened it is settled exactly once, whatever happens.

    `slot` is its place among those who may ask the provider; whoever closes the answer, or ends the
    attempt without one, releases it. It has been `waited` for so many seconds; those spent in
    `with attempt.waiting:` are the provider's too, not ours. `review` sees every failure before
    anybody acts on it, and the `credential` that was sent is taken out of its words. Unless it
    `proves_health`, nothing about the target follows from its end. `share` is how many seconds it
    may take to answer, so that other targets have time after it.
    """

    def __init__(
        self,
        record: AttemptOpened,
        target: Target,
        permit: Permit,
        slot: Slot,
        *,
        sink: UsageSink,
        clock: Clock,
        input_length: Callable[[], int],
        review: Callable[[UpstreamError], None],
        proves_health: bool,
        waited: float,
        share: float = math.inf,
    ) -> None:
        self.target = target
        self.share = share
        self.slot = slot
        self.credential: Credential | None = None
        self.status: int | None = None
        self.settled: AttemptSettled | None = None
        self.is_opened = False
        self.waiting = Waiting(clock, waited)
        self._record = record
        self._permit = permit
        self._sink = sink
        self._clock = clock
        self._input_length = input_length
        self._review = review
        self._proves_health = proves_health
        self._started = clock.monotonic()
        self._first_token_at: float | None = None

    @property
    def upstream_seconds(self) -> float:
        """How long its provider was waited for."""
        return self.waiting.seconds

    def open(self) -> None:
        """The provider is about to be asked: from here on there is a record."""
        self.is_opened = True
        self._sink.opened(self._record)

    def first_token(self) -> None:
        """The first content has come."""
        self._first_token_at = self._clock.monotonic()

    def succeed(self, usage: Usage | None, output_length: int, *, is_counted: bool = True) -> None:
        """A complete answer of `output_length` characters. Without `usage` it is estimated, as are
        its words where `usage` is not `is_counted` to its end."""
        until = self._first_token_at
        if self._proves_health:
            now = self._clock.monotonic() if until is None else until
            self._permit.succeed(now - self._started)
        else:
            self._permit.release()
        if usage is None or not is_counted:
            usage = self._partial(usage, output_length)
        self._settle(AttemptOutcome.SUCCESS, "", usage)

    def fail(
        self,
        error: UpstreamError,
        usage: Usage | None = None,
        output_length: int = 0,
        *,
        is_fair: bool = True,
    ) -> None:
        """A failure. What a vendor may bill for is estimated where it gave no `usage`; words that
        came are billed whatever ended them. Not fair is a failure that came of a deadline and says
        nothing about the target."""
        self._review(error)
        if self.credential is not None:
            mask_error(error, self.credential.headers)
        is_proof = is_fair and self._proves_health and error.counts_against_breaker
        if self.is_opened and is_proof:
            self._permit.fail(error)
        else:
            self._permit.release()
        if error.billed or output_length:
            usage = self._partial(usage, output_length)
        self._settle(AttemptOutcome.FAILURE, error.code, usage)

    def cancel(self, usage: Usage | None = None, output_length: int = 0) -> None:
        """The caller left; the vendor bills what it has done."""
        self._permit.release()
        self._settle(AttemptOutcome.CANCELLED, "", self._partial(usage, output_length))

    def summary(self, error: UpstreamError | None = None) -> AttemptSummary:
        """The attempt as a caller may see it, settled or not."""
        if error is not None:
            outcome = AttemptOutcome.FAILURE
        else:
            outcome = self.settled.outcome if self.settled else AttemptOutcome.SUCCESS
        return AttemptSummary(
            provider=self.target.provider.name,
            model=self.target.model.model_id,
            outcome=outcome,
            error_code=error.code if error else "",
            latency_ms=(self._clock.monotonic() - self._started) * 1000,
        )

    def _partial(self, usage: Usage | None, output_length: int) -> Usage:
        """What an answer has used that did not come to its end. A count from its beginning knows
        nothing of the words that came after."""
        estimate = self._estimate(output_length)
        if usage is None:
            return estimate
        if usage.output_tokens >= estimate.output_tokens:
            return usage
        return replace(usage, output_tokens=estimate.output_tokens, estimated=True)

    def _estimate(self, output_length: int) -> Usage:
        return Usage(
            input_tokens=estimate_tokens(self._input_length()),
            output_tokens=estimate_tokens(output_length),
            estimated=True,
        )

    def _settle(self, outcome: AttemptOutcome, error_code: str, usage: Usage | None) -> None:
        if self.settled is not None or not self.is_opened:
            return
        price = self.target.model.price
        first_token_at = self._first_token_at
        self.settled = AttemptSettled(
            opened=self._record,
            outcome=outcome,
            error_code=error_code,
            status=self.status,
            usage=usage,
            cost=None if usage is None or price is None else cost(usage, price),
            latency_ms=(self._clock.monotonic() - self._started) * 1000,
            time_to_first_token_ms=(
                None if first_token_at is None else (first_token_at - self._started) * 1000
            ),
        )
        self._sink.settled(self.settled)
