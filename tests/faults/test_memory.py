"""Memory of requests whose callers have disconnected."""

import asyncio
import gc
from collections import Counter
from contextlib import suppress
from typing import Any

import httpx
import pytest

from llm_routing.api.streams.events import EventStream
from llm_routing.core.attempts.attempt import Attempt
from llm_routing.core.attempts.stream import AnswerStream
from llm_routing.core.timers import FutureTimeout

from .callers import CALLERS, Caller
from .conftest import Bench
from .upstream import until

OF_A_REQUEST = (EventStream, AnswerStream, Attempt, FutureTimeout)


def left_over() -> Counter[str]:
    """Counts objects of requests that are still referenced, and timers that were not cancelled:
    they hold at least the context of their request. Requests share the timer of `core.timers`."""
    gc.collect()
    return Counter(type(found).__name__ for found in gc.get_objects() if is_of_a_request(found))


def is_of_a_request(found: object) -> bool:
    if not isinstance(found, asyncio.TimerHandle):
        return type(found) in OF_A_REQUEST
    # The callback is a referent, unless the handle was cancelled.
    referents = gc.get_referents(found)
    return any(getattr(it, "__module__", "").startswith("llm_routing.api") for it in referents)


async def begin(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    """Sends a request and disconnects after the first bytes of the response."""
    async with http.stream("POST", path, json=body) as answer:
        await anext(answer.aiter_bytes())


@pytest.mark.parametrize("routing", [{"WRITE_TIMEOUT": 600.0}], indirect=True)
@pytest.mark.parametrize("caller", CALLERS, ids=repr)
async def test_no_object_of_a_request_outlives_its_caller(bench: Bench, caller: Caller) -> None:
    before = left_over()  # what earlier tests still hold
    body = caller.body("debugging", "[[words=20000 token_delay=0.01]]")
    for _ in range(3):
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await begin(bench.client.http, caller.path, body)
    # The timer of the limit for writing to a caller goes on for longer and must not hold them.
    assert await until(lambda: not left_over() - before), left_over()
