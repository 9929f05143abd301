"""Holds whether this process accepts requests, which it does until it drains."""

import threading

_draining = threading.Event()


def start_draining() -> None:
    """Marks the process as not ready: it finishes its requests and accepts no new ones."""
    _draining.set()


def stop_draining() -> None:
    """Marks the process as ready."""
    _draining.clear()


def is_draining() -> bool:
    """Returns whether the process drains before it ends."""
    return _draining.is_set()
