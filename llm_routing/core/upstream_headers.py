"""Selects and renames the vendor headers that are passed to callers.

An allow-list: cookies, organization names and all other vendor headers are dropped.
"""

import re
from collections.abc import Mapping
from typing import Final

PREFIX: Final = "x-upstream-"
REQUEST_ID: Final = f"{PREFIX}request-id"
MAX_HEADERS: Final = 32
MAX_VALUE_CHARACTERS: Final = 128

_LIMITS: Final = ("x-ratelimit-", "ratelimit", "anthropic-ratelimit-", "retry-after")
_REQUEST_IDS: Final = (
    "x-request-id",
    "request-id",
    "x-amzn-requestid",
    "apim-request-id",
    "x-ms-request-id",
    "x-generation-id",
)
_NAME: Final = re.compile(r"[a-z0-9-]{1,64}")
_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]+")
_NOT_IN_AN_ID: Final = re.compile(r"[^A-Za-z0-9._:/+=@-]+")
_NONE: Final[Mapping[str, str]] = {}


def forwarded_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Returns the vendor's request id as `x-upstream-request-id`, and its rate-limit headers
    prefixed with `x-upstream-`. Names in `headers` are in lower case."""
    found: dict[str, str] = {}
    for name in headers:
        if _is_limit(name) and len(found) < MAX_HEADERS:
            value = headers[name]
            if value.isascii() and value.isprintable() and len(value) <= MAX_VALUE_CHARACTERS:
                found[PREFIX + name] = value
    for name in _REQUEST_IDS:
        if name in headers:
            identifier = headers[name][: 2 * MAX_VALUE_CHARACTERS]
            # Nearly all match, and replacing takes three times as long.
            if not _ID.fullmatch(identifier):
                identifier = _NOT_IN_AN_ID.sub("", identifier)
            if identifier:
                found[REQUEST_ID] = identifier[:MAX_VALUE_CHARACTERS]
                break
    return found or _NONE


def _is_limit(name: str) -> bool:
    """Returns whether a header is about rate limits."""
    return name.startswith(_LIMITS) and _NAME.fullmatch(name) is not None
