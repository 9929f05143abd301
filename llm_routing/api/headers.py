"""The headers of a request, and of every answer: its id, and how it came about.

x-request-timeout  seconds that the caller gives the request
idempotency-key    the same request again under the same key gets the same answer

x-request-id       the caller's own if it sent a valid one, else a new one
x-llm-provider     the provider that answered
x-llm-model        the model that answered, as its provider calls it
x-llm-attempts     how many attempts it took, on errors too where there were any
x-llm-cache        hit, miss or bypass
x-llm-cost-usd     where the cost is known; on streams, which begin before it is, for a hit alone
x-llm-overhead-ms  time spent in the gateway itself up to here
x-llm-ignored      fields of the request that the target has no word for
x-upstream-request-id  the vendor's own id of the request; x-upstream-… are its rate limits

idempotency-replayed  true where it is the answer to an earlier request with the same key
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
    """Returns the caller's id if it is valid in a header and a log, else a new one."""
    given = headers.get(REQUEST_ID)
    return given if given is not None and _VALID_REQUEST_ID.fullmatch(given) else new_id()


def request_timeout(headers: Mapping[str, str], asked: float | None = None) -> float | None:
    """Seconds that the caller gives the request: by X-Request-Timeout, or by `asked`, a field of
    the body; the shorter where there are both. Raises `InvalidRequest`."""
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
    """Sets what is known of how the answer came about."""
    headers["x-llm-provider"] = _printable(facts.provider)
    headers["x-llm-model"] = _printable(facts.model)
    headers["x-llm-attempts"] = str(len(facts.attempts))
    headers["x-llm-cache"] = facts.cache.value  # WSGI servers take no subclass of `str`
    headers["x-llm-overhead-ms"] = f"{facts.overhead_ms:.3f}"
    if facts.cost is not None:
        headers["x-llm-cost-usd"] = format(facts.cost, "f")
    if facts.ignored:
        headers["x-llm-ignored"] = _printable(", ".join(facts.ignored))
    headers.update(facts.upstream_headers)
    if facts.replayed:
        headers["idempotency-replayed"] = "true"


def _printable(value: str) -> str:
    """A name that somebody typed, as a header can carry it: percent-encoded where it must be."""
    if value.isascii() and value.isprintable():
        return value
    return quote(value, safe="/:@+,= ")
