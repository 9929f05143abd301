"""The official `openai` client against a running gateway, over vendors of either format."""

import base64
import json
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from llm_routing.sandbox import Outcome

from .callers import until
from .conftest import Gateway

CROSSINGS = pytest.mark.parametrize("model", ["debugging", "thinking"])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG = (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 2, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress((b"\0" + b"\0" * 9) * 2))
    + chunk(b"IEND", b"")
)
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0
    ) as client:
        yield client


@CROSSINGS
async def test_chat(client: AsyncOpenAI, model: str) -> None:
    answer = await client.chat.completions.create(
        model=model,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello there"},
        ],
        max_tokens=200,
    )
    assert "Hello there" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0
    assert answer._request_id


@CROSSINGS
async def test_stream(client: AsyncOpenAI, model: str) -> None:
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Hello there"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    text, reasons, usages = "", [], []
    async for part in stream:
        usages += [part.usage] if part.usage else []
        for choice in part.choices:
            text += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
    assert "Hello there" in text
    assert reasons == ["stop"]
    assert [usage.completion_tokens > 0 for usage in usages] == [True]


@CROSSINGS
async def test_tools_round_trip(client: AsyncOpenAI, model: str) -> None:
    messages: list[Any] = [{"role": "user", "content": "The weather in Rome?"}]
    asked = await client.chat.completions.create(
        model=model, messages=messages, tools=[TOOL], tool_choice="required"
    )
    assert asked.choices[0].finish_reason == "tool_calls"
    (call,) = asked.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) == {"city"}
    messages.append(asked.choices[0].message)
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny, 30 degrees"})
    answer = await client.chat.completions.create(model=model, messages=messages, tools=[TOOL])
    assert "sunny, 30 degrees" in (answer.choices[0].message.content or "")


@CROSSINGS
async def test_streamed_tools(client: AsyncOpenAI, model: str) -> None:
    async with client.chat.completions.stream(
        model=model,
        messages=[{"role": "user", "content": "The weather in Rome?"}],
        tools=[TOOL],
        tool_choice="required",
    ) as stream:
        async for _ in stream:
            pass
        answer = await stream.get_final_completion()
    (call,) = answer.choices[0].message.tool_calls or []
    assert set(json.loads(call.function.arguments)) == {"city"}


@CROSSINGS
async def test_json_schema(client: AsyncOpenAI, model: str) -> None:
    answer = await client.chat.completions.parse(
        model=model,
        messages=[{"role": "user", "content": "Somebody, please"}],
        response_format=Person,
    )
    assert isinstance(answer.choices[0].message.parsed, Person)


@CROSSINGS
async def test_images(client: AsyncOpenAI, model: str) -> None:
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    answer = await client.chat.completions.create(
        model=model,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": url}},
                ],
            }
        ],
    )
    assert f"image/png of {len(PNG)} bytes" in (answer.choices[0].message.content or "")


async def test_embeddings(client: AsyncOpenAI) -> None:
    answer = await client.embeddings.create(
        model="memory_processing", input=["a", "b"], dimensions=8
    )
    assert [len(entry.embedding) for entry in answer.data] == [8, 8]
    assert all(isinstance(number, float) for number in answer.data[0].embedding)
    assert answer.usage.total_tokens > 0


async def test_models(client: AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    assert {"debugging", "debugging:premium", "first/org/alpha:1", "best"} <= set(listed)
    for address in ("debugging:premium", "first/org/alpha:1"):
        assert (await client.models.retrieve(address)).id == address


@CROSSINGS
async def test_errors_are_the_client_s_own_classes(
    client: AsyncOpenAI, gateway: Gateway, model: str
) -> None:
    async def ask(given: AsyncOpenAI = client, text: str = "Hi", **more: Any) -> Any:
        messages: Any = [{"role": "user", "content": text}]
        return await given.chat.completions.create(**{"model": model, "messages": messages, **more})

    with pytest.raises(openai.BadRequestError) as bad:
        await ask(temperature=5)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.AuthenticationError):
        await ask(client.with_options(api_key="sk-llm-wrong"))
    with pytest.raises(openai.NotFoundError, match="debugging") as unknown:
        await ask(model="gpt-1")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-1")
    with pytest.raises(openai.BadRequestError, match="too polite"):
        await ask(text='Hi [[status=400 message="too polite"]]')
    gateway.sandbox.journal.script(*["status=500"] * 10)
    with pytest.raises(openai.InternalServerError) as failed:
        await ask()
    assert failed.value.status_code == 502
    assert isinstance(failed.value.body, dict)
    assert failed.value.body["attempts"][-1]["reason"] == "server_failed"
    gateway.sandbox.journal.reset()
    with pytest.raises(openai.APIError):
        async for _ in await ask(text="Hello [[cut_after=2]]", stream=True):
            pass


@CROSSINGS
async def test_cancel_mid_stream(client: AsyncOpenAI, gateway: Gateway, model: str) -> None:
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Hi [[words=2000 token_delay=0.02]]"}],
        stream=True,
    )
    async for part in stream:
        if part.choices and part.choices[0].delta.content:
            break
    await stream.close()
    (entry,) = gateway.sandbox.journal.entries
    await until(lambda: entry.outcome is Outcome.CLIENT_DISCONNECTED)
