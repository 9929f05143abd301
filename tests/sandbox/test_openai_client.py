"""OpenAI's own client with the sandbox, over real sockets."""

import base64
import json
import math
from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel, Field

from .openai_requests import CLOCK, WEATHER, said

PIXEL = base64.b64encode(b"\x89PNG pixel").decode()


async def test_chat_names_the_model_and_repeats_the_last_user_text(openai_client: AsyncOpenAI):
    answer = await openai_client.chat.completions.create(
        model="sandbox-premium",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "First"},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "Grüß dich, 你好"},
        ],
    )
    text = answer.choices[0].message.content or ""
    assert answer.model == "sandbox-premium"
    assert "This is sandbox-premium" in text
    assert 'You said: "Grüß dich, 你好".' in text
    assert 'My instructions begin: "Be brief.".' in text
    assert "This is turn 2" in text
    assert "First" not in text
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_the_same_request_gives_the_same_answer(openai_client: AsyncOpenAI):
    first = await openai_client.chat.completions.create(model="m", messages=said("Hi"))
    again = await openai_client.chat.completions.create(model="m", messages=said("Hi"))
    other = await openai_client.chat.completions.create(model="m", messages=said("Ho"))
    assert first.model_dump() == again.model_dump()
    assert first.id != other.id


async def test_a_stream_has_the_same_content_as_the_whole_answer(openai_client: AsyncOpenAI):
    whole = await openai_client.chat.completions.create(model="m", messages=said("Hi there"))
    chunks = [
        chunk
        async for chunk in await openai_client.chat.completions.create(
            model="m",
            messages=said("Hi there"),
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    assert chunks[0].choices[0].delta.role == "assistant"
    words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert len([word for word in words if word]) > 5
    assert "".join(word or "" for word in words) == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage


async def test_a_stream_has_usage_only_on_request(openai_client: AsyncOpenAI):
    stream = await openai_client.chat.completions.create(
        model="m", messages=said("Hi"), stream=True
    )
    chunks = [chunk async for chunk in stream]
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


async def test_several_choices_differ_and_are_streamed_interleaved(openai_client: AsyncOpenAI):
    whole = await openai_client.chat.completions.create(model="m", messages=said("Hi"), n=3)
    texts = [choice.message.content for choice in whole.choices]
    assert len(set(texts)) == 3
    streamed = ["", "", ""]
    async for chunk in await openai_client.chat.completions.create(
        model="m", messages=said("Hi"), n=3, stream=True
    ):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts


async def test_a_tool_named_in_the_text_is_called_and_its_result_is_used(
    openai_client: AsyncOpenAI,
):
    messages = said("Please call get_weather for me")
    called = await openai_client.chat.completions.create(
        model="m", messages=messages, tools=[CLOCK, WEATHER]
    )
    choice = called.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    arguments = json.loads(call.function.arguments)
    assert arguments.keys() == {"city", "unit"}
    assert arguments["unit"] == "celsius"

    messages += [
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"},
    ]
    answered = await openai_client.chat.completions.create(
        model="m", messages=messages, tools=[CLOCK, WEATHER]
    )
    assert 'The tool get_weather returned: "21 degrees".' in (
        answered.choices[0].message.content or ""
    )
    assert answered.choices[0].finish_reason == "stop"


async def test_tool_choice_is_obeyed(openai_client: AsyncOpenAI):
    async def called(text: str, choice: Any, **more: Any) -> list[str]:
        answer = await openai_client.chat.completions.create(
            model="m", messages=said(text), tools=[CLOCK, WEATHER], tool_choice=choice, **more
        )
        calls = answer.choices[0].message.tool_calls or []
        return [call.function.name for call in calls if call.type == "function"]

    named = {"type": "function", "function": {"name": "get_weather"}}
    only = {"mode": "required", "tools": [named]}
    assert await called("Hi", "auto") == []
    assert await called("Hi", "required") == ["get_time"]
    assert await called("Hi", named) == ["get_weather"]
    assert await called("Hi", {"type": "allowed_tools", "allowed_tools": only}) == ["get_weather"]
    assert await called("get_weather", "none") == []
    both = "get_weather and get_time"
    assert await called(both, "auto") == ["get_time", "get_weather"]
    assert await called(both, "auto", parallel_tool_calls=False) == ["get_time"]


async def test_streamed_tool_calls_come_in_pieces(openai_client: AsyncOpenAI):
    async with openai_client.chat.completions.stream(
        model="m", messages=said("get_weather"), tools=[WEATHER]
    ) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert kinds.count("tool_calls.function.arguments.delta") > 1
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.choices[0].message.tool_calls is not None
    arguments = json.loads(final.choices[0].message.tool_calls[0].function.arguments)
    assert arguments["unit"] == "celsius"


class Step(BaseModel):
    name: str
    kind: Literal["think", "act"]
    score: float = Field(ge=0.5, le=0.75)


class Plan(BaseModel):
    title: str
    steps: list[Step]
    owner: Step | None
    retries: int = Field(gt=3)


async def test_a_json_schema_is_satisfied(openai_client: AsyncOpenAI):
    parsed = await openai_client.chat.completions.parse(
        model="m", messages=said("Plan"), response_format=Plan
    )
    plan = parsed.choices[0].message.parsed
    assert isinstance(plan, Plan)
    assert plan.steps


async def test_json_mode_returns_an_object_with_the_answer(openai_client: AsyncOpenAI):
    answer = await openai_client.chat.completions.create(
        model="m", messages=said("Hi"), response_format={"type": "json_object"}
    )
    assert 'You said: "Hi".' in json.loads(answer.choices[0].message.content or "")["answer"]


async def test_images_are_acknowledged(openai_client: AsyncOpenAI):
    answer = await openai_client.chat.completions.create(
        model="m",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                ],
            }
        ],
    )
    text = answer.choices[0].message.content or ""
    assert "You showed me 2 images: image/png of 10 bytes, an https link." in text


async def test_a_tool_call_cut_by_max_tokens_is_incomplete(openai_client: AsyncOpenAI):
    answer = await openai_client.chat.completions.create(
        model="m", messages=said("get_weather"), tools=[WEATHER], max_tokens=6
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "length"
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    with pytest.raises(ValueError, match="line 1"):
        json.loads(call.function.arguments)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_max_tokens_cuts_the_answer(openai_client: AsyncOpenAI, name: str):
    answer = await openai_client.chat.completions.create(
        model="m", messages=said("Hi"), extra_body={name: 3}
    )
    assert answer.choices[0].message.content == "This is m,"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


async def test_the_first_stop_sequence_ends_the_answer(openai_client: AsyncOpenAI):
    answer = await openai_client.chat.completions.create(
        model="m", messages=said("Hi"), stop=["answers", " a "]
    )
    assert answer.choices[0].message.content == "This is m,"
    assert answer.choices[0].finish_reason == "stop"


async def test_every_token_has_logprobs(openai_client: AsyncOpenAI):
    answer = await openai_client.chat.completions.create(
        model="m", messages=said("Hi"), logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    text = "".join(token.token for token in logprobs.content)
    assert text == answer.choices[0].message.content
    assert all(len(token.top_logprobs) == 2 for token in logprobs.content)
    streamed = ""
    async for chunk in await openai_client.chat.completions.create(
        model="m", messages=said("Hi"), logprobs=True, stream=True
    ):
        told = chunk.choices[0].logprobs
        streamed += "".join(token.token for token in (told.content or [])) if told else ""
    assert streamed == text


async def test_reasoning_is_counted_and_shown(openai_client: AsyncOpenAI):
    answer = await openai_client.chat.completions.create(
        model="m", messages=said("Hi"), reasoning_effort="low"
    )
    assert answer.usage is not None
    details = answer.usage.completion_tokens_details
    assert details is not None
    assert details.reasoning_tokens
    assert (answer.choices[0].message.model_extra or {})["reasoning_content"]


async def test_embeddings_are_deterministic_unit_vectors(openai_client: AsyncOpenAI):
    async def embed(*texts: str, **more: Any) -> list[list[float]]:
        answer = await openai_client.embeddings.create(
            model="sandbox-embedding", input=list(texts), **more
        )
        assert answer.usage.total_tokens > 0
        return [item.embedding for item in answer.data]

    # Without an encoding the client asks for base64.
    cat, cats, law = await embed("the cat sat", "the cat slept", "contract law")
    assert len(cat) == 256
    assert math.isclose(math.hypot(*cat), 1.0, rel_tol=1e-5)
    assert await embed("the cat sat", encoding_format="float") == [cat]
    assert len((await embed("x", dimensions=7))[0]) == 7
    near = sum(a * b for a, b in zip(cat, cats, strict=True))
    far = sum(a * b for a, b in zip(cat, law, strict=True))
    assert near > far


async def test_token_ids_are_embedded(openai_client: AsyncOpenAI):
    one = await openai_client.embeddings.create(model="e", input=[1, 2, 3])
    two = await openai_client.embeddings.create(model="e", input=[[1, 2, 3], [4]])
    assert one.data[0].embedding == two.data[0].embedding
    assert two.usage.prompt_tokens == 4


async def test_models_are_listed(openai_client: AsyncOpenAI):
    names = [model.id async for model in openai_client.models.list()]
    assert names == ["sandbox-premium", "sandbox-standard", "sandbox-economy", "sandbox-embedding"]
    assert (await openai_client.models.retrieve("sandbox-economy")).id == "sandbox-economy"
    with pytest.raises(openai.NotFoundError):
        await openai_client.models.retrieve("gpt-unheard-of")
