"""A router over two providers, and what tests do with it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from llm_routing import BaseLLMRouter, close_routers, get_llm_router
from llm_routing.conf import get_settings
from llm_routing.core.breaker import BreakerState
from llm_routing.core.errors import LLMError
from llm_routing.health.monitor import health_monitor

from .conftest import MODELS, Answer, Upstream, add_provider, add_route, completion

FIRST, SECOND = "/first/chat/completions", "/second/chat/completions"


@pytest.fixture
def two(clean_process: None, upstream: Upstream) -> Upstream:
    """The route `debugging` over `first` and then `second`."""
    for name in ("first", "second"):
        add_provider(name, f"{upstream.url}/{name}")
        upstream.answers[f"/{name}/models"] = Answer(body=MODELS)
        upstream.answers[f"/{name}/chat/completions"] = Answer(body=completion())
    add_route("first/alpha", "second/alpha")
    return upstream


@pytest.fixture
def open_time() -> float:
    """Seconds that breakers stay open: longer than a test. `BRIEFLY` is for those that wait."""
    return 300


BRIEFLY = pytest.mark.parametrize("open_time", [1])


@pytest.fixture
def quick(open_time: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breakers that open after four calls."""
    monkeypatch.setenv("LLM_BREAKER_MINIMUM_CALLS", "4")
    monkeypatch.setenv("LLM_BREAKER_OPEN_TIME", str(open_time))
    get_settings.cache_clear()


@pytest.fixture
async def router(quick: None, two: Upstream) -> AsyncIterator[BaseLLMRouter]:
    yield await get_llm_router()
    await close_routers()


async def ask(router: BaseLLMRouter) -> str:
    """Returns the target that answered."""
    return (await router.complete("Hi", use_case="debugging")).provider


def failing(upstream: Upstream, *paths: str, **answer: Any) -> None:
    for path in paths:
        upstream.answers[path] = Answer(500, {"error": {"message": "Broken."}}, **answer)


def state_of_first() -> BreakerState:
    """The state of the breaker of `first/alpha`."""
    assert health_monitor.breakers is not None
    return health_monitor.breakers.statuses()["first", "alpha"].state


async def trip(router: BaseLLMRouter, upstream: Upstream) -> None:
    """Opens the breaker of `first/alpha`."""
    failing(upstream, FIRST)
    for _ in range(4):
        with pytest.raises(LLMError):
            await router.complete("Hi", model_override="first/alpha")
