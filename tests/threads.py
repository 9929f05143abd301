"""Runs the same work in several threads at once."""

from collections.abc import Callable
from threading import Barrier, Thread
from typing import TypeVar

from django.db import connection

T = TypeVar("T")

START_SECONDS = 90
END_SECONDS = 120


def at_once(count: int, work: Callable[[int], T]) -> tuple[list[T], list[Exception]]:
    """Calls `work` with the number of the thread in `count` threads that start together. Returns
    what it returned and what it raised; each thread closes its database connection."""
    results: list[T] = []
    errors: list[Exception] = []
    start = Barrier(count)

    def run(number: int) -> None:
        try:
            start.wait(timeout=START_SECONDS)
            results.append(work(number))
        except Exception as error:  # noqa: BLE001  # returned to the test
            errors.append(error)
        finally:
            connection.close()

    threads = [Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=END_SECONDS)
    assert not any(thread.is_alive() for thread in threads)
    return results, errors
