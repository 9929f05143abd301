"""Good answers as bytes, in both wire formats, with all that readers stumble over."""

import json
from collections.abc import Sequence
from typing import Any

PIECES = ("Grüße ", "🦊🧪", "\u2028 und \u0085", "zwei\r\nZeilen, ", "Ende.")
TEXT = "".join(PIECES)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def openai_whole(text: str = TEXT) -> bytes:
    """A chat completion."""
    message = {"role": "assistant", "content": text}
    return _json(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
        }
    )


def openai_chunk(delta: Any, finish: str | None = None) -> bytes:
    """One chunk of a streamed chat completion."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return _json({**chunk, "choices": [choice]})


def openai_events(pieces: Sequence[str] = PIECES) -> list[bytes]:
    """The events of a streamed chat completion, to its `[DONE]`."""
    data = [
        openai_chunk({"role": "assistant", "content": ""}),
        *(openai_chunk({"content": piece}) for piece in pieces),
        openai_chunk({}, "stop"),
        b"[DONE]",
    ]
    return [b"data: " + each + b"\n\n" for each in data]


def anthropic_whole(text: str = TEXT) -> bytes:
    """A message."""
    return _json(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 7, "output_tokens": 5},
        }
    )


def anthropic_events(pieces: Sequence[str] = PIECES) -> list[bytes]:
    """The events of a streamed message, to its `message_stop`."""
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 7, "output_tokens": 1},
    }
    block: dict[str, Any] = {"index": 0, "content_block": {"type": "text", "text": ""}}
    deltas = [{"index": 0, "delta": {"type": "text_delta", "text": piece}} for piece in pieces]
    end = {"delta": {"stop_reason": "end_turn", "stop_sequence": None}}
    named: list[tuple[str, dict[str, Any]]] = [
        ("message_start", {"message": message}),
        ("content_block_start", block),
        *(("content_block_delta", delta) for delta in deltas),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {**end, "usage": {"output_tokens": 5}}),
        ("message_stop", {}),
    ]
    return [
        b"event: %b\ndata: %b\n\n" % (name.encode(), _json({"type": name, **fields}))
        for name, fields in named
    ]
