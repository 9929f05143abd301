"""Tracebacks of crashes that Python code cannot catch."""

import faulthandler
from contextlib import suppress


def enable_crash_tracebacks() -> None:
    """Has a crash of the process leave a traceback on stderr, unless the host has arranged it. The
    likeliest crash is SIGBUS, after another program truncated a file of metrics."""
    if not faulthandler.is_enabled():
        # A host may have replaced stderr by an object without a file descriptor.
        with suppress(AttributeError, ValueError, OSError, RuntimeError):
            faulthandler.enable()
