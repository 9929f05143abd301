"""Idempotency keys: parsing, scoping and replay rules.

`single_flight` stores the answers, `executor` applies the rules.
"""

import re
from collections.abc import Iterable
from typing import ClassVar, Final

from llm_routing.core.errors import InvalidRequest
from llm_routing.core.hidden_fields import HidesFields
from llm_routing.core.types import FinishReason, Idempotency

from .keys import digest, owned_key

MAX_KEY_CHARACTERS: Final = 255
FIELD: Final = "idempotency-key"

_VERSION: Final = "1"
_KEY: Final = re.compile(rf"[ -~]{{1,{MAX_KEY_CHARACTERS}}}")
_QUOTED: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_ESCAPED: Final = re.compile(r"\\(.)")


def unquoted(header: str) -> str:
    """Returns the key in a header.

    A string of structured fields (RFC 9651, 3.3.3) is unquoted, as the IETF draft has it; any other
    value is the key itself, as most clients send it. Raises `InvalidRequest` if there are several
    keys: repeated headers arrive joined by commas.
    """
    quoted = _QUOTED.fullmatch(header)
    if quoted is not None:
        return _ESCAPED.sub(r"\1", quoted[1])
    if "," in header:
        raise InvalidRequest(
            "A request has one Idempotency-Key. A key that contains a comma must be quoted.",
            field=FIELD,
        )
    return header


def idempotency(key: str, scope: str, request: Iterable[str | bytes]) -> Idempotency:
    """Returns the key with a digest of `request`, all bytes of which must be equal for a replay.
    Raises `InvalidRequest` unless the key is 1 to 255 characters of printable ASCII."""
    if not _KEY.fullmatch(key):
        raise InvalidRequest(
            f"An idempotency key is 1 to {MAX_KEY_CHARACTERS} characters of printable ASCII.",
            field=FIELD,
        )
    return Idempotency(key, scope, digest(b"", request))


class IdempotencyRule(HidesFields, frozen=True):
    """The rule for answers stored under an idempotency key. An answer is stored for `ttl` seconds
    under `key`, for requests with the same `fingerprint`; both are digests."""

    hidden_fields: ClassVar = frozenset({"key", "fingerprint"})

    ttl: float
    key: str
    fingerprint: str
    reads: ClassVar[bool] = True
    must_wait: ClassVar[bool] = True

    def is_cacheable(self, answer: object) -> bool:
        """Returns True: every whole answer is stored, because it is paid for and may not have
        reached the caller."""
        return True

    def is_stream_cacheable(
        self, reasons: Iterable[FinishReason | None], *, has_content: bool, calls_tools: bool
    ) -> bool:
        """Returns True: every complete stream is stored."""
        return True


def idempotency_rule(
    sent: Idempotency | None, tenant: str, ttl: float, secret: bytes
) -> IdempotencyRule | None:
    """Returns the rule for a request of `tenant`; None if it has no key or a `ttl` of 0 turns
    idempotency keys off."""
    if sent is None or ttl <= 0:
        return None
    owner = (_VERSION, tenant, sent.scope)
    return IdempotencyRule(
        ttl,
        owned_key(secret, tenant, digest(secret, ("idempotency key", *owner, sent.key))),
        digest(secret, ("idempotent request", *owner, sent.fingerprint)),
    )
