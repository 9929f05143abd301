"""The official `mistralai` client against a running gateway."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from mistralai.client import Mistral, errors
from pydantic import BaseModel

MODEL = "mistral-large-latest"
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HELLO: Any = [{"role": "user", "content": "Hello there"}]
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
    """A structured answer."""

    name: str
    age: int


@pytest.fixture
def client() -> Iterator[Mistral]:
    with Mistral(
        api_key=os.environ["GATEWAY_KEY"], server_url=os.environ["TEST_API_BASE_URL"]
    ) as client:
        yield client


def test_a_completion(client: Mistral) -> None:
    answer = client.chat.complete(
        model=MODEL,
        messages=[{"role": "system", "content": "Be brief."}, *HELLO],
        max_tokens=200,
        temperature=0.5,
        random_seed=7,
        safe_prompt=False,
    )
    assert "Hello there" in str(answer.choices[0].message.content)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens


async def test_a_completion_awaited(client: Mistral) -> None:
    async with client:
        answer = await client.chat.complete_async(model=MODEL, messages=HELLO)
    assert "Hello there" in str(answer.choices[0].message.content)


def test_a_stream(client: Mistral) -> None:
    text, reasons = "", []
    with client.chat.stream(model=MODEL, messages=HELLO) as events:
        for event in events:
            for choice in event.data.choices:
                text += str(choice.delta.content or "")
                reasons += [choice.finish_reason] if choice.finish_reason else []
    assert "Hello there" in text
    assert reasons == ["stop"]


async def test_a_stream_awaited(client: Mistral) -> None:
    text = ""
    async with client:
        async for event in await client.chat.stream_async(model=MODEL, messages=HELLO):
            text += "".join(str(choice.delta.content or "") for choice in event.data.choices)
    assert "Hello there" in text


@pytest.mark.parametrize("choice", ["any", "required"])
def test_a_tool_and_its_result(client: Mistral, choice: Any) -> None:
    messages: list[Any] = [{"role": "user", "content": "The weather in Rome?"}]
    asked = client.chat.complete(model=MODEL, messages=messages, tools=[TOOL], tool_choice=choice)
    assert asked.choices[0].finish_reason == "tool_calls"
    (call,) = asked.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) == {"city"}
    result = {"role": "tool", "name": "get_weather", "tool_call_id": call.id, "content": "sunny"}
    messages += [asked.choices[0].message, result]
    answer = client.chat.complete(model=MODEL, messages=messages, tools=[TOOL])
    assert "sunny" in str(answer.choices[0].message.content)


def test_streamed_tool_calls(client: Mistral) -> None:
    arguments = ""
    with client.chat.stream(model=MODEL, messages=HELLO, tools=[TOOL], tool_choice="any") as events:
        for event in events:
            for choice in event.data.choices:
                for call in choice.delta.tool_calls or []:
                    arguments += str(call.function.arguments)
    assert set(json.loads(arguments)) == {"city"}


def test_an_answer_after_a_schema(client: Mistral) -> None:
    answer = client.chat.parse(Person, model=MODEL, messages=HELLO)
    assert isinstance(answer.choices[0].message.parsed, Person)


@pytest.mark.parametrize("url", [PIXEL, {"url": PIXEL, "detail": "low"}])
def test_an_image(client: Mistral, url: Any) -> None:
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": url}]
    answer = client.chat.complete(model=MODEL, messages=[{"role": "user", "content": content}])
    assert "image/png" in str(answer.choices[0].message.content)


def test_an_answer_that_the_caller_begins(client: Mistral) -> None:
    answer = client.chat.complete(
        model=MODEL, messages=[*HELLO, {"role": "assistant", "content": "Well,", "prefix": True}]
    )
    assert answer.choices[0].message.content


def test_embeddings(client: Mistral) -> None:
    answer = client.embeddings.create(model="mistral-embed", inputs=["a", "b"], output_dimension=8)
    assert [len(entry.embedding) for entry in answer.data] == [8, 8]


def test_models(client: Mistral) -> None:
    assert MODEL in [model.id for model in client.models.list().data]
    assert client.models.retrieve(model_id=MODEL).id == MODEL


def test_errors(client: Mistral) -> None:
    with pytest.raises(errors.SDKError) as unknown:
        client.chat.complete(model="mistral-tiny", messages=HELLO)
    assert unknown.value.status_code == 404
    assert "mistral-tiny" in unknown.value.body
    with pytest.raises(errors.SDKError) as refused:
        client.chat.complete(model=MODEL, messages=HELLO, temperature=5)
    assert refused.value.status_code == 400
