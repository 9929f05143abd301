"""The machine's clock."""

import time
from datetime import UTC, datetime


class SystemClock:
    """`core.ports.Clock` from the operating system."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)  # noqa: TID251  # the rest of the code asks this clock

    def now(self) -> datetime:
        """The date and time in UTC."""
        return datetime.now(UTC)
