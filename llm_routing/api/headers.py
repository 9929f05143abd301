"""The headers of every answer: the request id, and how the answer came about.

x-request-id       the caller's own where it sent a sane one, else a new one
x-llm-provider     the provider that answered
x-llm-model        the model that answered, as its provider calls it
x-llm-attempts     how many attempts it took, on errors too where there were any
x-llm-cache        hit, miss or bypass
x-llm-cost-usd     where the cost is known; on streams, which begin before it is, for a hit alone
x-llm-overhead-ms  time spent in the gateway itself up to here
x-llm-ignored      fields of the request that the target has no word for
"""

import re
from urllib.parse import quote
from uuid import uuid4

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from llm_routing.core.types import RoutingFacts

REQUEST_ID = "x-request-id"
_SANE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


def request_id_of(request: HttpRequest) -> str:
    """The id the caller sent, where it may stand in a header and a log, else a new one."""
    given = request.headers.get(REQUEST_ID, "")
    return given if _SANE.fullmatch(given) else uuid4().hex


def set_facts(response: HttpResponseBase, facts: RoutingFacts) -> None:
    """Sets what is known of how the answer came about."""
    headers = response.headers
    headers["x-llm-provider"] = _printable(facts.provider)
    headers["x-llm-model"] = _printable(facts.model)
    headers["x-llm-attempts"] = str(len(facts.attempts))
    headers["x-llm-cache"] = facts.cache.value
    headers["x-llm-overhead-ms"] = f"{facts.overhead_ms:.3f}"
    if facts.cost is not None:
        headers["x-llm-cost-usd"] = format(facts.cost, "f")
    if facts.ignored:
        headers["x-llm-ignored"] = _printable(", ".join(facts.ignored))


def _printable(value: str) -> str:
    """A name that somebody typed, as a header can carry it: percent-encoded where it must be."""
    if value.isascii() and value.isprintable():
        return value
    return quote(value, safe="/:@+,= ")
