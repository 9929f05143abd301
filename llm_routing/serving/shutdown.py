"""Cancels requests when the process shuts down, and lets each send an error of its own."""

import asyncio
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

from llm_routing.core.errors import Overloaded

_cancelled: WeakSet["asyncio.Task[Any]"] = WeakSet()


def cancel_for_shutdown(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancels tasks that serve requests."""
    for task in tasks:
        _cancelled.add(task)
        task.cancel()


def was_cancelled_by_shutdown() -> bool:
    """Returns whether the running task was cancelled because the process shuts down. Returns True
    once: the cancellation is revoked, so that the task can send the error and end."""
    task = asyncio.current_task()
    if task is None or task not in _cancelled:
        return False
    _cancelled.discard(task)
    task.uncancel()
    return True


def shutdown_error() -> Overloaded:
    """Returns the error for the caller of such a request."""
    return Overloaded("The gateway is shutting down. Retry the request.")
