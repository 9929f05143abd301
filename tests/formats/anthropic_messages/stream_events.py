"""Events of streamed answers, for the tests of `read_stream` and `write_stream`."""

import json
from typing import Any

from llm_routing.core.events import (
    Frame,
)
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages

FORMAT = AnthropicMessages()


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def start(**usage: Any) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x"}
    ends: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
    return event("message_start", message={**message, **ends, "usage": usage})


def block(index: int, kind: str, *deltas: dict[str, Any], **fields: Any) -> bytes:
    return (
        event("content_block_start", index=index, content_block={"type": kind, **fields})
        + b"".join(event("content_block_delta", index=index, delta=delta) for delta in deltas)
        + event("content_block_stop", index=index)
    )


def stop(stop_reason: str | None = "end_turn", **usage: Any) -> bytes:
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return event("message_delta", delta=delta, usage=usage)


STOP = event("message_stop")


TEXT = {"type": "text_delta", "text": "Hello ü\u2028"}


WHOLE = (
    start(input_tokens=10, cache_read_input_tokens=5, output_tokens=1)
    + event("ping")
    + block(
        0,
        "thinking",
        {"type": "thinking_delta", "thinking": "Hm"},
        {"type": "signature_delta", "signature": "s"},
        {"type": "signature_delta", "signature": "ig"},
        thinking="",
        signature="",
    )
    + block(1, "redacted_thinking", data="xxx")
    + block(
        2, "text", TEXT, {"type": "text_delta", "text": "!"}, {"type": "citations_delta"}, text=""
    )
    + b": comment\n\n"
    + block(3, "server_tool_use", {"type": "input_json_delta", "partial_json": "{}"}, id="s1")
    + event("of_tomorrow", anything=[1])
    + block(
        4,
        "tool_use",
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"a":'},
        {"type": "input_json_delta", "partial_json": "1}"},
        id="toolu_1",
        name="f",
        input={},
    )
    + block(5, "tool_use", id="toolu_2", name="g", input={})
    + block(6, "tool_use", id="toolu_3", name="h", input={"b": 2})
    + stop("tool_use", output_tokens=20)
    + STOP
)


def read(*chunks: bytes) -> list[Frame]:
    parser = FORMAT.stream_parser()
    frames = [frame for chunk in chunks for frame in parser.feed(chunk)]
    return [*frames, *parser.close()]
