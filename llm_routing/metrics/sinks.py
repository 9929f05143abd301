"""Sinks for events: one for ledger and metrics, and one that drops everything."""

from llm_routing.core.ports import AttemptOpened, AttemptSettled, MetricsSink, UsageSink
from llm_routing.core.types import RequestEnded


class FanOutSink:
    """`core.ports.UsageSink` over two: the ledger is called first, then the metrics."""

    def __init__(self, ledger: UsageSink, metrics: MetricsSink) -> None:
        self._ledger = ledger
        self._metrics = metrics

    def opened(self, attempt: AttemptOpened) -> None:
        """See `core.ports.UsageSink`."""
        self._ledger.opened(attempt)
        self._metrics.opened(attempt)

    def settled(self, attempt: AttemptSettled) -> None:
        """See `core.ports.UsageSink`."""
        self._ledger.settled(attempt)
        self._metrics.settled(attempt)


class NoMetrics:
    """`core.ports.MetricsSink` for a process without metrics."""

    def request_started(self) -> None:
        """No-op."""

    def request_ended(self, request: RequestEnded) -> None:
        """No-op."""

    def opened(self, attempt: AttemptOpened) -> None:
        """No-op."""

    def settled(self, attempt: AttemptSettled) -> None:
        """No-op."""
