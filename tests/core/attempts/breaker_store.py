"""A breaker store with scripted states, for tests."""

from llm_routing.core.breaker import Rejected
from llm_routing.core.errors import (
    UpstreamError,
)
from llm_routing.core.routing_table import Target
from tests.core.text_operation import TextOperation

OPERATION = TextOperation()


class Permit:
    def __init__(self, provider: str, words: list[str], seconds: list[float]) -> None:
        self._provider = provider
        self._words = words
        self._seconds = seconds
        self._is_settled = False

    def succeed(self, seconds: float = 0.0) -> None:
        self._say("succeeded")
        self._seconds.append(seconds)

    def fail(self, error: UpstreamError) -> None:
        self._say(error.code)

    def release(self) -> None:
        self._say("released")

    def _say(self, word: str) -> None:
        if not self._is_settled:
            self._is_settled = True
            self._words.append(f"{self._provider} {word}")


class Breakers:
    """Rejects calls to the targets in `open`, with their seconds; the first failure opens the
    breaker of a target in `trips`."""

    def __init__(self, trips: bool = False, **waits: float) -> None:
        self.open = waits
        self.shut: set[str] = set()
        self.words: list[str] = []
        self.permits: list[str] = []
        self.seconds: list[float] = []
        self.cause = "server_failed"
        self._trips = trips

    async def admit(self, target: Target, *, force: bool = False) -> Permit | Rejected:
        name = target.provider.name
        if name in self.open and (not force or name in self.shut):
            return Rejected(self.open[name], self.cause)
        if self._trips and f"{name} server_failed" in self.words:
            return Rejected(5.0, "server_failed")
        self.permits.append(name)
        return Permit(name, self.words, self.seconds)

    def assert_all_settled(self) -> None:
        assert sorted(word.split()[0] for word in self.words) == sorted(self.permits)
