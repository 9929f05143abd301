"""Whatever a vendor writes in place of any field, it is read, or it is one of our errors."""

import json
from contextlib import suppress
from typing import Any

import pytest

from llm_routing.core.accumulator import Accumulator
from llm_routing.core.errors import LLMError
from llm_routing.core.events import Frame
from llm_routing.core.types import LLMRequest, LLMResponse, RoutingFacts
from llm_routing.formats.base import AnswerDefaults
from llm_routing.formats.openai_embeddings.response import read_embeddings
from llm_routing.formats.registry import FORMATS
from tests.formats.mutations import mutated, only_our_errors

OPENAI, ANTHROPIC = "openai_chat", "anthropic_messages"
DEFAULTS = AnswerDefaults("answer", 1, "model")
REQUEST = LLMRequest(messages=(), model="m")
STATUSES = (400, 404, 429, 500)

USAGE = {
    "prompt_tokens": 1,
    "completion_tokens": 2,
    "cost": 0.1,
    "prompt_tokens_details": {"cached_tokens": 1},
}
FUNCTION = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
CUSTOM = {"id": "z", "type": "custom", "custom": {"name": "g", "input": "x"}}
MESSAGES: tuple[dict[str, Any], ...] = (
    {"content": "hi", "reasoning_content": "r", "refusal": None, "tool_calls": [FUNCTION]},
    {"content": None, "function_call": FUNCTION["function"], "tool_calls": [CUSTOM]},
    {"content": [{"type": "thinking", "thinking": [{"text": "a"}]}, {"type": "text", "text": "b"}]},
)
CHUNK = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
DELTAS: tuple[dict[str, Any], ...] = (
    {"role": "assistant", "content": "a", "reasoning_content": "r", "refusal": ""},
    {"tool_calls": [{"index": 0, **FUNCTION}, {"index": 1, **CUSTOM}]},
    {
        "tool_calls": [{"index": 0, "function": {"arguments": "{}"}}],
        "function_call": {"name": "g", "arguments": "{"},
        "audio": {"transcript": "x"},
    },
)
ANSWER = {
    "id": "m",
    "type": "message",
    "model": "a",
    "content": [
        {"type": "text", "text": "x", "citations": [{"type": "c"}]},
        {"type": "thinking", "thinking": "t", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
    ],
    "stop_reason": "end_turn",
    "stop_details": {"type": "refusal", "explanation": "e"},
    "usage": {"input_tokens": 1, "output_tokens": 1, "cache_creation": {"ephemeral_1h": 1}},
}
ERROR = {
    "error": {
        "message": "m",
        "type": "t",
        "code": "c",
        "param": "p",
        "metadata": {"raw": '{"error":{"message":"x"}}'},
        "details": [{"reason": "r", "error_code": "thread_not_found"}],
    },
    "detail": [{"loc": ["a"], "msg": "m"}],
}
EMBEDDINGS = {
    "data": [{"index": 0, "embedding": [0.1, 2]}, {"index": 1, "embedding": "AACAPw=="}],
    "model": "m",
    "usage": {"prompt_tokens": 1, "cost": 0.1},
}


def openai_chunks() -> list[dict[str, Any]]:
    """A streamed answer with every kind of delta."""
    chunks: list[dict[str, Any]] = [
        {**CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in DELTAS
    ]
    chunks.append({**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    chunks.append({**CHUNK, "choices": [], "usage": USAGE})
    return chunks


def anthropic_events() -> list[dict[str, Any]]:
    """A streamed answer with every kind of block and delta."""
    blocks: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        ({"type": "text", "text": ""}, {"type": "text_delta", "text": "t"}),
        ({"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": "t"}),
        (
            {"type": "tool_use", "id": "t", "name": "f", "input": {}},
            {"type": "input_json_delta", "partial_json": "{}"},
        ),
    )
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**ANSWER, "content": [], "stop_reason": None}}
    ]
    for index, (block, delta) in enumerate(blocks):
        events += (
            {"type": "content_block_start", "index": index, "content_block": block},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        )
    events.append(
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_details": {"explanation": "e"}},
            "usage": {"output_tokens": 5},
        }
    )
    events.append({"type": "message_stop"})
    return events


def read_and_write(wire_format: str, body: bytes) -> None:
    """Reads a whole answer and writes it for callers of both formats."""
    completion = FORMATS[wire_format].read_response(body, DEFAULTS)
    response = LLMResponse(completion, RoutingFacts("r", "vendor", "m"))
    for caller in FORMATS.values():
        json.loads(caller.write_response(response))


def stream(wire_format: str, events: list[bytes]) -> None:
    """Reads a streamed answer as far as that goes, and writes it for callers of both formats."""
    parser = FORMATS[wire_format].stream_parser(DEFAULTS)
    frames: list[Frame] = []
    with suppress(LLMError):
        for event in events:
            frames += parser.feed(event)
        frames += parser.close()
    total = Accumulator()
    for caller in FORMATS.values():
        renderer = caller.stream_renderer(REQUEST)
        for frame in frames:
            renderer.render(frame)
        renderer.end()
    for frame in frames:
        for event_read in frame.events:
            total.add(event_read)
    total.completion()


@pytest.mark.parametrize(
    ("wire_format", "answer"),
    [
        *(
            (
                OPENAI,
                {
                    **CHUNK,
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": USAGE,
                },
            )
            for message in MESSAGES
        ),
        (ANTHROPIC, ANSWER),
    ],
)
def test_whole_answers(wire_format: str, answer: dict[str, Any]) -> None:
    for what, body in mutated(answer):
        with only_our_errors(what):
            read_and_write(wire_format, body)


@pytest.mark.parametrize(
    ("wire_format", "events"), [(OPENAI, openai_chunks()), (ANTHROPIC, anthropic_events())]
)
def test_streamed_answers(wire_format: str, events: list[dict[str, Any]]) -> None:
    written = [b"data: %b\n\n" % json.dumps(event).encode() for event in events]
    for number, event in enumerate(events):
        for what, data in mutated(event):
            changed = [*written[:number], b"data: %b\n\n" % data, *written[number + 1 :]]
            with only_our_errors(f"event {number}, {what}"):
                stream(wire_format, changed)


@pytest.mark.parametrize("wire_format", [OPENAI, ANTHROPIC])
def test_errors(wire_format: str) -> None:
    vendor = FORMATS[wire_format]
    for what, body in mutated(ERROR):
        with only_our_errors(what):
            for status in STATUSES:
                error = vendor.map_error(status, {"retry-after": "3"}, body)
                for caller in FORMATS.values():
                    json.loads(caller.write_error(error, "r"))
            stream(wire_format, [b"data: %b\n\n" % body])
            read_and_write(wire_format, body)


def test_embeddings() -> None:
    for what, body in mutated(EMBEDDINGS):
        with only_our_errors(what):
            read_embeddings(body)
