"""Masks the gateway's own credentials in messages from providers, by their exact values.

`formats.vendor_messages` masks everything that looks like a key; this module knows the keys.
"""

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

from msgspec.structs import replace

from .errors import UpstreamError

MASK = "***"
MIN_SECRET_CHARACTERS = 8
"""A shorter value is a placeholder such as `none`, not a secret."""
MIN_PIECE_CHARACTERS = 6
_SECRET_HEADERS = ("auth", "key", "token", "secret", "config", "cookie")


def masked(text: str, headers: Mapping[str, str]) -> str:
    """Returns `text` without the secrets in a credential's headers, plain or encoded, in upper or
    lower case, and without the first part of a secret before a cut at the end."""
    for form in _forms(headers):
        low, wanted = text.lower(), form.lower()
        # Some characters change their length with their case.
        if len(low) != len(text):
            text = text.replace(form, MASK)
            continue
        start = low.find(wanted)
        while start >= 0:
            text = text[:start] + MASK + text[start + len(form) :]
            low = text.lower()
            start = low.find(wanted, start + len(MASK))
        text = _without_beginning(text, form)
    return text


def contains_secret(text: str, headers: Mapping[str, str]) -> bool:
    """Returns whether `text` contains a secret of a credential's headers, unencoded."""
    return any(
        secret in text for name, value in headers.items() for secret in _secrets(name, value)
    )


def masked_body(body: bytes, headers: Mapping[str, str]) -> bytes:
    """Returns an error's body without the secrets, before it is parsed or cut."""
    for form in _forms(headers):
        body = body.replace(form.encode(), MASK.encode())
    return body


def mask_error(error: UpstreamError, headers: Mapping[str, str]) -> None:
    """Masks the secrets in an error."""
    error.message = masked(error.message, headers)
    error.args = (error.message,)
    details = error.details
    if details is not None:
        error.details = replace(
            details,
            type=masked(details.type, headers),
            code=masked(details.code, headers),
            param=masked(details.param, headers),
            reason=masked(details.reason, headers),
            unsupported=tuple(masked(name, headers) for name in details.unsupported),
        )


def _forms(headers: Mapping[str, str]) -> Iterator[str]:
    """Returns the forms of all secrets, longest first, because a short one may be part of a longer
    one."""
    secrets = {secret for name, value in headers.items() for secret in _secrets(name, value)}
    forms = {form for secret in secrets for form in _encoded(secret)}
    return iter(sorted(forms, key=len, reverse=True))


def _secrets(name: str, value: str) -> Iterator[str]:
    if any(part in name.lower() for part in _SECRET_HEADERS):
        scheme, _, secret = value.rpartition(" ")
        if len(secret) >= MIN_SECRET_CHARACTERS:
            yield secret
            if scheme:
                yield value


def _encoded(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield secret.replace("/", "\\/")
    data = secret.encode()
    for encode in (b64encode, urlsafe_b64encode):
        # A prefix (like the user in Basic authentication) shifts the letters of the encoded secret.
        for shift in range(3):
            whole = encode(b"\0" * shift + data).decode()
            start = -(-shift * 8 // 6)
            end = (shift + len(data)) * 8 // 6
            yield whole[start:end]
    yield data.hex()


def _without_beginning(text: str, form: str) -> str:
    """Returns `text` without the first part of the secret before the ellipsis of a cut."""
    if not text.endswith("…"):
        return text
    kept = text[:-1]
    for length in range(min(len(form) - 1, len(kept)), MIN_PIECE_CHARACTERS - 1, -1):
        if kept.endswith(form[:length]):
            return f"{kept[:-length]}{MASK}…"
    return text
