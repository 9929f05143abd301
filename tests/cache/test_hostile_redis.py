"""A Redis that others rewrite, empty or forbid: the only effect is misses."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from llm_routing import BaseLLMRouter, RouterConfig, get_llm_router
from llm_routing.conf import get_settings

from .conftest import Upstream

pytestmark = pytest.mark.usefixtures("deterministic", "own_redis")

REQUESTS = 40


class Writer:
    """A program that can write to Redis and does not have our secrets."""

    def __init__(self, redis: "Redis") -> None:
        self._redis: Any = redis
        self._rng = random.Random(7)
        self._seen: dict[bytes, bytes] = {}
        self.is_over = False

    async def run(self, change: str) -> None:
        """Changes all there is, again and again."""
        while not self.is_over:
            for name in await self._redis.keys("llm_routing:*"):
                await self._change(name, change)
            if change == "emptied":
                await self._redis.flushall()
            await asyncio.sleep(0.005)

    async def _change(self, name: bytes, change: str) -> None:
        kind = await self._redis.type(name)
        junk = self._rng.randbytes(self._rng.choice((0, 1, 40, 5000)))
        match change:
            case "random bytes" if kind == b"hash":
                for field in await self._redis.hkeys(name):
                    await self._redis.hset(name, field, junk)
            case "random bytes" if kind == b"list":
                await self._redis.rpush(name, junk)
            case "random bytes":
                await self._redis.set(name, junk, keepttl=True)
            case "wrong types":
                await self._redis.delete(name)
                if kind == b"hash":
                    await self._redis.set(name, junk)
                else:
                    await self._redis.hset(name, "era", junk)
            case "values of others" | "older values" if kind == b"string":
                value = await self._redis.get(name)
                self._seen.setdefault(name, value or b"")
                others = list(self._seen.values())
                old = self._rng.choice(others) if change[0] == "v" else self._seen[name]
                await self._redis.set(name, old, ex=3600)
            case "evicted":
                if self._rng.random() < 0.5:
                    await self._redis.delete(name)


@pytest.fixture
async def router_of_another_machine(router: BaseLLMRouter) -> BaseLLMRouter:
    return await get_llm_router(config=RouterConfig(cache_max_size=10))


@pytest.mark.parametrize(
    "change",
    ["random bytes", "wrong types", "values of others", "older values", "evicted", "emptied"],
)
async def test_while_somebody_rewrites_redis_each_request_gets_its_own_answer(
    router: BaseLLMRouter,
    router_of_another_machine: BaseLLMRouter,
    own_redis: "Redis",
    upstream: Upstream,
    change: str,
) -> None:
    # What each question is answered by when nobody interferes.
    expected = {
        number: (await router.complete(f"[[echo]] {number}", "debugging", cache=False)).content
        for number in range(8)
    }
    assert len(set(expected.values())) == len(expected)
    writer = Writer(own_redis)
    writing = asyncio.create_task(writer.run(change))

    async def ask(number: int) -> None:
        which = (router, router_of_another_machine)[number % 2]
        once: dict[str, Any] = (
            {"idempotency_key": f"key-{number}", "cache": False} if number % 3 == 0 else {}
        )
        answer = await which.complete(f"[[echo]] {number % 8}", "debugging", **once)
        assert answer.content == expected[number % 8]

    for start in range(0, REQUESTS, 10):
        await asyncio.gather(*(ask(start + number) for number in range(10)))
    writer.is_over = True
    await writing


@pytest.fixture
async def few_rights(
    own_redis: "Redis", monkeypatch: pytest.MonkeyPatch, clean_process: None
) -> AsyncIterator[None]:
    admin: Any = own_redis
    await admin.acl_setuser(
        "few", enabled=True, passwords=["+pw"], keys=["*"], commands=["+get", "+ping"]
    )
    url = get_settings().redis_url
    assert url is not None
    monkeypatch.setenv("REDIS_URL", url.get_secret_value().replace("//", "//few:pw@", 1))
    get_settings.cache_clear()
    yield
    await admin.acl_deluser("few")


@pytest.mark.usefixtures("few_rights")
async def test_missing_permissions_fail_no_request_and_are_logged(
    router: BaseLLMRouter, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        assert (await router.complete(f"{number}", "debugging")).content
        assert (await router.complete(f"{number}", "debugging")).content
    assert await upstream.calls() == 5
    assert "lacks permissions" in caplog.text
