"""Anthropic's message threads: a follow-up goes to the provider that holds the thread; if none
does, the official client continues without one."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from anthropic import AsyncAnthropic, beta_async_tool
from asgiref.sync import sync_to_async

from llm_routing.models import ApiKey
from llm_routing.sandbox.threads import Threads
from llm_routing.vendors import VENDORS

from .conftest import Gateway

BETA = {"anthropic-beta": "message-threads-2026-08-12"}


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
        yield client


@beta_async_tool
async def get_weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: Its name.
    """
    return f"sunny in {city}"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collects the bodies of messages sent to the sandbox."""
    bodies: list[Any] = []
    resumed = Threads.resumed

    def watched(self: Threads, body: Any) -> Any:
        bodies.append(body)
        return resumed(self, body)

    monkeypatch.setattr(Threads, "resumed", watched)
    return bodies


async def run(client: AsyncAnthropic, model: str, *, stream: bool) -> Any:
    """Lets the official tool runner work to its end; its last message."""
    runner: Any = client.beta.messages.tool_runner(
        model=model,
        max_tokens=200,
        system="Be brief.",
        tools=[get_weather],
        messages=[{"role": "user", "content": "Ask get_weather about Rome."}],
        stream=stream,
    )
    message = await runner.until_done()
    assert message.stop_reason == "end_turn"
    assert "sunny" in message.content[0].text
    return message


STREAMED = pytest.mark.parametrize("stream", [False, True])


@STREAMED
async def test_the_tool_runner_keeps_its_thread_at_anthropic(
    client: AsyncAnthropic, sent: list[Any], stream: bool
) -> None:
    await run(client, "debugging:premium", stream=stream)
    created, continued = sent
    assert created["thread"] == {"type": "create"}
    assert continued["thread"]["type"] == "continue"
    # The vendor's own id, and the new turn alone.
    assert "_thr_" not in continued["thread"]["previous_message_id"]
    assert [message["role"] for message in continued["messages"]] == ["user"]


@STREAMED
async def test_the_tool_runner_goes_on_without_threads_at_another_vendor(
    client: AsyncAnthropic, gateway: Gateway, stream: bool
) -> None:
    await run(client, "debugging", stream=stream)
    assert [entry.status for entry in gateway.sandbox.journal.entries] == [200, 200]


async def begun(
    gateway: Gateway, key: str | None = None, model: str = "thinking"
) -> httpx.Response:
    """The first answer of a thread."""
    headers = BETA if key is None else BETA | {"authorization": f"Bearer {key}"}
    body = {"model": model, "max_tokens": 50, "thread": {"type": "create"}}
    return await gateway.post(
        "/v1/messages", body | {"messages": [{"role": "user", "content": "Hi"}]}, headers
    )


async def gone_on(
    gateway: Gateway, message_id: str, key: str | None = None, model: str = "thinking"
) -> httpx.Response:
    """The next one."""
    headers = BETA if key is None else BETA | {"authorization": f"Bearer {key}"}
    thread = {"type": "continue", "previous_message_id": message_id}
    body = {"model": model, "max_tokens": 50, "thread": thread}
    return await gateway.post(
        "/v1/messages", body | {"messages": [{"role": "user", "content": "More"}]}, headers
    )


def code_of(response: httpx.Response) -> tuple[int, Any]:
    return response.status_code, response.json()["error"]["details"]["error_code"]


async def test_a_thread_goes_on_at_the_provider_that_holds_it(
    gateway: Gateway, sent: list[Any]
) -> None:
    first = await begun(gateway, model="debugging:premium")
    assert first.headers["x-llm-provider"] == "claude"
    second = await gone_on(gateway, first.json()["id"], model="debugging:premium")
    assert second.status_code == 200, second.text
    assert second.headers["x-llm-provider"] == "claude"
    third = await gone_on(gateway, second.json()["id"], model="claude/opus")
    assert third.status_code == 200, third.text


async def test_the_vendor_s_error_for_a_lost_thread_is_passed_on(
    gateway: Gateway, sent: list[Any]
) -> None:
    first = await begun(gateway)
    gateway.sandbox.threads.forget()
    assert code_of(await gone_on(gateway, first.json()["id"])) == (404, "thread_not_found")
    # That says nothing against the model.
    assert (await begun(gateway)).status_code == 200


async def test_a_thread_of_another_tenant_is_not_found(gateway: Gateway, sent: list[Any]) -> None:
    other = await sync_to_async(ApiKey.objects.issue)("others", tenant="evil")
    first = (await begun(gateway)).json()["id"]
    vendors = first.partition("_thr_")[0]
    for message_id in (first, vendors, first[:-2], first + "00", "msg_x", "_thr_", ""):
        response = await gone_on(gateway, message_id, key=other[1])
        assert code_of(response) == (404, "thread_not_found"), message_id
    assert len(sent) == 1
    assert (await gone_on(gateway, first)).status_code == 200


@pytest.mark.parametrize("model", ["debugging", "first/org/alpha:1"])
async def test_no_thread_goes_on_at_another_vendor(gateway: Gateway, model: str) -> None:
    first = await begun(gateway, model=model)
    assert first.status_code == 200
    assert "thread" in first.headers["x-llm-ignored"]
    refused = (400, "thread_unsupported_request")
    assert code_of(await gone_on(gateway, first.json()["id"], model=model)) == refused
    at_claude = (await begun(gateway)).json()["id"]
    assert code_of(await gone_on(gateway, at_claude, model=model)) == refused
    # A route on which some targets support threads: answers of the others belong to none.
    assert code_of(await gone_on(gateway, first.json()["id"], model="debugging:premium"))[0] >= 400


async def test_a_server_that_only_speaks_the_format_holds_no_threads() -> None:
    vendor = VENDORS["anthropic"]
    assert vendor.quirks_at("https://api.anthropic.com").holds_threads
    assert not vendor.quirks_at("https://api.example.com/anthropic").holds_threads


@pytest.mark.parametrize(
    "thread", [{"type": "resume"}, {"type": "continue"}, {}, "create", {"type": 1}]
)
async def test_a_thread_of_a_wrong_shape_is_refused(gateway: Gateway, thread: Any) -> None:
    response = await gateway.message(thread=thread)
    assert code_of(response) == (400, "invalid_request")
