"""The official `anthropic` client against a running gateway, over vendors of either format."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from llm_routing.sandbox import Outcome

from .callers import until
from .conftest import Gateway
from .test_sdk_openai import PNG, Person

CROSSINGS = pytest.mark.parametrize("model", ["thinking", "debugging"])
TOOL: Any = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
        yield client


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@CROSSINGS
async def test_message(client: AsyncAnthropic, model: str) -> None:
    answer = await client.messages.create(
        model=model,
        max_tokens=200,
        system="Be brief.",
        messages=[{"role": "user", "content": "Hello there"}],
    )
    assert "Hello there" in text_of(answer)
    assert "Be brief." in text_of(answer)
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens > 0
    assert answer._request_id


@CROSSINGS
async def test_stream(client: AsyncAnthropic, model: str) -> None:
    async with client.messages.stream(
        model=model, max_tokens=200, messages=[{"role": "user", "content": "Hello there"}]
    ) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        answer = await stream.get_final_message()
    assert "Hello there" in text
    assert text == text_of(answer)
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens > 0


@CROSSINGS
async def test_tools_round_trip(client: AsyncAnthropic, model: str) -> None:
    messages: list[Any] = [{"role": "user", "content": "The weather in Rome?"}]
    asked = await client.messages.create(
        model=model, max_tokens=200, messages=messages, tools=[TOOL], tool_choice={"type": "any"}
    )
    assert asked.stop_reason == "tool_use"
    (call,) = [block for block in asked.content if block.type == "tool_use"]
    assert call.name == "get_weather"
    assert isinstance(call.input, dict)
    assert set(call.input) == {"city"}
    messages.append({"role": "assistant", "content": asked.content})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny, 30 degrees"}
    messages.append({"role": "user", "content": [result]})
    answer = await client.messages.create(
        model=model, max_tokens=200, messages=messages, tools=[TOOL]
    )
    assert "sunny, 30 degrees" in text_of(answer)


@CROSSINGS
async def test_streamed_tools(client: AsyncAnthropic, model: str) -> None:
    async with client.messages.stream(
        model=model,
        max_tokens=200,
        messages=[{"role": "user", "content": "The weather in Rome?"}],
        tools=[TOOL],
        tool_choice={"type": "any"},
    ) as stream:
        answer = await stream.get_final_message()
    (call,) = [block for block in answer.content if block.type == "tool_use"]
    assert isinstance(call.input, dict)
    assert set(call.input) == {"city"}


@CROSSINGS
async def test_json_schema(client: AsyncAnthropic, model: str) -> None:
    answer = await client.messages.parse(
        model=model,
        max_tokens=200,
        messages=[{"role": "user", "content": "Somebody, please"}],
        output_format=Person,
    )
    assert isinstance(answer.parsed_output, Person)


@CROSSINGS
async def test_images(client: AsyncAnthropic, model: str) -> None:
    image: Any = {
        "type": "image",
        "source": {
            "type": "base64",
            "media_type": "image/png",
            "data": base64.b64encode(PNG).decode(),
        },
    }
    answer = await client.messages.create(
        model=model,
        max_tokens=200,
        messages=[{"role": "user", "content": [{"type": "text", "text": "What?"}, image]}],
    )
    assert f"image/png of {len(PNG)} bytes" in text_of(answer)


@CROSSINGS
async def test_thinking(client: AsyncAnthropic, model: str) -> None:
    answer = await client.messages.create(
        model=model,
        max_tokens=4000,
        thinking={"type": "enabled", "budget_tokens": 1024},
        messages=[{"role": "user", "content": "Hello there"}],
    )
    assert [block.type for block in answer.content] == ["thinking", "text"]
    async with client.messages.stream(
        model=model,
        max_tokens=4000,
        thinking={"type": "enabled", "budget_tokens": 1024},
        messages=[{"role": "user", "content": "Hello there"}],
    ) as stream:
        streamed = await stream.get_final_message()
    assert [block.type for block in streamed.content] == ["thinking", "text"]


@CROSSINGS
async def test_count_tokens(client: AsyncAnthropic, model: str) -> None:
    count = await client.messages.count_tokens(
        model=model, messages=[{"role": "user", "content": "Hello there"}]
    )
    assert count.input_tokens > 0


async def test_models(client: AsyncAnthropic) -> None:
    listed = [model.id async for model in client.models.list(limit=2)]
    assert {"debugging", "debugging:premium", "first/org/alpha:1", "best"} <= set(listed)
    assert len(listed) == len(set(listed))
    assert (await client.models.retrieve("debugging:premium")).display_name


async def test_models_satisfy_a_client_that_checks_answers(gateway: Gateway) -> None:
    async with AsyncAnthropic(
        base_url=gateway.url, api_key=gateway.key, _strict_response_validation=True
    ) as client:
        model = await client.models.retrieve("best")
        assert model.lifecycle == "active"
        assert [one async for one in client.models.list(lifecycle=["active", "retired"])]
        assert not [one async for one in client.models.list(lifecycle=["deprecated", "retired"])]


@CROSSINGS
async def test_errors_are_the_client_s_own_classes(
    client: AsyncAnthropic, gateway: Gateway, model: str
) -> None:
    async def ask(given: AsyncAnthropic = client, text: str = "Hi", **more: Any) -> Any:
        messages: Any = [{"role": "user", "content": text}]
        return await given.messages.create(
            **{"model": model, "max_tokens": 100, "messages": messages, **more}
        )

    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        await ask(max_tokens=-1)
    with pytest.raises(anthropic.AuthenticationError):
        await ask(client.with_options(api_key="sk-llm-wrong"))
    with pytest.raises(anthropic.NotFoundError, match="debugging"):
        await ask(model="claude-1")
    with pytest.raises(anthropic.BadRequestError, match="too polite"):
        await ask(text='Hi [[status=400 message="too polite"]]')
    gateway.sandbox.journal.script(*["status=500"] * 10)
    with pytest.raises(anthropic.InternalServerError) as failed:
        await ask()
    assert failed.value.status_code == 502
    gateway.sandbox.journal.reset()
    with pytest.raises(anthropic.APIStatusError):
        async for _ in await ask(text="Hello [[cut_after=2]]", stream=True):
            pass


@CROSSINGS
async def test_cancel_mid_stream(client: AsyncAnthropic, gateway: Gateway, model: str) -> None:
    async with client.messages.stream(
        model=model,
        max_tokens=5000,
        messages=[{"role": "user", "content": "Hi [[words=2000 token_delay=0.02]]"}],
    ) as stream:
        async for piece in stream.text_stream:
            assert piece
            break
    (entry,) = gateway.sandbox.journal.entries
    await until(lambda: entry.outcome is Outcome.CLIENT_DISCONNECTED)
