"""Ids that no two things ever share, whichever process made them."""

from secrets import token_hex


def new_id() -> str:
    """32 hex digits, drawn at random."""
    return token_hex(16)
