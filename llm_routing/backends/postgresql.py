"""A PostgreSQL connection that does not wait for ever for a server that has fallen silent.

TCP notices a machine that is gone, and PostgreSQL ends a statement that takes too long. Neither
helps where the machine, or a proxy in between, goes on answering for a server that does not.
"""

import time
from collections.abc import Generator
from typing import Any, ClassVar

import psycopg
from psycopg.rows import TupleRow


class LimitedConnection(psycopg.Connection[TupleRow]):
    """A connection that closes itself, with `psycopg.OperationalError`, where one answer takes
    longer than `limit` seconds. For `OPTIONS["pool"]["connection_class"]` of Django's DATABASES."""

    limit: ClassVar[float] = 20.0

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """As in psycopg, within the limit."""
        try:
            return super().wait(_until(gen, time.monotonic() + self.limit), *args, **options)
        except _Silent:
            self.close()
            raise psycopg.OperationalError(
                f"The database has not answered for {self.limit:.3g} s."
            ) from None


def limited_connection(seconds: float) -> type[LimitedConnection]:
    """`LimitedConnection` with another limit."""
    return type("LimitedConnection", (LimitedConnection,), {"limit": seconds})


class _Silent(Exception):
    pass


def _until(gen: Generator[Any, Any, Any], deadline: float) -> Generator[Any, Any, Any]:
    """`gen`, to which psycopg sends nothing several times a second while no bytes come."""
    try:
        wait = next(gen)
        while True:
            ready = yield wait
            if not ready and time.monotonic() >= deadline:
                raise _Silent
            wait = gen.send(ready)
    except StopIteration as end:
        return end.value
