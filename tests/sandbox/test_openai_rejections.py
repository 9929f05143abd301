"""Requests that the sandbox rejects as OpenAI does, sent with OpenAI's own client."""

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from llm_routing.sandbox import Sandbox

from .openai_requests import CLOCK, said


async def test_a_required_key_is_checked():
    async with Sandbox(require_key="sk-right") as sandbox:
        async with AsyncOpenAI(base_url=sandbox.openai_url, api_key="sk-right") as client:
            await client.models.list()
        async with AsyncOpenAI(base_url=sandbox.openai_url, api_key="sk-wrong") as client:
            with pytest.raises(openai.AuthenticationError) as caught:
                await client.models.list()
    assert caught.value.code == "invalid_api_key"
    assert "sk-" not in str(caught.value)


async def test_unknown_models_are_rejected_if_configured():
    async with (
        Sandbox(refuse_unknown_models=True) as sandbox,
        AsyncOpenAI(base_url=sandbox.openai_url, api_key="x", max_retries=0) as client,
    ):
        await client.chat.completions.create(model="sandbox-economy", messages=said("Hi"))
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="gpt-unheard-of", messages=said("Hi"))
    assert caught.value.code == "model_not_found"


BAD_REQUESTS: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
    ({"messages": [{"role": "tool", "tool_call_id": "1", "content": ""}]}, "messages[0].role"),
    (
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
                }
            ]
        },
        "messages",
    ),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"temperature": 2.5}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
    ({"stream": "yes"}, "stream"),
    ({"n": 0}, "n"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"tools": []}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "browser"}]}, "tools[0].type"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"tools": [CLOCK], "tool_choice": "sometimes"}, "tool_choice"),
    (
        {"tools": [CLOCK], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        "tool_choice",
    ),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "s", "schema": {"enum": []}},
            }
        },
        "response_format",
    ),
]


@pytest.mark.parametrize(("wrong", "param"), BAD_REQUESTS)
async def test_a_request_that_openai_rejects_is_rejected(
    openai_client: AsyncOpenAI, wrong: dict[str, Any], param: str
):
    body = {"messages": said("Hi"), **wrong}
    with pytest.raises(openai.BadRequestError) as caught:
        await openai_client.chat.completions.create(
            model="m", messages=body.pop("messages"), extra_body=body
        )
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("given", ["", [], [""], [1.5], [[]], ["x", 1], 3, None])
async def test_invalid_embedding_inputs_are_rejected(openai_client: AsyncOpenAI, given: Any):
    with pytest.raises(openai.BadRequestError):
        await openai_client.embeddings.create(model="e", input=given)


async def test_a_model_supports_only_its_own_operation(openai_client: AsyncOpenAI):
    with pytest.raises(openai.NotFoundError):
        await openai_client.chat.completions.create(model="sandbox-embedding", messages=said("Hi"))
    with pytest.raises(openai.NotFoundError):
        await openai_client.embeddings.create(model="sandbox-premium", input="Hi")
