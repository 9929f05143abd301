"""The coroutine that `get_llm_router()` returns; using it like a router explains the mistake."""

from collections.abc import Callable, Coroutine, Generator
from typing import Any, NoReturn

from .base import BaseLLMRouter


class PendingRouter(Coroutine[Any, Any, BaseLLMRouter]):
    """An awaitable router. Using it without `await` raises `TypeError` with the correct code."""

    def __init__(self, get: Callable[[], Coroutine[Any, Any, BaseLLMRouter]]) -> None:
        self._get = get
        self._started: Coroutine[Any, Any, BaseLLMRouter] | None = None

    def __await__(self) -> Generator[Any, Any, BaseLLMRouter]:
        return self._coroutine().__await__()

    def send(self, value: Any, /) -> Any:
        """See `Coroutine.send`."""
        return self._coroutine().send(value)

    def throw(self, *error: Any) -> Any:
        """See `Coroutine.throw`."""
        return self._coroutine().throw(*error)

    def close(self) -> None:
        """See `Coroutine.close`."""
        if self._started is not None:
            self._started.close()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_") or not hasattr(BaseLLMRouter, name):
            raise AttributeError(name)
        raise TypeError(
            f"get_llm_router() returns a router when awaited. Write "
            f"`router = await get_llm_router()` before `router.{name}`; in synchronous code "
            "`router = get_llm_router_sync()` and `router.complete_sync(…)`."
        )

    def _coroutine(self) -> Coroutine[Any, Any, BaseLLMRouter]:
        if self._started is None:
            self._started = self._get()
        return self._started
