"""Logs a line for each request that is answered with an error or without a provider.

Requests that reach no provider have no usage record, so this line is the trace of their request ID.
"""

import logging
import time
from collections.abc import Callable

from llm_routing.core.errors import LLMError
from llm_routing.core.types import CacheState, Caller, RoutingFacts

logger = logging.getLogger("llm_routing.api")

MAX_LINES = 100
"""Maximum lines per second and process."""
MAX_ANONYMOUS_LINES = 5
"""The maximum for requests without a valid key."""


class LogRateLimit:
    """Limits the lines per second. `what` describes the omitted requests in the summary line."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        what: str = "answered with an error",
    ) -> None:
        self._clock = clock
        self._what = what
        self._second = 0
        self._written = self._anonymous = self._left_out = 0

    def take(self, *, is_anonymous: bool) -> bool:
        """Returns whether one more line may be written."""
        second = int(self._clock())
        if second != self._second:
            if self._left_out:
                logger.info("%d more requests were %s.", self._left_out, self._what)
            self._second = second
            self._written = self._anonymous = self._left_out = 0
        too_many = is_anonymous and self._anonymous >= MAX_ANONYMOUS_LINES
        if too_many or self._written >= MAX_LINES:
            self._left_out += 1
            return False
        self._written += 1
        self._anonymous += is_anonymous
        return True


_lines = LogRateLimit()
_reused_lines = LogRateLimit(what="answered from the cache or by a replay")


def log_error_response(
    error: LLMError, status: int, request_id: str, caller: Caller | None
) -> None:
    """Logs an error response, without any content of the request."""
    if logger.isEnabledFor(logging.INFO) and _lines.take(is_anonymous=caller is None):
        logger.info(
            "Refused: request_id=%s status=%d code=%s tenant=%s key=%s attempts=%d",
            request_id,
            status,
            error.code,
            caller.tenant if caller else "-",
            (caller.key_name if caller else "") or "-",
            len(error.attempts),
        )


def log_reused_response(facts: RoutingFacts, request_id: str, caller: Caller) -> None:
    """Logs a response from the cache or by a replay; does nothing for other responses."""
    if facts.cache is not CacheState.HIT and not facts.replayed:
        return
    if logger.isEnabledFor(logging.INFO) and _reused_lines.take(is_anonymous=False):
        logger.info(
            "Reused: request_id=%s by=%s provider=%s model=%s tenant=%s key=%s",
            request_id,
            "replay" if facts.replayed else "cache",
            facts.provider,
            facts.model,
            caller.tenant,
            caller.key_name or "-",
        )
