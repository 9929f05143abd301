"""A PostgreSQL connection with a time limit for a server that does not answer.

TCP notices that a machine is gone, and PostgreSQL ends a statement that takes too long. Neither
helps if the machine, or a proxy, acknowledges packets for a server that hangs.
"""

import time
from collections.abc import Generator
from typing import Any, ClassVar

import psycopg
from psycopg.rows import TupleRow


class LimitedConnection(psycopg.Connection[TupleRow]):
    """A connection that closes and raises `psycopg.OperationalError` if an answer takes longer than
    `limit` seconds. For `OPTIONS["pool"]["connection_class"]` of Django's DATABASES."""

    limit: ClassVar[float] = 20.0

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """See `psycopg.Connection.wait`."""
        try:
            return super().wait(_until(gen, time.monotonic() + self.limit), *args, **options)
        except _Silent:
            self.close()
            raise psycopg.OperationalError(
                f"The database has not answered for {self.limit:.3g} s."
            ) from None


def limited_connection(seconds: float) -> type[LimitedConnection]:
    """Returns a `LimitedConnection` class with a limit of `seconds`."""
    return type("LimitedConnection", (LimitedConnection,), {"limit": seconds})


class _Silent(Exception):
    pass


def _until(gen: Generator[Any, Any, Any], deadline: float) -> Generator[Any, Any, Any]:
    """Wraps a generator of psycopg. Several times a second it receives nothing if no bytes came;
    raises `_Silent` if that happens after `deadline`."""
    try:
        wait = next(gen)
        while True:
            ready = yield wait
            if not ready and time.monotonic() >= deadline:
                raise _Silent
            wait = gen.send(ready)
    except StopIteration as end:
        return end.value
