"""Globally unique ids, whichever process creates them."""

from secrets import token_hex

BLOCK = 256

_drawn: list[str] = []


def new_id() -> str:
    """Returns 32 hex digits. Consecutive ids share a prefix, so that they are neighbours in a
    database index, and end in random digits, so that ids cannot be guessed."""
    try:
        return _drawn.pop()
    except IndexError:
        _draw()
        return new_id()


def _draw() -> None:
    """Draws a block of random bytes at once, to save one system call per id."""
    start, ends = token_hex(11), token_hex(4 * BLOCK)
    _drawn.extend(
        f"{start}{number:02x}{ends[8 * number : 8 * number + 8]}" for number in range(BLOCK)
    )


def forget() -> None:
    """Discards the drawn block. A forked child must call it, or it creates the same ids as its
    parent."""
    _drawn.clear()
