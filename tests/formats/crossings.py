"""Answers of vendors of one format for callers of another, for tests."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from anthropic import Anthropic
from openai import OpenAI

from tests.formats.conversation import ANTHROPIC, OPENAI

# The same answer in both formats.
ANSWERS: dict[str, dict[str, Any]] = {
    OPENAI: {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "served",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Let me look.",
                    "refusal": None,
                    "reasoning_content": "Hm",
                    "tool_calls": [
                        {
                            "id": "call_7",
                            "type": "function",
                            "function": {"name": "look", "arguments": '{"at":"it"}'},
                        },
                        {
                            "id": "call_8",
                            "type": "function",
                            "function": {"name": "wait", "arguments": "{}"},
                        },
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 60},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    },
    ANTHROPIC: {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "served",
        "content": [
            {"type": "thinking", "thinking": "Hm", "signature": "sig"},
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "toolu_7", "name": "look", "input": {"at": "it"}},
            {"type": "tool_use", "id": "toolu_8", "name": "wait", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 40,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 60,
            "output_tokens": 20,
            "output_tokens_details": {"thinking_tokens": 5},
        },
    },
}


def openai_stream() -> bytes:
    answer = ANSWERS[OPENAI]
    message = answer["choices"][0]["message"]
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm"},
        {"content": "Let me "},
        {"content": "look."},
    ]
    for index, call in enumerate(message["tool_calls"]):
        function = {"name": call["function"]["name"], "arguments": ""}
        deltas.append({"tool_calls": [{**call, "index": index, "function": function}]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in call["function"]["arguments"]
        ]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "served"}
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    chunks.append({**head, "choices": [], "usage": answer["usage"]})
    lines = [json.dumps(chunk) for chunk in chunks] + ["[DONE]"]
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def anthropic_stream() -> bytes:
    answer = ANSWERS[ANTHROPIC]
    usage = answer["usage"]
    events: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {
                **answer,
                "content": [],
                "stop_reason": None,
                "usage": {**usage, "output_tokens": 1},
            },
        },
        {"type": "ping"},
    ]
    deltas: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
        (
            {"type": "thinking", "thinking": "", "signature": ""},
            [
                {"type": "thinking_delta", "thinking": "Hm"},
                {"type": "signature_delta", "signature": "sig"},
            ],
        ),
        (
            {"type": "text", "text": ""},
            [
                {"type": "text_delta", "text": "Let me "},
                {"type": "text_delta", "text": "look."},
            ],
        ),
        (
            {"type": "tool_use", "id": "toolu_7", "name": "look", "input": {}},
            [
                {"type": "input_json_delta", "partial_json": piece}
                for piece in ("", '{"at":', '"it"}')
            ],
        ),
        (
            {"type": "tool_use", "id": "toolu_8", "name": "wait", "input": {}},
            [{"type": "input_json_delta", "partial_json": ""}],
        ),
    ]
    for index, (block, pieces) in enumerate(deltas):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [
            {"type": "content_block_delta", "index": index, "delta": piece} for piece in pieces
        ]
        events.append({"type": "content_block_stop", "index": index})
    events.append(
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 20, "output_tokens_details": {"thinking_tokens": 5}},
        }
    )
    events.append({"type": "message_stop"})
    return "".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events
    ).encode()


STREAMS = {OPENAI: openai_stream(), ANTHROPIC: anthropic_stream()}


@contextmanager
def served(body: bytes, content_type: str, status: int) -> Iterator[httpx2.Client]:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, content=body, headers={"content-type": content_type})

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as client:
        yield client


def what_the_client_reads(
    caller: str, body: bytes, *, stream: bool, status: int = 200
) -> dict[str, Any]:
    """Returns the answer as the caller's official client reads it, in a form common to both. Raises
    the client's errors."""
    content_type = "text/event-stream" if stream else "application/json"
    with served(body, content_type, status) as http:
        read = _by_openai if caller == OPENAI else _by_anthropic
        return read(http, stream=stream)


def _by_openai(http: httpx2.Client, *, stream: bool) -> dict[str, Any]:
    client = OpenAI(api_key="k", base_url="https://x/v1", max_retries=0, http_client=http)
    question: Any = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    if stream:
        with client.chat.completions.stream(**question) as answer:
            completion: Any = answer.get_final_completion()
    else:
        completion = client.chat.completions.create(**question)
    (choice,) = completion.choices
    assert completion.id.startswith("chatcmpl-")
    assert all(call.id.startswith("call_") for call in choice.message.tool_calls)
    return {
        "model": completion.model,
        "thinking": choice.message.reasoning_content,
        "text": choice.message.content,
        "calls": [
            (call.function.name, json.loads(call.function.arguments))
            for call in choice.message.tool_calls
        ],
        "finish": choice.finish_reason,
        "input": completion.usage.prompt_tokens,
        "cached": completion.usage.prompt_tokens_details.cached_tokens,
        "output": completion.usage.completion_tokens,
        "reasoning": completion.usage.completion_tokens_details.reasoning_tokens,
    }


def _by_anthropic(http: httpx2.Client, *, stream: bool) -> dict[str, Any]:
    client = Anthropic(api_key="k", max_retries=0, http_client=http)
    question: Any = {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    if stream:
        with client.messages.stream(**question) as answer:
            message: Any = answer.get_final_message()
    else:
        message = client.messages.create(**question)
    thinking, text, *calls = message.content
    assert message.id.startswith("msg_")
    assert all(call.id.startswith("toolu_") for call in calls)
    return {
        "model": message.model,
        "thinking": thinking.thinking,
        "text": text.text,
        "calls": [(call.name, call.input) for call in calls],
        "finish": {"tool_use": "tool_calls"}[message.stop_reason],
        "input": message.usage.input_tokens + message.usage.cache_read_input_tokens,
        "cached": message.usage.cache_read_input_tokens,
        "output": message.usage.output_tokens,
        "reasoning": message.usage.output_tokens_details.thinking_tokens,
    }
