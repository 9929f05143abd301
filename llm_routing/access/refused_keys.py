"""API keys that were refused: counted, logged without the key, and throttled by client address.

A throttled address is refused only keys that would cost a query; the keys this process knows are
never affected. Which address a client has is decided by the server, from its own proxy settings.
"""

import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import StrEnum

from llm_routing.conf import get_settings
from llm_routing.core.errors import Throttled, Unauthenticated

logger = logging.getLogger(__name__)

LOG_SECONDS = 10.0
MOST_ADDRESSES = 10_000


class Reason(StrEnum):
    """Why a key was refused."""

    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    THROTTLED = "throttled"


class RefusedKeys:
    """What this process knows of refused keys, in bounded memory. For the threads of any loop: a
    lost update costs a count or a token at most."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.reset()

    def reset(self) -> None:
        """Returns to the initial state."""
        self.counts: dict[str, int] = dict.fromkeys((each.value for each in Reason), 0)
        self._logged = dict(self.counts)
        self._next_log = float("-inf")
        # How many keys of an address may still be refused, and when that was so.
        self._budgets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def refusal(
        self, reason: Reason, address: str, name: str = "", *, took_query: bool = False
    ) -> Unauthenticated:
        """The error for a refused key; `name` is the key's, if it is known. One that took a query
        counts against the address."""
        self._note(reason, address, name)
        if took_query:
            self._spend(address)
        expired = reason is Reason.EXPIRED
        return Unauthenticated(
            "The API key has expired." if expired else "The API key is not valid."
        )

    def check(self, address: str) -> None:
        """Raises `Throttled` if the address has sent too many unknown keys to look up another."""
        most = get_settings().refused_keys_per_minute
        if not most or (left := self._left(_source(address), most)) >= 1:
            return
        self._note(Reason.THROTTLED, address)
        raise Throttled(
            "Too many API keys from this address were refused.",
            retry_after=(1 - left) * 60 / most,
        )

    def _spend(self, address: str) -> None:
        most = get_settings().refused_keys_per_minute
        if not most or not address:
            return
        source = _source(address)
        # Many at once may pass the check together: a debt, though a bounded one.
        left = max(self._left(source, most) - 1, float(-most))
        self._budgets[source] = (left, self._monotonic())
        self._budgets.move_to_end(source)
        if len(self._budgets) > MOST_ADDRESSES:
            self._budgets.popitem(last=False)

    def _left(self, source: str, most: int) -> float:
        """The keys that may be refused at once as of now; they come back with time."""
        left, since = self._budgets.get(source, (float(most), 0.0))
        return min(left + (self._monotonic() - since) * most / 60, float(most))

    def _note(self, reason: Reason, address: str, name: str = "") -> None:
        self.counts[reason] += 1
        now = self._monotonic()
        if now < self._next_log:
            return
        self._next_log = now + LOG_SECONDS
        news = [
            f"{count - self._logged[each]} {each}"
            for each, count in self.counts.items()
            if count > self._logged[each]
        ]
        self._logged = dict(self.counts)
        logger.warning(
            "API keys refused: %s; the last one from %s%s.",
            ", ".join(news),
            address or "an unknown address",
            f", the key named {name!r}" if name else "",
        )


def _source(address: str) -> str:
    """What is throttled together: an IPv4 address, or the /64 network of an IPv6 address, all of
    which one client may use."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


refused_keys = RefusedKeys()
