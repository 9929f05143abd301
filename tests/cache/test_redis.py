"""Routers that share a Redis: its content, and requests while it fails."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from llm_routing import BaseLLMRouter, RouterConfig, get_llm_router
from llm_routing.conf import get_settings
from llm_routing.core.types import CacheState
from tests import services
from tests.listening import listening

from .conftest import Upstream

HIT, MISS = CacheState.HIT, CacheState.MISS

pytestmark = pytest.mark.usefixtures("deterministic")
on_own_redis = pytest.mark.usefixtures("own_redis")


@pytest.fixture
async def another(router: BaseLLMRouter) -> BaseLLMRouter:
    """A second router with its own memory, as on another machine."""
    return await get_llm_router(config=RouterConfig(cache_max_size=10))


async def ask(router: BaseLLMRouter, text: str = "a secret plan", **more: Any) -> CacheState:
    answer = await router.complete(text, use_case="debugging", **more)
    return answer.routing.cache


@on_own_redis
async def test_routers_share_answers(
    router: BaseLLMRouter, another: BaseLLMRouter, upstream: Upstream
) -> None:
    first = await router.complete("Hello", use_case="debugging")
    second = await another.complete("Hello", use_case="debugging")
    assert second.routing.cache is HIT
    assert second.completion == first.completion
    assert second.cost == 0
    assert await ask(another, "Hello", tenant="other") is MISS
    assert await upstream.calls() == 2


@on_own_redis
async def test_a_stream_is_replayed_by_another_router(
    router: BaseLLMRouter, another: BaseLLMRouter, upstream: Upstream
) -> None:
    first, second = [
        [event async for event in which.stream("Grüße 🎉", use_case="debugging")]
        for which in (router, another)
    ]
    assert second[:-1] == first[:-1]
    assert await upstream.calls() == 1


@on_own_redis
async def test_redis_holds_no_readable_prompt_or_answer(
    router: BaseLLMRouter, own_redis: "Redis"
) -> None:
    answer = await router.complete("a secret plan", use_case="debugging")
    (name,) = await own_redis.keys("llm_routing:answer:*")
    value = await own_redis.get(name)
    assert isinstance(name, bytes)
    assert isinstance(value, bytes)
    assert set(json.loads(value)) == {"schema", "ttl_ms", "at", "answer"}
    for word in (b"secret", b"plan", b"alpha", answer.content.encode()[:10]):
        assert word not in name + value


@on_own_redis
async def test_broken_entries_are_misses(
    router: BaseLLMRouter, another: BaseLLMRouter, own_redis: "Redis", upstream: Upstream
) -> None:
    await ask(router)
    (name,) = await own_redis.keys("llm_routing:answer:*")
    entry = json.loads(await own_redis.get(name) or b"")
    entry["answer"] = entry["answer"][:-8] + "AAAAAAA="
    await own_redis.set(name, json.dumps(entry), ex=60)
    assert await ask(another) is MISS
    assert await upstream.calls() == 2
    third = await get_llm_router(config=RouterConfig(cache_max_size=11))
    assert await ask(third) is HIT


@on_own_redis
async def test_another_secret_has_a_separate_cache(
    router: BaseLLMRouter,
    another: BaseLLMRouter,
    upstream: Upstream,
    settings: Any,
) -> None:
    await ask(router)
    settings.SECRET_KEY = "another installation on the same Redis, by mistake"
    stranger = await get_llm_router(config=RouterConfig(cache_max_size=12))
    assert await ask(stranger) is MISS
    assert await upstream.calls() == 2


@pytest.fixture
def mortal_redis(tmp_path: Path, redis_url: str) -> Iterator[Any]:
    """A Redis that the test can kill."""
    context = services.redis_server(tmp_path)
    ended: list[bool] = []

    def end() -> None:
        if not ended:
            ended.append(True)
            context.__exit__(None, None, None)

    yield context.__enter__(), end
    end()


@pytest.fixture
async def on_mortal_redis(
    mortal_redis: Any, clean_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", mortal_redis[0])
    get_settings.cache_clear()


async def test_requests_continue_when_redis_is_killed(
    mortal_redis: Any, on_mortal_redis: None, router: BaseLLMRouter, upstream: Upstream
) -> None:
    assert await ask(router, "before") is MISS
    mortal_redis[1]()
    states = await asyncio.gather(*(ask(router, f"after {n % 10}") for n in range(100)))
    assert sorted(states) == [*[HIT] * 90, *[MISS] * 10]
    assert await ask(router, "before") is HIT
    assert await upstream.calls() == 11


async def test_idempotency_keys_of_the_process_work_when_redis_is_killed(
    mortal_redis: Any, on_mortal_redis: None, router: BaseLLMRouter, upstream: Upstream
) -> None:
    async def replays(key: str) -> bool:
        answer = await router.complete("Hi", use_case="debugging", seed=1, idempotency_key=key)
        return answer.routing.replayed

    assert [await replays("before"), await replays("before")] == [False, True]
    mortal_redis[1]()
    assert await replays("before")
    assert sorted(await asyncio.gather(*(replays("after") for _ in range(50)))) == [
        False,
        *[True] * 49,
    ]


@on_own_redis
async def test_idempotency_keys_are_shared_by_machines_and_unreadable_in_redis(
    router: BaseLLMRouter, another: BaseLLMRouter, own_redis: "Redis"
) -> None:
    async def replays(which: BaseLLMRouter) -> bool:
        answer = await which.complete("a plan", "debugging", idempotency_key="a-key", cache=False)
        return answer.routing.replayed

    assert [await replays(router), await replays(another)] == [False, True]
    (name,) = await own_redis.keys("llm_routing:replay:*")
    assert 86_000 < await own_redis.ttl(name) <= 86_400
    value = await own_redis.get(name)
    assert isinstance(name, bytes)
    assert isinstance(value, bytes)
    for word in (b"a-key", b"plan", b"alpha"):
        assert word not in name + value


@pytest.fixture
async def silent_redis(
    clean_process: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[int]]:
    asked: list[int] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(1)
        await reader.read()

    async with listening(silent) as port:
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{port}/0")
        get_settings.cache_clear()
        yield asked


async def test_a_redis_that_hangs_delays_one_request(
    silent_redis: list[int], router: BaseLLMRouter, upstream: Upstream
) -> None:
    began = time.monotonic()
    for number in range(20):
        assert await ask(router, str(number)) is MISS
    # One call in each pause, the shortest of which is two fifths of a second.
    assert 1 <= len(silent_redis) <= 1 + (time.monotonic() - began) / 0.4
    assert await ask(router, "7") is HIT
    assert await upstream.calls() == 20
