"""The machine's clock."""

import time
from datetime import UTC, datetime


class SystemClock:
    """`core.ports.Clock` from the operating system."""

    monotonic = staticmethod(time.monotonic)

    def now(self) -> datetime:
        """The date and time in UTC."""
        return datetime.now(UTC)
