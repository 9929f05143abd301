"""A vendor's own words in our errors: bounded, on one line, and without anything like a key.

Which words mean which error is for the wire formats, but for what all vendors say alike.
"""

import re
from typing import Final

MAX_REASON_CHARACTERS: Final = 300

_MASK: Final = "***"
_NOT_PRINTED: Final = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_SECRETS: Final = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|key|tok|hf|r8|pplx)[-_][\w*.-]{8,}"  # as vendors shape their keys
    r"|\b(?:AIza|AKIA|eyJ)[\w*.-]{12,}"  # Google, AWS, a JWT
    r"|\b(?=[A-Za-z]*[0-9])[A-Za-z0-9]{32,}\b"  # a long run of letters and digits: no word
)
_NAMED_SECRETS: Final = re.compile(
    r"(\b(?:bearer|(?:api[_ -]?key|secret|password)[\"']?\s?[:=])\s?)[^\s,;]+", re.IGNORECASE
)
# Not in the name of a permission, like OpenAI's "model.request".
_ONE_MODEL: Final = re.compile(r"(?<![.\w])model\b(?!\.\w)", re.IGNORECASE)
_QUERIES: Final = re.compile(r"(https?://[^\s?]+)\?\S+")


def vendor_reason(text: str) -> str:
    """`text` fit to be shown to a caller, at most `MAX_REASON_CHARACTERS` long."""
    # Twice the length is looked at, so that a key at the edge is whole when it is masked.
    words = _NOT_PRINTED.sub(" ", text[: 2 * MAX_REASON_CHARACTERS]).strip()
    words = _QUERIES.sub(rf"\1?{_MASK}", words)
    words = _NAMED_SECRETS.sub(rf"\1{_MASK}", words)
    words = _SECRETS.sub(_MASK, words)
    if len(words) <= MAX_REASON_CHARACTERS:
        return words
    return words[: MAX_REASON_CHARACTERS - 1] + "…"


def is_about_a_model(text: str) -> bool:
    """Whether a 403 says that one model is not for us. Its key may still use others, so it is not
    to be given up for one."""
    return _ONE_MODEL.search(text) is not None
