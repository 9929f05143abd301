"""API keys that were refused: counted, logged without the key, and throttled by client address.

A throttled address is refused only keys that would cost a query; keys that this process has cached
are never affected. The server determines a client's address, from its own proxy settings.
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
MAX_ADDRESSES = 10_000
UNUSABLE = "is unknown, revoked or expired"
"""One text for all three, so that a caller cannot find out which keys exist."""


class Reason(StrEnum):
    """Why a key was refused. UNKNOWN includes revoked keys."""

    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    THROTTLED = "throttled"


class RefusedKeys:
    """Counts and throttles refused keys in this process, in bounded memory. For any thread: a lost
    update costs at most one count or one token."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.reset()

    def reset(self) -> None:
        """Returns to the initial state."""
        self.counts: dict[str, int] = dict.fromkeys((each.value for each in Reason), 0)
        self._logged = dict(self.counts)
        self._next_log = float("-inf")
        # Per address, how many more keys may be refused, and as of when.
        self._budgets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def clients(self) -> int:
        """The number of clients with a budget in memory."""
        return len(self._budgets)

    def refusal(
        self,
        reason: Reason,
        address: str,
        name: str = "",
        *,
        problem: str = UNUSABLE,
        took_query: bool = False,
    ) -> Unauthenticated:
        """Counts a refused key and returns the error.

        `name` is the key's, if it is known; `problem` completes the sentence "The API key …" for
        the caller. A key that took a query counts against the address.
        """
        self._count(reason, address, name)
        if took_query:
            self._spend(address)
        return Unauthenticated(f"The API key {problem}.")

    def check(self, address: str) -> None:
        """Raises `Throttled` if the address has sent too many unknown keys to look up another."""
        limit = get_settings().refused_keys_per_minute
        if not limit or (left := self._left(_client_of(address), limit)) >= 1:
            return
        self._count(Reason.THROTTLED, address)
        raise Throttled(
            "Too many API keys from this address were refused.",
            retry_after=(1 - left) * 60 / limit,
        )

    def _spend(self, address: str) -> None:
        limit = get_settings().refused_keys_per_minute
        if not limit or not address:
            return
        client = _client_of(address)
        # Concurrent requests may pass the check together, so the budget may go below zero.
        left = max(self._left(client, limit) - 1, float(-limit))
        self._budgets[client] = (left, self._monotonic())
        self._budgets.move_to_end(client)
        if len(self._budgets) > MAX_ADDRESSES:
            self._budgets.popitem(last=False)

    def _left(self, client: str, limit: int) -> float:
        """Returns how many keys of a client may be refused now. The budget refills with time."""
        left, since = self._budgets.get(client, (float(limit), 0.0))
        return min(left + (self._monotonic() - since) * limit / 60, float(limit))

    def _count(self, reason: Reason, address: str, name: str = "") -> None:
        self.counts[reason] += 1
        now = self._monotonic()
        if now < self._next_log:
            return
        self._next_log = now + LOG_SECONDS
        new = [
            f"{count - self._logged[each]} {each}"
            for each, count in self.counts.items()
            if count > self._logged[each]
        ]
        self._logged = dict(self.counts)
        logger.warning(
            "API keys refused: %s; the last one from %s%s.",
            ", ".join(new),
            address or "an unknown address",
            f", the key named {name!r}" if name else "",
        )


def _client_of(address: str) -> str:
    """Returns the group of addresses that is throttled together: an IPv4 address, or the /64
    network of an IPv6 address, because one client may use all of it."""
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
