"""Limits the bytes of request bodies in memory, for each API key and for the process.

`asgi` limits the size of one body; `admission` limits the number of requests.
"""

import threading

from llm_routing.conf import get_settings
from llm_routing.core.errors import LLMError, Overloaded, Throttled

RETRY_SECONDS = 1.0


class BodyBudget:
    """Bytes of request bodies in this process, from their first byte to the end of the request."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Returns to the initial state, for example in a forked child."""
        self._lock = threading.Lock()
        self.bytes = 0
        self._bytes_of: dict[str, int] = {}

    def refusal(self, key_name: str, size: int) -> LLMError | None:
        """Returns the error if `size` more bytes would exceed a limit. Reserves nothing, because a
        client can announce any size at no cost."""
        settings = get_settings()
        if self._bytes_of.get(key_name, 0) + size > settings.body_bytes_per_key:
            return Throttled(
                "The bodies of the requests under way with this API key would exceed "
                f"{settings.body_bytes_per_key} bytes, the limit of the setting "
                "BODY_BYTES_PER_KEY. Wait until some of them have ended, or send fewer at once.",
                retry_after=RETRY_SECONDS,
            )
        if self.bytes + size > settings.body_bytes_per_process:
            return Overloaded(
                "The bodies of all requests under way would exceed "
                f"{settings.body_bytes_per_process} bytes, the limit of the setting "
                "BODY_BYTES_PER_PROCESS. Retry later.",
                retry_after=RETRY_SECONDS,
            )
        return None

    def take(self, key_name: str, size: int) -> LLMError | None:
        """Counts bytes that were received, at least one, unless there is a refusal."""
        with self._lock:
            problem = self.refusal(key_name, size)
            if problem is None:
                self.bytes += size
                self._bytes_of[key_name] = self._bytes_of.get(key_name, 0) + size
            return problem

    def release(self, key_name: str, size: int) -> None:
        """Subtracts counted bytes that were freed."""
        with self._lock:
            self.bytes -= size
            left = self._bytes_of[key_name] - size
            if left:
                self._bytes_of[key_name] = left
            else:
                del self._bytes_of[key_name]


body_budget = BodyBudget()
