"""Ids that no two things ever share, whichever process made them."""

import os
from collections.abc import Iterator
from secrets import token_hex

BLOCK = 256


def new_id() -> str:
    """32 hex digits. Those that follow one another begin alike, so that they are neighbours in a
    database's index, and end at random, so that none tells another."""
    global _block  # noqa: PLW0603  # each process draws its own
    while (found := next(_block, None)) is None:
        _block = _drawn()
    return found


def _drawn() -> Iterator[str]:
    """A block of ids. To draw each by itself is a system call for each."""
    start, ends = token_hex(11), token_hex(4 * BLOCK)
    return iter(
        [f"{start}{number:02x}{ends[8 * number : 8 * number + 8]}" for number in range(BLOCK)]
    )


def _forget() -> None:
    global _block  # noqa: PLW0603  # as above
    _block = iter(())


_block: Iterator[str] = iter(())
os.register_at_fork(after_in_child=_forget)
