"""Request headers that the gateway reads, and headers of its responses.

x-request-timeout  the caller's timeout in seconds
idempotency-key    a repeated request with the same key gets the same answer

x-request-id       the caller's ID if it sent a valid one, else a new one
x-llm-provider     the provider that answered
x-llm-model        the model that answered, as its provider calls it
x-llm-attempts     the number of attempts, also on errors
x-llm-cache        hit, miss or bypass
x-llm-cost-usd     the cost if it is known; on streams only for cache hits
x-llm-overhead-ms  time spent in the gateway so far
x-llm-ignored      request fields that the target does not support
x-upstream-request-id  the vendor's ID of the request; x-upstream-… are its rate limits

idempotency-replayed  true if this is the answer to an earlier request with the same key
"""

import re
from collections.abc import Mapping, MutableMapping
from urllib.parse import quote

from llm_routing.core.errors import InvalidRequest
from llm_routing.core.ids import new_id
from llm_routing.core.types import RoutingFacts

REQUEST_ID = "x-request-id"
REQUEST_TIMEOUT = "x-request-timeout"
MAX_REQUEST_TIMEOUT = 86_400.0
_DECIMAL = re.compile(r"[0-9]{1,5}(\.[0-9]{1,9})?")
_VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


def request_id_of(headers: Mapping[str, str]) -> str:
    """Returns the caller's ID if it is safe in a header and a log, else a new one."""
    given = headers.get(REQUEST_ID)
    return given if given is not None and _VALID_REQUEST_ID.fullmatch(given) else new_id()


def request_timeout(headers: Mapping[str, str], asked: float | None = None) -> float | None:
    """Returns the shorter of X-Request-Timeout and `asked`, a field of the body, in seconds. Raises
    `InvalidRequest`."""
    given = headers.get(REQUEST_TIMEOUT)
    if given is None:
        return asked
    seconds = float(given) if _DECIMAL.fullmatch(given) else 0.0
    if not 0 < seconds <= MAX_REQUEST_TIMEOUT:
        raise InvalidRequest(
            "X-Request-Timeout is a plain decimal number of seconds, more than 0 and at most "
            f"{MAX_REQUEST_TIMEOUT:.0f}.",
            field=REQUEST_TIMEOUT,
        )
    return seconds if asked is None else min(seconds, asked)


def set_facts(headers: MutableMapping[str, str], facts: RoutingFacts) -> None:
    """Sets headers that tell how the answer was obtained."""
    headers["x-llm-provider"] = _printable(facts.provider)
    headers["x-llm-model"] = _printable(facts.model)
    headers["x-llm-attempts"] = str(len(facts.attempts))
    headers["x-llm-cache"] = facts.cache.value  # WSGI servers reject subclasses of `str`
    headers["x-llm-overhead-ms"] = f"{facts.overhead_ms:.3f}"
    if facts.cost is not None:
        headers["x-llm-cost-usd"] = format(facts.cost, "f")
    if facts.ignored:
        headers["x-llm-ignored"] = _printable(", ".join(facts.ignored))
    headers.update(facts.upstream_headers)
    if facts.replayed:
        headers["idempotency-replayed"] = "true"


def _printable(value: str) -> str:
    """Percent-encodes a configured name if a header cannot carry it as it is."""
    if value.isascii() and value.isprintable():
        return value
    return quote(value, safe="/:@+,= ")
