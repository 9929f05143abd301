"""Vendors' error messages in ours: bounded, on one line, and without anything like a key.

Which phrase means which error is up to the wire formats; what an error counts against is in
`error_attribution`.
"""

import re
from typing import Any, Final

MAX_REASON_CHARACTERS: Final = 300
MAX_READ_CHARACTERS: Final = 2_000
"""The maximum length of a message. It is cut before any regular expression runs."""
MAX_NAME_CHARACTERS: Final = 100

_MASK: Final = "***"
_NOT_PRINTED: Final = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_SECRETS: Final = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|key|tok|hf|r8|pplx)[-_][\w*.-]{8,}"  # the vendors' key formats
    r"|\b(?:AIza|AKIA|eyJ)[\w*.-]{12,}"  # Google, AWS, a JWT
    r"|\b(?=[A-Za-z]*[0-9])[A-Za-z0-9]{32,}\b"  # a long run of letters and digits is not a word
)
_NAMED_SECRETS: Final = re.compile(
    r"(\b(?:bearer|(?:api[_ -]?key|secret|password)[\"']?\s?[:=])\s?)[^\s,;]+", re.IGNORECASE
)
# Not within the name of a permission, such as OpenAI's "model.request".
_ONE_MODEL: Final = re.compile(r"(?<![.\w])model\b(?!\.\w)", re.IGNORECASE)
_QUERIES: Final = re.compile(r"(https?://[^\s?]+)\?\S+")
_NAME: Final = re.compile(r"[\w.:/\[\]-]+(?: [\w.:/\[\]-]+)*", re.ASCII)
# An apostrophe within a word is not a quote. A quote that is never closed lasts until the end.
_QUOTED: Final = re.compile(
    r"\"[^\"]*(?:\"|$)|`[^`]*(?:`|$)|(?<!\w)'(?:[^']|'(?=\w))*(?:'|$)|[“«‘][^”»’]*(?:[”»’]|$)"
)
_QUOTE: Final = re.compile(r"[\"`“”«»‘]|(?<!\w)'|'(?!\w)")


def vendor_reason(text: str) -> str:
    """Returns `text` fit for a caller, at most `MAX_REASON_CHARACTERS` long."""
    # Twice the length is read, so that a key at the edge is masked as a whole.
    words = _NOT_PRINTED.sub(" ", text[: 2 * MAX_REASON_CHARACTERS]).strip()
    words = _QUERIES.sub(rf"\1?{_MASK}", words)
    words = _NAMED_SECRETS.sub(rf"\1{_MASK}", words)
    words = _SECRETS.sub(_MASK, words)
    if len(words) <= MAX_REASON_CHARACTERS:
        return words
    return words[: MAX_REASON_CHARACTERS - 1] + "…"


def read_text(value: Any) -> str:
    """Returns the beginning of a message, or an empty string if `value` is not text."""
    return value[:MAX_READ_CHARACTERS] if isinstance(value, str) else ""


def read_name(value: Any) -> str:
    """Returns a code, type or parameter that a vendor names, or an empty string."""
    if not isinstance(value, str) or len(value) > MAX_NAME_CHARACTERS:
        return ""
    return value if _NAME.fullmatch(value) else ""


def without_quotes(text: str) -> str:
    """Returns `text` in lower case without its quotations: vendors quote the caller's text."""
    return _QUOTED.sub(" ", text).lower()


def outside_all_quotes(text: str) -> str:
    """Returns what stands before the first and after the last quote of `text`, in lower case: the
    quoted text may itself contain quotes."""
    marks = [match.start() for match in _QUOTE.finditer(text)]
    if not marks:
        return text.lower()
    after = text[marks[-1] + 1 :] if len(marks) > 1 else ""
    return f"{text[: marks[0]]} {after}".lower()


def is_about_a_model(text: str) -> bool:
    """Returns whether a 403 is about one model. The key may still work for other models, so it must
    not be disabled."""
    return _ONE_MODEL.search(text) is not None


def mentions(text: str, name: str) -> bool:
    """Returns whether `text` contains `name` as a whole word."""
    if not name:
        return False
    start = text.find(name)
    while start >= 0:
        end = start + len(name)
        before, after = text[:start][-1:], text[end : end + 2]
        # A full stop may end a sentence or continue a longer name.
        goes_on = _is_in_name(after[:1]) or (after[:1] in (".", ":") and _is_in_name(after[1:]))
        if not _is_in_name(before) and not goes_on:
            return True
        start = text.find(name, end)
    return False


def _is_in_name(character: str) -> bool:
    return character.isalnum() or character in ("_", "-", "/") if character else False
