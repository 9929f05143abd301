"""Anthropic's own client with the sandbox, over real sockets."""

import base64
import json
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import Message, TextBlock, ThinkingBlock, ToolUseBlock

from llm_routing.sandbox import Sandbox

PIXEL = base64.b64encode(b"\x89PNG pixel").decode()
WEATHER: Any = {
    "name": "get_weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}},
        "required": ["city", "days"],
    },
}
CLOCK: Any = {"name": "get_time", "input_schema": {"type": "object", "properties": {}}}


def said(content: Any) -> Any:
    return [{"role": "user", "content": content}]


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if isinstance(block, TextBlock))


async def ask(client: AsyncAnthropic, content: Any = "Hi", **more: Any) -> Message:
    body = {"model": "m", "max_tokens": 4096, "messages": said(content), **more}
    return await client.messages.create(**body)


async def test_a_message_names_the_model_and_repeats_the_last_user_text(
    anthropic_client: AsyncAnthropic,
):
    answer = await ask(
        anthropic_client,
        [{"type": "text", "text": "Hi there"}],
        model="sandbox-economy",
        system=[{"type": "text", "text": "Be brief."}],
    )
    assert answer.model == "sandbox-economy"
    assert "This is sandbox-economy" in text_of(answer)
    assert 'You said: "Hi there". My instructions begin: "Be brief.".' in text_of(answer)
    assert answer.stop_reason == "end_turn"
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 5


async def test_a_stream_has_the_same_content_as_the_whole_answer(anthropic_client: AsyncAnthropic):
    whole = await ask(anthropic_client)
    async with anthropic_client.messages.stream(
        model="m", max_tokens=4096, messages=said("Hi")
    ) as stream:
        words = [word async for word in stream.text_stream]
        final = await stream.get_final_message()
    assert len(words) > 5
    assert "".join(words) == text_of(whole)
    parts = {"content", "id"}
    assert final.model_dump(exclude=parts) == whole.model_dump(exclude=parts)
    assert text_of(final) == text_of(whole)


async def test_the_events_of_a_stream_come_in_anthropics_order(anthropic_client: AsyncAnthropic):
    stream = await ask(anthropic_client, stream=True)
    events: list[Any] = [event async for event in stream]  # type: ignore[attr-defined]  # a stream
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert events[0].message.usage.input_tokens == events[-2].usage.input_tokens
    assert events[0].message.stop_reason is None
    assert events[-2].delta.stop_reason == "end_turn"


async def test_a_tool_named_in_the_text_is_called_and_its_result_is_used(
    anthropic_client: AsyncAnthropic,
):
    called = await ask(anthropic_client, "get_weather, please", tools=[CLOCK, WEATHER])
    assert called.stop_reason == "tool_use"
    lead, call = called.content
    assert isinstance(lead, TextBlock)
    assert isinstance(call, ToolUseBlock)
    assert call.name == "get_weather"
    assert call.input["days"] == 3
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "21 degrees"}
    answered = await anthropic_client.messages.create(
        model="m",
        max_tokens=100,
        tools=[WEATHER],
        messages=[
            *said("get_weather, please"),
            {"role": "assistant", "content": called.content},
            *said([result]),
        ],
    )
    assert 'The tool get_weather returned: "21 degrees".' in text_of(answered)
    assert answered.stop_reason == "end_turn"


async def test_a_result_may_hold_text_and_images(anthropic_client: AsyncAnthropic):
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    parts = [{"type": "text", "text": "a map"}, {"type": "image", "source": source}]
    result: Any = {"type": "tool_result", "tool_use_id": "t1", "content": parts}
    text = {"type": "text", "text": "Here it is"}
    messages: Any = [*said("f"), CALL, *said([result, text])]
    answer = await anthropic_client.messages.create(model="m", max_tokens=100, messages=messages)
    assert 'The tool f returned: "a map".' in text_of(answer)
    assert "1 image: image/png of 10 bytes" in text_of(answer)


async def test_a_tool_call_cut_by_max_tokens_is_incomplete(anthropic_client: AsyncAnthropic):
    answer = await ask(anthropic_client, "get_weather", tools=[WEATHER], max_tokens=6)
    call = answer.content[-1]
    assert isinstance(call, ToolUseBlock)
    assert (call.input, answer.stop_reason) == ({}, "max_tokens")


async def test_a_system_message_between_turns_is_an_instruction(anthropic_client: AsyncAnthropic):
    messages: Any = [*said("Hi"), {"role": "system", "content": "Now in French."}]
    answer = await anthropic_client.messages.create(model="m", max_tokens=100, messages=messages)
    assert 'You said: "Hi". My instructions begin: "Now in French.".' in text_of(answer)


async def test_tool_choice_is_obeyed(anthropic_client: AsyncAnthropic):
    async def called(text: str, **choice: Any) -> list[str]:
        answer = await ask(anthropic_client, text, tools=[CLOCK, WEATHER], tool_choice=choice)
        return [block.name for block in answer.content if isinstance(block, ToolUseBlock)]

    both = "get_weather and get_time"
    assert await called("Hi", type="auto") == []
    assert await called("Hi", type="any") == ["get_time"]
    assert await called("Hi", type="tool", name="get_weather") == ["get_weather"]
    assert await called(both, type="none") == []
    assert await called(both, type="auto") == ["get_time", "get_weather"]
    assert await called(both, type="auto", disable_parallel_tool_use=True) == ["get_time"]


async def test_streamed_tool_input_comes_in_pieces(anthropic_client: AsyncAnthropic):
    async with anthropic_client.messages.stream(
        model="m", max_tokens=4096, messages=said("get_weather"), tools=[WEATHER]
    ) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_message()
    assert kinds.count("input_json") > 1
    call = final.content[-1]
    assert isinstance(call, ToolUseBlock)
    assert call.input["days"] == 3


async def test_a_json_schema_is_satisfied(anthropic_client: AsyncAnthropic):
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "size": {"type": "number"}},
        "required": ["colour", "size"],
        "additionalProperties": False,
    }
    answer = await ask(
        anthropic_client,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    value = json.loads(text_of(answer))
    assert value.keys() == {"colour", "size"}
    assert value["colour"] == "red"


async def test_images_are_acknowledged(anthropic_client: AsyncAnthropic):
    inline = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    answer = await ask(
        anthropic_client,
        [
            {"type": "image", "source": inline},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            {"type": "text", "text": "What is this?"},
        ],
    )
    assert "You showed me 2 images: image/png of 10 bytes, an https link." in text_of(answer)


async def test_thinking_comes_first_and_is_signed(anthropic_client: AsyncAnthropic):
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    answer = await ask(anthropic_client, thinking=thinking)
    thought = answer.content[0]
    assert isinstance(thought, ThinkingBlock)
    assert thought.signature
    assert answer.usage.output_tokens_details is not None
    assert 0 < answer.usage.output_tokens_details.thinking_tokens < answer.usage.output_tokens
    async with anthropic_client.messages.stream(
        model="m", max_tokens=4096, messages=said("Hi"), thinking=thinking
    ) as stream:
        final = await stream.get_final_message()
    assert final.content[0].model_dump() == thought.model_dump()
    # Thinking can be sent back.
    await anthropic_client.messages.create(
        model="m",
        max_tokens=10,
        messages=[*said("Hi"), {"role": "assistant", "content": answer.content}, *said("Go on")],
    )


async def test_max_tokens_and_stop_sequences_end_the_answer(anthropic_client: AsyncAnthropic):
    short = await ask(anthropic_client, max_tokens=3)
    assert (text_of(short), short.stop_reason) == ("This is m,", "max_tokens")
    assert short.usage.output_tokens == 3
    stopped = await ask(anthropic_client, stop_sequences=["answers", " a "])
    assert (text_of(stopped), stopped.stop_reason) == ("This is m,", "stop_sequence")
    assert stopped.stop_sequence == " a "
    nothing = await ask(anthropic_client, max_tokens=0)
    assert (nothing.content, nothing.stop_reason) == ([], "max_tokens")


async def test_counted_tokens_match_the_usage_of_the_answer(anthropic_client: AsyncAnthropic):
    more: Any = {"system": "Be brief.", "tools": [WEATHER]}
    counted = await anthropic_client.messages.count_tokens(
        model="m", messages=said("Hi there"), **more
    )
    answer = await ask(anthropic_client, "Hi there", **more)
    assert counted.input_tokens == answer.usage.input_tokens > 20


async def test_models_are_listed(anthropic_client: AsyncAnthropic):
    names = [model.id async for model in anthropic_client.models.list()]
    assert names == ["sandbox-premium", "sandbox-standard", "sandbox-economy"]
    economy = await anthropic_client.models.retrieve("sandbox-economy")
    assert economy.display_name == "Sandbox Economy"


async def test_a_required_key_is_checked():
    async with Sandbox(require_key="sk-right") as sandbox:
        async with AsyncAnthropic(base_url=sandbox.url, api_key="sk-right") as client:
            await ask(client)
        async with AsyncAnthropic(base_url=sandbox.url, api_key="sk-wrong") as client:
            with pytest.raises(anthropic.AuthenticationError) as caught:
                await ask(client)
    assert "sk-" not in str(caught.value)


CALL = {
    "role": "assistant",
    "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}],
}
BAD_REQUESTS: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "at least one message"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
    ({"messages": said([{"type": "text", "text": ""}])}, "non-empty"),
    ({"messages": said([{"type": "hologram"}])}, "hologram"),
    (
        {"messages": said([{"type": "tool_result", "tool_use_id": "t9", "content": "x"}])},
        "unexpected `tool_use_id`",
    ),
    ({"messages": [*said("Hi"), CALL]}, "without `tool_result`"),
    ({"messages": [*said("Hi"), CALL, *said("Well?")]}, "without `tool_result`"),
    (
        {"messages": said([{"type": "image", "source": {"type": "url", "url": "file:///x"}}])},
        "http, https",
    ),
    (
        {
            "messages": said(
                [
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/tiff", "data": PIXEL},
                    }
                ]
            )
        },
        "has to be one of",
    ),
    (
        {
            "messages": said(
                [
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "%"},
                    }
                ]
            )
        },
        "no valid base64",
    ),
    ({"messages": said([{"type": "image", "source": {"type": "tape"}}])}, "'base64', 'url'"),
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"temperature": 1.5}, "temperature"),
    ({"system": [{"type": "image"}]}, "system"),
    ({"tools": [{"name": "f", "input_schema": {"type": "string"}}]}, "input_schema.type"),
    ({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, "tools.0.name"),
    ({"tool_choice": {"type": "auto"}}, "providing tools"),
    ({"tools": [CLOCK], "tool_choice": {"type": "tool", "name": "f"}}, "not found"),
    ({"tools": [CLOCK], "tool_choice": {"type": "required"}}, "tool_choice.type"),
    ({"thinking": {"type": "enabled", "budget_tokens": 10}}, "budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "greater than"),
    ({"thinking": {"type": "adaptive"}, "temperature": 0.5}, "temperature"),
    (
        {"thinking": {"type": "adaptive"}, "tools": [CLOCK], "tool_choice": {"type": "any"}},
        "forces tool use",
    ),
    ({"output_config": {"format": {"type": "xml"}}}, "json_schema"),
]


@pytest.mark.parametrize(("wrong", "said_why"), BAD_REQUESTS)
async def test_a_request_that_anthropic_rejects_is_rejected(
    anthropic_client: AsyncAnthropic, wrong: dict[str, Any], said_why: str
):
    body = {"messages": said("Hi"), "max_tokens": 4096, **wrong}
    with pytest.raises(anthropic.BadRequestError) as caught:
        await anthropic_client.messages.create(
            model="m",
            max_tokens=1,
            messages=[],
            extra_body={"max_tokens": body.pop("max_tokens"), **body},
        )
    error: Any = caught.value.body
    assert error["error"]["type"] == "invalid_request_error"
    assert said_why in error["error"]["message"]
    assert error["request_id"] == caught.value.request_id
