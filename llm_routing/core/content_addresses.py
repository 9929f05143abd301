"""Checks of content URLs (images, documents) that callers ask providers to fetch.

A provider on a private network could reach hosts that callers must not. So a URL must be http(s),
and its host must be public as far as that is known without DNS.
"""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from .addresses import address_problem

MAX_URL_CHARACTERS = 8_192
_DATA = re.compile(r"data:", re.IGNORECASE)
_ODD = re.compile(r"[\x00-\x20\x7f\\]")
# The last label of a name begins with a letter, so 127.1, 0x7f000001 and other spellings of
# addresses are not names. A name with one label belongs to a private network.
_NAME = re.compile(r"(?:[a-z0-9_-]+\.)+[a-z][a-z0-9-]*", re.ASCII)
_PRIVATE_SUFFIXES = (
    ".arpa",
    ".corp",
    ".home",
    ".internal",
    ".intranet",
    ".lan",
    ".local",
    ".localdomain",
    ".localhost",
    ".private",
    ".svc",
)


def content_url_problem(url: str) -> str:
    """Returns why a provider must not fetch `url`, as the end of a sentence; empty if it may."""
    if _DATA.match(url):
        return ""
    if len(url) > MAX_URL_CHARACTERS:
        return f"has more than {MAX_URL_CHARACTERS} characters"
    if _ODD.search(url):
        return "contains spaces, control characters or backslashes"
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https"):
        return "is neither an http nor an https URL"
    if "@" in parts.netloc:
        return "contains a user name"
    return "" if _is_public(host.lower().rstrip(".")) else "does not point to a public address"


def _is_public(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return _NAME.fullmatch(host) is not None and not host.endswith(_PRIVATE_SUFFIXES)
    return not address_problem(host, ())
