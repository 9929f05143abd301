"""Tracebacks of crashes that Python code cannot catch."""

import faulthandler
from contextlib import suppress


def enable_crash_tracebacks() -> None:
    """Makes a crash of the process print a traceback to stderr, unless the host has enabled that.
    The likeliest crash is SIGBUS, after another program truncated a file of metrics."""
    if not faulthandler.is_enabled():
        # A host may have replaced stderr with an object without a file descriptor.
        with suppress(AttributeError, ValueError, OSError, RuntimeError):
            faulthandler.enable()
