"""Whether this process takes requests: it does until it begins to drain."""

import threading

_draining = threading.Event()


def start_draining() -> None:
    """From now on the process is not ready: it finishes what it has and takes nothing new."""
    _draining.set()


def stop_draining() -> None:
    """The process takes requests (again)."""
    _draining.clear()


def is_draining() -> bool:
    """Whether the process is about to end."""
    return _draining.is_set()
