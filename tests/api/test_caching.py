"""The response cache over HTTP: request headers and fields, and response headers."""

from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async

from llm_routing.api.cache_control import with_cache_control
from llm_routing.core.types import LLMRequest
from llm_routing.models import ApiKey

from .conftest import Gateway

PLAIN = LLMRequest(())


@pytest.mark.parametrize(
    ("header", "cache", "ttl", "refresh"),
    [
        (None, None, None, False),
        ("", None, None, False),
        ("no-store", False, None, False),
        ("No-Cache", None, None, True),
        ("no-cache, no-store", False, None, False),
        ("max-age=60", None, 60, False),
        ('max-age="60"', None, 60, False),
        ("max-age=0", None, None, True),
        (" max-age = 60 , min-fresh=5", None, 60, False),
        ("max-age=-1", None, None, False),
        ("max-age=soon", None, None, False),
        ("max-age=٣", None, None, False),
        ("max-age=" + "9" * 5000, None, 9999999999, False),
        (",,=,no-transform", None, None, False),
    ],
)
def test_the_directives_of_a_request(
    header: str | None, cache: bool | None, ttl: int | None, refresh: bool
) -> None:
    asked = with_cache_control(PLAIN, header)
    assert (asked.cache, asked.cache_ttl, asked.cache_refresh) == (cache, ttl, refresh)


def test_cache_control_only_restricts_what_the_body_allows() -> None:
    asked = LLMRequest((), cache=True, cache_ttl=30)
    assert with_cache_control(asked, "max-age=60").cache_ttl == 30
    assert with_cache_control(asked, "max-age=10").cache_ttl == 10
    assert with_cache_control(asked, "no-store").cache is False


def states(*answers: httpx.Response) -> list[str]:
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    return [answer.headers["x-llm-cache"] for answer in answers]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("endpoint", ["complete", "chat", "message"])
async def test_the_second_answer_is_the_first_one_for_nothing(
    gateway: Gateway, endpoint: str, stream: bool
) -> None:
    ask: Any = getattr(gateway, endpoint)
    first = await ask("Grüße", temperature=0, stream=stream)
    second = await ask("Grüße", temperature=0, stream=stream)
    assert states(first, second) == ["miss", "hit"]
    assert second.headers["x-llm-cost-usd"] == "0"
    assert second.headers["x-llm-attempts"] == "0"
    assert second.headers["x-llm-model"] == first.headers["x-llm-model"]
    if endpoint != "complete":
        assert second.content == first.content
    elif not stream:
        assert second.json()["content"] == first.json()["content"]
        assert second.json()["usage"] == first.json()["usage"]
        assert (second.json()["cache"], second.json()["cost_usd"]) == ("hit", "0")
    assert gateway.sandbox.journal.received == 1


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/api/llm/complete"])
async def test_cache_control_is_obeyed(gateway: Gateway, endpoint: str) -> None:
    async def ask(cache_control: str = "") -> str:
        body = {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0}
        headers = {"Cache-Control": cache_control} if cache_control else {}
        answer = await gateway.post(endpoint, {**body, "model": "debugging"}, headers)
        return states(answer)[0]

    assert [await ask("no-store") for _ in range(2)] == ["bypass", "bypass"]
    assert [await ask(), await ask(), await ask("no-cache"), await ask()] == [
        "miss",
        "hit",
        "miss",
        "hit",
    ]
    assert await ask("max-age=3600") == "hit"
    assert gateway.sandbox.journal.received == 4


async def test_the_fields_of_the_native_body_are_obeyed(gateway: Gateway) -> None:
    async def ask(**fields: Any) -> str:
        return states(await gateway.complete("Hi", **fields))[0]

    assert [await ask() for _ in range(2)] == ["bypass", "bypass"]
    assert [await ask(cache=True) for _ in range(2)] == ["miss", "hit"]
    assert await ask(cache=True, cache_ttl=0) == "bypass"
    assert await ask(temperature=0, cache=False) == "bypass"
    assert (await gateway.complete("Hi", cache_ttl=-1)).status_code == 422


async def test_two_tenants_share_nothing(gateway: Gateway) -> None:
    _, other = await sync_to_async(ApiKey.objects.issue)("another", tenant="other")
    keys = {"acme": gateway.key, "other": other}
    body = {"messages": "Hi", "use_case": "debugging", "temperature": 0}
    found = [
        await gateway.client.post(
            "/api/llm/complete", json=body, headers={"Authorization": f"Bearer {keys[tenant]}"}
        )
        for tenant in ("acme", "other", "acme", "other")
    ]
    assert states(*found) == ["miss", "miss", "hit", "hit"]
