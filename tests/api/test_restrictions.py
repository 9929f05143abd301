"""Callers stay with the model and the price that the operator has chosen, on every endpoint."""

from typing import Any

import openai
import pytest
from asgiref.sync import sync_to_async

from llm_routing.models import UseCaseRoute

from .conftest import Gateway


def sent(gateway: Gateway) -> tuple[str, ...]:
    """The fields of the last body that an upstream got."""
    return gateway.sandbox.journal.entries[-1].fields


@pytest.mark.parametrize("model", ["debugging", "first/org/alpha:1", "best"])
@pytest.mark.parametrize("stream", [False, True])
async def test_other_models_and_tiers_are_left_out_and_named(
    gateway: Gateway, model: str, stream: bool
) -> None:
    more: dict[str, Any] = {"models": ["x/expensive"], "service_tier": "priority"}
    response = await gateway.chat(model=model, stream=stream, **more)
    assert response.status_code == 200
    assert response.headers["x-llm-ignored"].split(", ")[:2] == ["models", "service_tier"]
    assert not more.keys() & set(sent(gateway))
    # An answer from the cache names them too.
    again = await gateway.chat(model=model, stream=stream, temperature=0, **more)
    again = await gateway.chat(model=model, stream=stream, temperature=0, **more)
    assert again.headers["x-llm-ignored"].startswith("models, service_tier")


@pytest.mark.parametrize("model", ["debugging", "first/org/alpha:1"])
async def test_fields_that_send_requests_are_rejected_unless_a_route_allows_them(
    gateway: Gateway, model: str
) -> None:
    response = await gateway.chat(model=model, web_search_options={})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "unsupported_request"
    assert "add web_search_options to the allowed fields of a route" in error["message"]
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    message = await gateway.message(model="thinking", tools=tools)
    assert message.status_code == 400
    assert "server_tools" in message.json()["error"]["message"]

    def allow() -> None:
        for route in UseCaseRoute.objects.all():
            route.allowed_fields = ["web_search_options", "server_tools"]
            route.full_clean()
            route.save()

    await sync_to_async(allow)()
    response = await gateway.chat(model=model, web_search_options={})
    # An address of a model has no route that could allow it.
    assert response.status_code == (200 if model == "debugging" else 400)
    if model == "debugging":
        assert "web_search_options" in sent(gateway)
    assert (await gateway.message(model="thinking", tools=tools)).status_code == 200


async def test_the_usual_fields_of_an_official_client_pass(gateway: Gateway) -> None:
    async with openai.AsyncOpenAI(
        api_key=gateway.key, base_url=f"{gateway.url}/v1", max_retries=0
    ) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="debugging",
            messages=[{"role": "user", "content": "Hi"}],
            service_tier="auto",
            seed=1,
            tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
            metadata={"a": "b"},
            store=True,
        )
    assert "service_tier" not in raw.headers.get("x-llm-ignored", "")
    assert "service_tier" in sent(gateway)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "http://169.254.169.254/latest", "http://db/"]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_urls_with_private_addresses_are_not_sent_to_providers(
    gateway: Gateway, url: str, stream: bool
) -> None:
    image = {"type": "image_url", "image_url": {"url": url}}
    chat = await gateway.chat(messages=[{"role": "user", "content": [image]}], stream=stream)
    block = {"type": "image", "source": {"type": "url", "url": url}}
    message = await gateway.message(
        messages=[{"role": "user", "content": [block]}], model="thinking", stream=stream
    )
    for response in (chat, message):
        assert response.status_code == 400
        assert url in response.json()["error"]["message"]
    assert not gateway.sandbox.journal.entries
