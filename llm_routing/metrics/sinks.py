"""A sink that drops every event."""

from llm_routing.core.ports import AttemptOpened, AttemptSettled
from llm_routing.core.types import RequestEnded


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
