"""Counters of one router, for `get_metrics`."""

from collections.abc import Mapping

from llm_routing.core.ports import AttemptOpened, AttemptSettled, MetricsSink, UsageSink
from llm_routing.core.types import AttemptOutcome, RequestEnded


class RouterCounters:
    """`core.ports.MetricsSink` that counts for one router. It passes attempts on to the ledger and
    then everything to the metrics of the process."""

    def __init__(self, ledger: UsageSink, metrics: MetricsSink) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._started = self._ended = self._failures = 0
        self._attempts = self._attempts_ended = self._first_tokens = self._fallbacks = 0
        self._seconds = self._overhead = self._first_token_seconds = self._cost = 0.0
        self._input = self._output = 0

    def request_started(self) -> None:
        """See `core.ports.MetricsSink`."""
        self._started += 1
        self._metrics.request_started()

    def request_ended(self, request: RequestEnded) -> None:
        """See `core.ports.MetricsSink`."""
        self._ended += 1
        self._failures += request.outcome is not AttemptOutcome.SUCCESS
        self._seconds += request.seconds
        self._overhead += request.overhead_seconds or 0.0
        self._fallbacks += len(request.failed_over)
        self._metrics.request_ended(request)

    def opened(self, attempt: AttemptOpened) -> None:
        """See `core.ports.UsageSink`."""
        self._ledger.opened(attempt)
        self._attempts += 1
        self._metrics.opened(attempt)

    def settled(self, attempt: AttemptSettled) -> None:
        """See `core.ports.UsageSink`."""
        self._ledger.settled(attempt)
        self._attempts_ended += 1
        if attempt.time_to_first_token_ms is not None:
            self._first_tokens += 1
            self._first_token_seconds += attempt.time_to_first_token_ms / 1000
        if attempt.usage is not None:
            self._input += attempt.usage.input_tokens
            self._output += attempt.usage.output_tokens
        if attempt.cost is not None:
            self._cost += float(attempt.cost)
        self._metrics.settled(attempt)

    def numbers(self) -> Mapping[str, float]:
        """Returns the counts since the router was built; times are in seconds."""
        return {
            "requests_total": self._started,
            "requests_in_progress": self._started - self._ended,
            "failures_total": self._failures,
            "request_seconds_total": self._seconds,
            "overhead_seconds_total": self._overhead,
            "fallbacks_total": self._fallbacks,
            "attempts_total": self._attempts,
            "attempts_in_progress": self._attempts - self._attempts_ended,
            "first_tokens_total": self._first_tokens,
            "time_to_first_token_seconds_total": self._first_token_seconds,
            "input_tokens_total": self._input,
            "output_tokens_total": self._output,
            "cost_usd_total": self._cost,
        }
