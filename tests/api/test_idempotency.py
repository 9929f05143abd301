"""Idempotency-Key over HTTP: the same request again gets the same answer, and nothing else does."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from anthropic import AsyncAnthropic
from asgiref.sync import sync_to_async
from openai import AsyncOpenAI, UnprocessableEntityError

from llm_routing import close_routers
from llm_routing.conf import get_settings
from llm_routing.models import ApiKey, RouteTarget, UsageRecord
from llm_routing.sandbox import Outcome
from tests.listening import listening

from .conftest import Gateway

CHAT = "/v1/chat/completions"
BODIES: dict[str, dict[str, Any]] = {
    "/api/llm/complete": {"use_case": "debugging", "messages": "Grüße"},
    CHAT: {"model": "debugging", "messages": [{"role": "user", "content": "Grüße"}]},
    "/v1/messages": {
        "model": "debugging",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Grüße"}],
    },
    "/v1/embeddings": {"model": "memory_processing", "input": ["Grüße", "all"]},
}
TALKING = [path for path in BODIES if path != "/v1/embeddings"]


@pytest.fixture
def tenant() -> str:
    """A tenant for one test only, because entries in Redis outlive a test."""
    return f"acme-{uuid4().hex}"


@pytest.fixture
def api_key(clean_process: None, tenant: str) -> str:
    return ApiKey.objects.issue("tests", tenant=tenant)[1]


@pytest.fixture
def without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)


async def set_lifetime(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    monkeypatch.setenv("LLM_IDEMPOTENCY_TTL", str(seconds))
    get_settings.cache_clear()
    await close_routers()


async def ask(
    gateway: Gateway, path: str = CHAT, key: str = "k", api_key: str = "", **fields: Any
) -> httpx.Response:
    headers = {"Idempotency-Key": key}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    return await gateway.post(path, BODIES[path] | fields, headers)


def replayed(*answers: httpx.Response) -> list[bool]:
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    return [answer.headers.get("idempotency-replayed") == "true" for answer in answers]


def code(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    return str(error.get("code") or error["type"])


@pytest.mark.parametrize("path", BODIES)
async def test_a_repeated_request_gets_the_first_answer_at_no_cost(
    gateway: Gateway, path: str
) -> None:
    first, second = await ask(gateway, path), await ask(gateway, path)
    assert replayed(first, second) == [False, True]
    assert second.headers["x-llm-cost-usd"] == "0"
    assert second.headers["x-llm-attempts"] == "0"
    assert second.headers["x-llm-model"] == first.headers["x-llm-model"]
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    if path != "/api/llm/complete":
        assert second.content == first.content
    else:
        for name in ("content", "usage", "model", "finish_reason", "tool_calls"):
            assert second.json()[name] == first.json()[name]
        assert (first.json()["replayed"], second.json()["replayed"]) == (False, True)
    assert gateway.sandbox.journal.received == 1
    await close_routers()
    assert await UsageRecord.objects.acount() == 1


@pytest.mark.parametrize("model", ["debugging", "thinking"])
@pytest.mark.parametrize("path", TALKING)
async def test_a_stream_is_replayed_as_a_stream_in_its_own_format(
    gateway: Gateway, path: str, model: str
) -> None:
    address = {"use_case": model} if path == "/api/llm/complete" else {"model": model}
    first, second = [await ask(gateway, path, stream=True, **address) for _ in range(2)]
    assert replayed(first, second) == [False, True]
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.headers["x-llm-cost-usd"] == "0"
    if path != "/api/llm/complete":
        assert second.content == first.content
    else:
        cut = first.text.index("event: done")
        assert second.text[:cut] == first.text[:cut]
        assert '"replayed":true' in second.text[cut:]
    assert gateway.sandbox.journal.received == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_in_another_format_than_its_vendor_s_is_the_same_to_the_second(
    gateway: Gateway, stream: bool
) -> None:
    first = await ask(gateway, model="thinking", stream=stream)
    await asyncio.sleep(1.1)
    assert (await ask(gateway, model="thinking", stream=stream)).content == first.content


@pytest.mark.parametrize("path", BODIES)
async def test_another_body_under_the_same_key_is_refused_in_the_caller_s_format(
    gateway: Gateway, path: str
) -> None:
    await ask(gateway, path)
    refused = await ask(gateway, path, user="somebody else")
    assert refused.status_code == 422
    if path == "/v1/messages":
        assert refused.json()["error"]["type"] == "invalid_request_error"
    else:
        assert code(refused) == "idempotency_key_reused"
    assert "idempotency key" in refused.json()["error"]["message"]
    assert replayed(await ask(gateway, path)) == [True]
    assert gateway.sandbox.journal.received == 1


async def test_a_stream_and_a_whole_answer_are_different_requests(gateway: Gateway) -> None:
    await ask(gateway)
    assert (await ask(gateway, stream=True)).status_code == 422


async def test_endpoints_and_tenants_are_apart(gateway: Gateway, tenant: str) -> None:
    _, other = await sync_to_async(ApiKey.objects.issue)("another", tenant=f"{tenant}-2")
    _, colleague = await sync_to_async(ApiKey.objects.issue)("colleague", tenant=tenant)
    found = [await ask(gateway, path) for path in TALKING]
    found += [await ask(gateway, api_key=other), await ask(gateway, api_key=colleague)]
    assert replayed(*found) == [False, False, False, False, True]


async def test_fifty_at_once_are_one_call(gateway: Gateway) -> None:
    gateway.sandbox.journal.script("delay=0.5")
    answers = await asyncio.gather(*(ask(gateway) for _ in range(50)))
    assert sorted(replayed(*answers)) == [False, *[True] * 49]
    assert len({answer.content for answer in answers}) == 1
    assert gateway.sandbox.journal.received == 1


async def test_waiting_past_the_deadline_is_an_error(gateway: Gateway) -> None:
    gateway.sandbox.journal.script("delay=5")
    slow = asyncio.create_task(ask(gateway))
    while gateway.sandbox.journal.received == 0:
        await asyncio.sleep(0.01)
    headers = {"Idempotency-Key": "k", "X-Request-Timeout": "0.2"}
    late = await gateway.post(CHAT, BODIES[CHAT], headers)
    assert (late.status_code, code(late)) == (504, "deadline_exceeded")
    assert replayed(await slow, await ask(gateway)) == [False, True]


@pytest.mark.parametrize("step", ["status=400", "status=503"])
async def test_an_error_frees_the_key(gateway: Gateway, step: str) -> None:
    gateway.sandbox.journal.script(*[step] * 8)
    failed = await ask(gateway)
    assert failed.status_code >= 400
    gateway.sandbox.journal.reset()
    assert replayed(await ask(gateway, user="mended"), await ask(gateway, user="mended")) == [
        False,
        True,
    ]


async def test_a_stream_that_was_cut_is_not_replayed(gateway: Gateway) -> None:
    gateway.sandbox.journal.script("cut_after=2")
    cut = await ask(gateway, stream=True)
    assert "[DONE]" not in cut.text
    assert "[DONE]" in (await ask(gateway, stream=True)).text
    assert replayed(await ask(gateway, stream=True)) == [True]


async def test_an_abandoned_stream_is_requested_again(gateway: Gateway) -> None:
    gateway.sandbox.journal.script("token_delay=0.2 words=50")
    body = BODIES[CHAT] | {"stream": True}
    headers = {"Idempotency-Key": "k"}
    async with gateway.client.stream("POST", CHAT, json=body, headers=headers) as left:
        async for _ in left.aiter_bytes():
            break
    async with asyncio.timeout(90):
        while gateway.sandbox.journal.entries[0].outcome is not Outcome.CLIENT_DISCONNECTED:
            await asyncio.sleep(0.02)
    again = [await gateway.post(CHAT, body, headers) for _ in range(2)]
    assert replayed(*again) == [False, True]


async def test_an_answer_outlives_the_route_s_change_and_a_restart(gateway: Gateway) -> None:
    first = await ask(gateway)
    await close_routers()
    await sync_to_async(RouteTarget.objects.filter(model__model_id="org/alpha:1").delete)()
    second = await ask(gateway)
    assert replayed(second) == [True]
    assert second.content == first.content
    assert second.headers["x-llm-model"] == "org/alpha:1"


async def test_an_answer_ends_with_its_lifetime(
    gateway: Gateway,
    without_redis: None,
    monkeypatch: pytest.MonkeyPatch,
    put_forward: Callable[[float], None],
) -> None:
    await set_lifetime(monkeypatch, 60)
    assert replayed(await ask(gateway), await ask(gateway)) == [False, True]
    put_forward(61)
    assert replayed(await ask(gateway, user="another body")) == [False]


async def test_a_lifetime_of_0_means_that_keys_mean_nothing(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await set_lifetime(monkeypatch, 0)
    answers = [await ask(gateway, key=key) for key in ("k", "k", "x" * 300)]
    assert replayed(*answers) == [False, False, False]


@pytest.mark.parametrize("key", ["", "k" * 256, '""', "a\tb", "k, k"])
async def test_an_invalid_idempotency_key_is_rejected(gateway: Gateway, key: str) -> None:
    refused = await ask(gateway, key=key)
    assert (refused.status_code, code(refused)) == (400, "invalid_request")
    assert refused.json()["error"]["param"] == "idempotency-key"
    assert gateway.sandbox.journal.received == 0


async def test_a_key_that_is_given_twice_is_refused(gateway: Gateway) -> None:
    content = b'{"messages": "Hi", "use_case": "debugging"}'
    twice = [("Idempotency-Key", "k"), ("Idempotency-Key", "k")]
    response = await gateway.client.post("/api/llm/complete", content=content, headers=twice)
    assert response.status_code == 422
    assert "one Idempotency-Key" in response.json()["error"]["message"]
    assert gateway.sandbox.journal.received == 0


async def test_a_quoted_key_is_the_key_in_it(gateway: Gateway) -> None:
    assert replayed(await ask(gateway, key='"k"'), await ask(gateway, key="k")) == [False, True]


async def test_a_key_and_the_cache_go_together(gateway: Gateway) -> None:
    first = await ask(gateway, temperature=0)
    second = await ask(gateway, key="l", temperature=0)
    third = await ask(gateway, key="l", temperature=0)
    states = [answer.headers["x-llm-cache"] for answer in (first, second, third)]
    assert states == ["miss", "hit", "bypass"]
    assert replayed(first, second, third) == [False, False, True]


async def test_neither_key_nor_prompt_is_on_the_disk(without_redis: None, gateway: Gateway) -> None:
    await ask(gateway, key="a-secret-key")
    (path,) = (get_settings().state_dir / "idempotency").iterdir()
    assert re.fullmatch(r"[0-9a-f]{16}\.[0-9a-f]{64}", path.name), "digests of tenant and key"
    for word in ("secret", "Grüße", "Gr\\u00fc"):
        assert word not in path.name
        assert word.encode() not in path.read_bytes()


@pytest.fixture
async def openai_client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=2
    ) as client:
        yield client


async def chat(client: AsyncOpenAI, text: str = "Hi") -> Any:
    return await client.chat.completions.with_raw_response.create(
        model="debugging",
        messages=[{"role": "user", "content": text}],
        extra_headers={"Idempotency-Key": "k"},
    )


async def test_openai_s_client_gets_its_answer_again(
    gateway: Gateway, openai_client: AsyncOpenAI
) -> None:
    first, second = await chat(openai_client), await chat(openai_client)
    assert second.headers["idempotency-replayed"] == "true"
    assert second.parse().id == first.parse().id
    with pytest.raises(UnprocessableEntityError) as caught:
        await chat(openai_client, "Something else")
    assert caught.value.code == "idempotency_key_reused"


async def test_openai_s_client_retries_after_our_5xx_and_the_retry_runs(
    gateway: Gateway, openai_client: AsyncOpenAI
) -> None:
    gateway.sandbox.journal.script(*["status=500"] * 3)
    answer = await chat(openai_client)
    assert "idempotency-replayed" not in answer.headers
    assert answer.parse().choices[0].message.content
    assert gateway.sandbox.journal.received == 4


@asynccontextmanager
async def losing_the_first_answer(url: str) -> AsyncIterator[str]:
    """A way to `url` on which the first answer is lost once it was given."""
    port = urlsplit(url).port
    connections = 0

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def lose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        answer = lose if connections == 1 else pass_on
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pass_on(reader, upstream_writer), answer(upstream_reader, writer))
        finally:
            upstream_writer.close()
            with suppress(OSError):
                await upstream_writer.wait_closed()

    async with listening(connect) as own_port:
        yield f"http://127.0.0.1:{own_port}"


@pytest.mark.parametrize("sends", ["given", "by itself"])
async def test_openai_s_client_gets_the_same_answer_after_a_lost_connection(
    gateway: Gateway, sends: str
) -> None:
    async with (
        losing_the_first_answer(gateway.url) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key=gateway.key, max_retries=2) as client,
    ):
        if sends == "by itself":
            # The generator supports keys of its own (`stainless-python-retry-…`), which OpenAI has
            # not enabled: one per call, the same for each of the call's retries.
            client._idempotency_header = "Idempotency-Key"
            answer = await client.chat.completions.with_raw_response.create(
                model="debugging", messages=[{"role": "user", "content": "Hi"}]
            )
        else:
            answer = await chat(client)
    assert answer.headers["idempotency-replayed"] == "true"
    assert answer.parse().choices[0].message.content
    assert gateway.sandbox.journal.received == 1
    await close_routers()
    assert await UsageRecord.objects.acount() == 1


async def test_anthropic_s_client_gets_the_same_stream_after_a_lost_connection(
    gateway: Gateway,
) -> None:
    async with (
        losing_the_first_answer(gateway.url) as url,
        AsyncAnthropic(base_url=url, api_key=gateway.key, max_retries=2) as client,
        client.messages.stream(
            model="debugging:premium",
            max_tokens=100,
            messages=[{"role": "user", "content": "Hi"}],
            extra_headers={"Idempotency-Key": "k"},
        ) as stream,
    ):
        message = await stream.get_final_message()
    assert message.stop_reason == "end_turn"
    assert gateway.sandbox.journal.received in (1, 2), "the first may have been cut in the middle"
