"""One attempt at a target, from the first byte sent to its usage record.

It measures and accounts; `retry` decides whether to try again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from llm_routing.core.errors import UpstreamError
from llm_routing.core.ids import new_id
from llm_routing.core.kept_messages import kept_message
from llm_routing.core.ports import (
    AttemptOpened,
    AttemptSettled,
    Clock,
    Credential,
    Operation,
    UsageSink,
)
from llm_routing.core.pricing import charge, estimate_tokens
from llm_routing.core.redaction import contains_secret, mask_error
from llm_routing.core.routing_table import RouteSpec
from llm_routing.core.types import AttemptOutcome, AttemptSummary, Usage
from llm_routing.core.upstream_headers import REQUEST_ID, forwarded_headers

from .calls import Call
from .failure_attribution import CallerKey, FailureAttribution
from .gate import Admitted

_NO_HEADERS: Mapping[str, str] = {}


class Stopwatch(Struct, eq=False):
    """Adds up the seconds spent in its `with` blocks in `seconds`."""

    _clock: Clock
    seconds: float
    _began: float = 0.0

    def __enter__(self) -> None:
        self._began = self._clock.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds += self._clock.monotonic() - self._began


@dataclass(frozen=True, slots=True)
class Accounting:
    """The objects that measure and record the attempts of an executor. `attribution` decides
    whether the caller is at fault for a failure. If `keeps_messages`, records contain error
    messages."""

    sink: UsageSink
    clock: Clock
    attribution: FailureAttribution
    keeps_messages: bool


class Attempt:
    """One call to a target. Once opened it is settled exactly once, whatever happens.

    `started` is in monotonic seconds. `share` is the number of seconds the attempt may take, so
    that later targets have time too. `slot` is its place in the provider's concurrency limit; the
    code that closes the response, or that ends the attempt without one, releases it. The wait for
    that place counts as time spent waiting for the provider, as does the time in
    `with attempt.waiting:`. The `operation` reviews every failure before anything else handles it,
    and the `credential` that was sent is masked in its message. Only if the operation proves health
    does the outcome count for or against the target.
    """

    # All arguments are positional: passing a dozen by name takes a microsecond.
    def __init__(
        self,
        accounting: Accounting,
        operation: Operation[Any],
        route: RouteSpec | None,
        call: Call,
        admitted: Admitted,
        number: int,
        started: float,
        share: float,
    ) -> None:
        self.operation = operation
        self.route = route
        self.target = target = admitted.target
        self.started = started
        self.share = share
        self.slot = admitted.slot
        self.credential: Credential | None = None
        self.status: int | None = None
        self.settled: AttemptSettled | None = None
        self.is_opened = False
        self._has_left = False
        self._clock = clock = accounting.clock
        self.waiting = Stopwatch(clock, admitted.waited)
        self.upstream_headers = _NO_HEADERS
        self._accounting = accounting
        self._permit = admitted.permit
        self._first_token_at: float | None = None
        price = target.model.price
        self._record = AttemptOpened(
            new_id(),
            call.request_id,
            call.caller,
            operation.name,
            "" if route is None else route.use_case,
            "" if route is None else route.tier,
            target.provider.name,
            target.model.model_id,
            number,
            clock.now(),
            estimate_tokens(operation.input_length) if operation.is_billed else 0,
            None if price is None else price.input,
        )

    @property
    def upstream_seconds(self) -> float:
        """Seconds spent waiting for the provider."""
        return self.waiting.seconds

    def open(self) -> None:
        """Opens the usage record, just before the provider is called."""
        self.is_opened = True
        self._accounting.sink.opened(self._record)

    def connected(self) -> None:
        """Notes that a connection is established: from now on the provider may read the request."""
        self._has_left = True

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Notes the status and headers of the provider's response."""
        self.status = status
        found = forwarded_headers(headers)
        credential = self.credential
        # A vendor that echoes our key must not show it to callers.
        if found and not (
            credential and contains_secret(" ".join(found.values()), credential.headers)
        ):
            self.upstream_headers = found

    def first_token(self) -> None:
        """Notes the time of the first content."""
        self._first_token_at = self._clock.monotonic()

    def succeed(self, usage: Usage | None, output_length: int, *, is_counted: bool = True) -> None:
        """Settles the attempt with a complete answer of `output_length` characters. Counts missing
        from `usage` are estimated, and so is the output if `usage` was not counted to the end of
        the answer (`is_counted`)."""
        if self.operation.proves_health:
            until = self._first_token_at
            now = self._clock.monotonic() if until is None else until
            self._permit.succeed(now - self.started)
            self._accounting.attribution.note_success(self.target.model.key, self._caller, now)
        else:
            self._permit.release()
        if usage is None or not is_counted:
            usage = self._partial(usage, output_length)
        self._settle(AttemptOutcome.SUCCESS, "", self._completed(usage, output_length))

    def fail(
        self,
        error: UpstreamError,
        usage: Usage | None = None,
        output_length: int = 0,
        *,
        counts_against_target: bool = True,
    ) -> None:
        """Settles the attempt as failed. If there is no `usage`, tokens that the vendor may bill
        for are estimated; text that was received is billed in any case. `counts_against_target` is
        False for a deadline that says nothing about the target."""
        self.operation.review(self.target, error)
        if self.credential is not None:
            mask_error(error, self.credential.headers)
        is_proof = (
            counts_against_target and error.counts_against_breaker and self.operation.proves_health
        )
        is_first_report = self.is_opened and self.settled is None
        if is_first_report and is_proof and self._is_believed(error):
            self._permit.fail(error)
        else:
            self._permit.release()
        if (error.billed and self._has_left) or output_length:
            usage = self._partial(usage, output_length)
        message = kept_message(error.message) if self._accounting.keeps_messages else ""
        self._settle(AttemptOutcome.FAILURE, error.code, usage, message)

    def cancel(self, usage: Usage | None = None, output_length: int = 0) -> None:
        """Settles the attempt as cancelled because the caller disconnected. If the request has
        reached the vendor, its work so far is billed."""
        self._permit.release()
        used = self._partial(usage, output_length) if self._has_left else None
        self._settle(AttemptOutcome.CANCELLED, "", used)

    def summary(self, error: UpstreamError | None = None) -> AttemptSummary:
        """Returns the attempt as shown to callers, settled or not."""
        if error is not None:
            outcome = AttemptOutcome.FAILURE
        else:
            outcome = self.settled.outcome if self.settled else AttemptOutcome.SUCCESS
        return AttemptSummary(
            *self.target.key,
            outcome=outcome,
            error_code=error.code if error else "",
            latency_ms=(self._clock.monotonic() - self.started) * 1000,
        )

    @property
    def _caller(self) -> CallerKey:
        caller = self._record.caller
        return caller.tenant, caller.key_name

    def _is_believed(self, error: UpstreamError) -> bool:
        now = self._clock.monotonic()
        return self._accounting.attribution.believe(self.target.model.key, self._caller, error, now)

    def _partial(self, usage: Usage | None, output_length: int) -> Usage:
        """Returns the usage of an answer that was cut off. A count from the beginning of the answer
        does not include the text that followed."""
        estimate = estimate_tokens(output_length)
        if usage is None:
            return Usage(self._record.input_tokens, estimate, estimated=True)
        if usage.output_tokens < estimate:
            usage = replace(usage, output_tokens=estimate, vendor_cost=None, estimated=True)
        return self._completed(usage, output_length)

    def _completed(self, usage: Usage, output_length: int) -> Usage:
        """Returns `usage` with estimates for counts that the vendor left out. A count of zero
        beside actual text is treated as missing."""
        given, expected = usage.input_tokens, self._record.input_tokens
        if (given or not expected) and (usage.output_tokens or not output_length):
            return usage
        return replace(
            usage,
            input_tokens=given or expected,
            output_tokens=usage.output_tokens or estimate_tokens(output_length),
            estimated=True,
        )

    def _settle(
        self, outcome: AttemptOutcome, error_code: str, usage: Usage | None, message: str = ""
    ) -> None:
        if self.settled is not None or not self.is_opened:
            return
        cost = source = None
        if usage is not None:
            target = self.target
            cost, source = charge(
                usage, target.model.price, trusts_vendor=target.provider.quirks.reports_cost
            )
        first_token_at = self._first_token_at
        self.settled = settled = AttemptSettled(
            self._record,
            outcome,
            error_code,
            self.status,
            usage,
            cost,
            (self._clock.monotonic() - self.started) * 1000,
            None if first_token_at is None else (first_token_at - self.started) * 1000,
            source,
            message,
            self.upstream_headers.get(REQUEST_ID, ""),
        )
        self._accounting.sink.settled(settled)
