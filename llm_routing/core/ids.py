"""Ids that no two things ever share, whichever process made them."""

from secrets import token_hex

BLOCK = 256

_drawn: list[str] = []


def new_id() -> str:
    """32 hex digits. Those that follow one another begin alike, so that they are neighbours in a
    database's index, and end at random, so that none tells another."""
    try:
        return _drawn.pop()
    except IndexError:
        _draw()
        return new_id()


def _draw() -> None:
    """A block of ids: to draw each by itself takes a system call for each."""
    start, ends = token_hex(11), token_hex(4 * BLOCK)
    _drawn.extend(
        f"{start}{number:02x}{ends[8 * number : 8 * number + 8]}" for number in range(BLOCK)
    )


def forget() -> None:
    """Draws anew; a forked child has to, or it gives out the same ones as its parent."""
    _drawn.clear()
