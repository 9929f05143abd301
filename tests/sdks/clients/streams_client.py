"""Streams read to their end by clients that check every event against its type.

The clients' own suites open streams and close them unread.
"""

import os
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from anthropic import Anthropic
from cerebras.cloud import sdk as cerebras
from cerebras.cloud.sdk import Cerebras
from openai import OpenAI

URL, KEY = os.environ["TEST_API_BASE_URL"], os.environ["GATEWAY_KEY"]
HELLO: Any = [{"role": "user", "content": "Hello there"}]
CUT: Any = [{"role": "user", "content": "Hello [[cut_after=2]]"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
FUNCTION: Any = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}
TOOL: Any = {"name": "get_weather", "input_schema": SCHEMA}
OF_OPENAI: dict[str, Any] = {
    "text": {},
    "usage": {"stream_options": {"include_usage": True}},
    "tools": {"tools": [FUNCTION], "tool_choice": "required"},
    "reasoning": {"reasoning_effort": "low"},
    "short": {"max_completion_tokens": 1},
}
OF_ANTHROPIC: dict[str, Any] = {
    "text": {},
    "tools": {"tools": [TOOL], "tool_choice": {"type": "any"}},
    "thinking": {"max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 1024}},
    "short": {"max_tokens": 1},
}


@pytest.fixture(params=[OpenAI, Cerebras])
def chat_client(request: pytest.FixtureRequest) -> Iterator[Any]:
    url = f"{URL}/v1" if request.param is OpenAI else URL
    with request.param(base_url=url, api_key=KEY, _strict_response_validation=True) as client:
        yield client


@pytest.mark.parametrize("kind", OF_OPENAI)
def test_chat_completions(chat_client: Any, kind: str) -> None:
    stream = chat_client.chat.completions.create(
        model="gpt-6-astra", messages=HELLO, stream=True, **OF_OPENAI[kind]
    )
    chunks = list(stream)
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices or ()]
    assert len({chunk.id for chunk in chunks}) == 1
    expected = {"tools": "tool_calls", "short": "length"}.get(kind, "stop")
    assert [reason for reason in reasons if reason] == [expected]


@pytest.mark.parametrize("is_beta", [False, True])
@pytest.mark.parametrize("kind", OF_ANTHROPIC)
def test_messages(kind: str, is_beta: bool) -> None:
    fields: dict[str, Any] = {"max_tokens": 200, **OF_ANTHROPIC[kind]}
    with Anthropic(base_url=URL, api_key=KEY, _strict_response_validation=True) as client:
        messages: Any = client.beta.messages if is_beta else client.messages
        events = list(
            messages.create(model="claude-opus-5-5", messages=HELLO, stream=True, **fields)
        )
    assert events[0].type == "message_start"
    assert events[-1].type == "message_stop"
    expected = {"tools": "tool_use", "short": "max_tokens"}.get(kind, "end_turn")
    assert [event.delta.stop_reason for event in events if event.type == "message_delta"] == [
        expected
    ]


def test_a_broken_stream_of_chat_completions(chat_client: Any) -> None:
    with pytest.raises((openai.APIError, cerebras.APIError), match="in the middle of its answer"):
        list(chat_client.chat.completions.create(model="gpt-6-astra", messages=CUT, stream=True))


def test_a_broken_stream_of_messages() -> None:
    with (
        Anthropic(base_url=URL, api_key=KEY) as client,
        pytest.raises(anthropic.APIStatusError, match="in the middle of its answer"),
    ):
        list(
            client.messages.create(
                model="claude-opus-5-5", max_tokens=100, messages=CUT, stream=True
            )
        )
