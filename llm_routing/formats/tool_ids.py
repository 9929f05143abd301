"""Fits ids of tool calls to a vendor, and carries Gemini's thought signatures in them.

Clients return every id, in the call and in its result. A signature inside the id therefore survives
clients of any format.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from llm_routing.core.quirks import ToolIds

_MARK: Final = "_sig_"
_CHECK_LENGTH: Final = 8
_DIGEST_LENGTH: Final = 24
_LETTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def fitted_id(call_id: str, rule: ToolIds | None) -> str:
    """Returns the id in the form that a vendor accepts, without its signature. Equal ids give equal
    results, so a call and its result stay together; different ids give different results."""
    plain, _ = split_signature(call_id)
    if rule is None or _pattern(rule).fullmatch(plain):
        return plain
    digest = sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()
    if not rule.is_exact:
        return f"call_{digest[:_DIGEST_LENGTH]}"
    number, written = int(digest, 16), ""
    while len(written) < rule.max_length:
        number, rest = divmod(number, len(_LETTERS))
        written += _LETTERS[rest]
    return written


@lru_cache
def _pattern(rule: ToolIds) -> re.Pattern[str]:
    shortest = rule.max_length if rule.is_exact else 1
    return re.compile(f"[a-zA-Z0-9{re.escape(rule.others)}]{{{shortest},{rule.max_length}}}")


def signature_in(call: Any) -> str | None:
    """Returns the thought signature of a call in Gemini's OpenAI format:
    https://ai.google.dev/gemini-api/docs/thought-signatures"""
    found = call
    for name in ("extra_content", "google", "thought_signature"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) and found else None


def with_signature(call_id: str, signature: str | None) -> str:
    """Returns the id with the signature inside, in characters that all formats accept in ids."""
    if signature is None:
        return call_id
    if _MARK in call_id:
        call_id = "call_" + sha256(call_id.encode()).hexdigest()[:_DIGEST_LENGTH]
    carried = urlsafe_b64encode(signature.encode()).decode().rstrip("=")
    return f"{call_id}{_MARK}{_check(carried)}{carried}"


def split_signature(call_id: str) -> tuple[str, str | None]:
    """Returns the id without its signature, and the signature or None."""
    plain, mark, rest = call_id.partition(_MARK)
    if not mark:
        return call_id, None
    check, carried = rest[:_CHECK_LENGTH], rest[_CHECK_LENGTH:]
    if not carried.isascii() or check != _check(carried):
        return call_id, None
    padding = "=" * (-len(carried) % 4)
    return plain, urlsafe_b64decode(carried + padding).decode()


def _check(carried: str) -> str:
    return sha256(carried.encode()).hexdigest()[:_CHECK_LENGTH]
