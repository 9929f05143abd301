"""Answers with usage, for the tests of token counts."""

import json
from typing import Any

from llm_routing.core.events import UsageReported
from llm_routing.core.types import Usage
from llm_routing.formats.registry import FORMATS

OPENAI, ANTHROPIC = FORMATS["openai_chat"], FORMATS["anthropic_messages"]


def openai_body(usage: Any) -> bytes:
    message = {"role": "assistant", "content": "Hi"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"id": "c", "model": "m", "choices": [choice], "usage": usage}).encode()


def openai_usage_of(body: bytes) -> Usage | None:
    """Returns the usage read from a whole answer and from a stream."""
    whole = OPENAI.read_response(body).usage
    answer = json.loads(body)
    head, text, tail = body.partition(json.dumps(answer["choices"]).encode())
    chunk = head + b'[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]' + tail
    assert text
    parser = OPENAI.stream_parser()
    frames = parser.feed(b"data: " + chunk + b"\n\ndata: [DONE]\n\n")
    reports = [
        event.usage
        for frame in frames
        for event in frame.events
        if isinstance(event, UsageReported)
    ]
    assert reports[-1:] == ([] if whole is None else [whole])
    return whole


def anthropic_body(usage: Any) -> bytes:
    content = [{"type": "text", "text": "Hi"}]
    return json.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": content,
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": usage,
        }
    ).encode()
