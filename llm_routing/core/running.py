"""The running event loop, for those who ask for it with every request."""

import asyncio
import threading

_local = threading.local()


def running_loop() -> asyncio.AbstractEventLoop:
    """As `asyncio.get_running_loop`, which in Python 3.11 takes a system call each time, to notice
    a fork. Raises `RuntimeError` where there is none."""
    loop: asyncio.AbstractEventLoop | None = getattr(_local, "loop", None)
    if loop is None or not loop.is_running():
        loop = _local.loop = asyncio.get_running_loop()
    return loop


def forget() -> None:
    """Asks again; a forked child has to, for the loop of its parent looks as if it ran here."""
    _local.__dict__.clear()
