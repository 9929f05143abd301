"""Disk space that is reserved before it is written to."""

import os


def reserve(descriptor: int, size: int) -> None:
    """Gives the file `size` bytes of disk space. Writing to a hole in a file may fail later, on a
    full disk; in mapped memory it ends the process (SIGBUS). Raises `OSError`."""
    os.posix_fallocate(descriptor, 0, size)


def restore(descriptor: int, size: int) -> bool:
    """Reserves the space again if another program has truncated the file, and returns whether one
    has. Raises `OSError`."""
    if os.fstat(descriptor).st_size >= size:
        return False
    reserve(descriptor, size)
    return True
