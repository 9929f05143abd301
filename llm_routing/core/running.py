"""The running event loop, for those who ask for it with every request."""

import asyncio
import os
import threading

_local = threading.local()


def running_loop() -> asyncio.AbstractEventLoop:
    """As `asyncio.get_running_loop`, which in Python 3.11 takes a system call each time, to notice
    a fork. Raises `RuntimeError` where there is none."""
    loop: asyncio.AbstractEventLoop | None = getattr(_local, "loop", None)
    if loop is None or not loop.is_running():
        loop = _local.loop = asyncio.get_running_loop()
    return loop


# A loop that ran in the parent looks in the child as if it did there.
os.register_at_fork(after_in_child=lambda: _local.__dict__.clear())  # noqa: PLW0108  # one a thread
