"""Idempotency keys: how one looks, for whom it counts, and what a request under it may get.

Where answers are kept and who waits for whom is in `shelf`, when they are asked for in `cached`.
"""

import re
from collections.abc import Iterable
from typing import ClassVar, Final

from llm_routing.core.errors import InvalidRequest
from llm_routing.core.hidden_fields import HidesFields
from llm_routing.core.types import FinishReason, Idempotency

from .rules import digest, owned_key

MAX_KEY_CHARACTERS: Final = 255
FIELD: Final = "idempotency-key"

_VERSION: Final = "1"
_KEY: Final = re.compile(rf"[ -~]{{1,{MAX_KEY_CHARACTERS}}}")
_QUOTED: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_ESCAPED: Final = re.compile(r"\\(.)")


def unquoted(header: str) -> str:
    """The key in a header: a string of structured fields (RFC 9651, 3.3.3), as the draft has it,
    is unquoted; anything else, as most clients send it, is the key itself. Raises `InvalidRequest`
    where there are several: a header that is repeated comes as one, joined by commas."""
    quoted = _QUOTED.fullmatch(header)
    if quoted is not None:
        return _ESCAPED.sub(r"\1", quoted[1])
    if "," in header:
        raise InvalidRequest(
            "There is one Idempotency-Key for a request; with a comma in it, it is quoted.",
            field=FIELD,
        )
    return header


def idempotency(key: str, scope: str, request: Iterable[str | bytes]) -> Idempotency:
    """A key for `request`, whose every byte counts. Raises `InvalidRequest` for a key that is not
    1 to 255 characters of printable ASCII."""
    if not _KEY.fullmatch(key):
        raise InvalidRequest(
            f"An idempotency key is 1 to {MAX_KEY_CHARACTERS} characters of printable ASCII.",
            field=FIELD,
        )
    return Idempotency(key, scope, digest(b"", request))


class IdempotencyRule(HidesFields, frozen=True):
    """Rules for the answers stored under idempotency keys. An answer is stored for `ttl`
    seconds under `key`, for requests with the same `fingerprint`; both are digests."""

    hidden_fields: ClassVar = frozenset({"key", "fingerprint"})

    ttl: float
    key: str
    fingerprint: str
    reads: ClassVar[bool] = True
    must_wait: ClassVar[bool] = True

    def is_cacheable(self, answer: object) -> bool:
        """Every whole answer: the caller may not have got it, and it is paid for."""
        return True

    def is_stream_cacheable(
        self, reasons: Iterable[FinishReason | None], *, has_content: bool, calls_tools: bool
    ) -> bool:
        """Every stream that came to its end."""
        return True


def idempotency_rule(
    asked: Idempotency | None, tenant: str, ttl: float, secret: bytes
) -> IdempotencyRule | None:
    """The rule for a request of `tenant`; None where it has no key, or a `ttl` of 0 says that keys
    mean nothing."""
    if asked is None or ttl <= 0:
        return None
    whose = (_VERSION, tenant, asked.scope)
    return IdempotencyRule(
        ttl,
        owned_key(secret, tenant, digest(secret, ("idempotency key", *whose, asked.key))),
        digest(secret, ("idempotent request", *whose, asked.fingerprint)),
    )
