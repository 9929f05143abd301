"""Removes quotations of the request from error messages before they are recorded.

Vendors quote the request in their messages. Quoted text is kept only if it reads like the name of a
field or a model, so that a prompt does not come into the ledger by way of an error.
"""

import re
from typing import Final

MAX_CHARACTERS: Final = 300

_GONE: Final = "…"
# An apostrophe inside a word is not a quotation mark. A quotation without an end was cut off.
_QUOTED: Final = re.compile(
    r"\"([^\"]*)(?:\"|$)|“([^”]*)(?:”|$)|`([^`]*)(?:`|$)|(?<!\w)'([^']*)(?:'|$)"
)
_IS_A_NAME: Final = re.compile(r"[a-z][a-z0-9_./:\[\]-]{0,63}")


def kept_message(message: str) -> str:
    """Returns `message` without quotations of the request, at most `MAX_CHARACTERS` long."""
    words = _QUOTED.sub(_without_quotation, message[: 4 * MAX_CHARACTERS])
    return words if len(words) <= MAX_CHARACTERS else words[: MAX_CHARACTERS - 1] + _GONE


def _without_quotation(match: re.Match[str]) -> str:
    quoted = next(group for group in match.groups() if group is not None)
    return match[0] if _IS_A_NAME.fullmatch(quoted) else f"'{_GONE}'"
