"""Streamed answers as known servers of Anthropic Messages write them."""

from typing import Any

from tests.formats.openai_chat.call_stream_samples import ONE_CALL
from tests.formats.stream_samples import Sample, event


def block(name: str, /, **fields: Any) -> bytes:
    body = {"type": name, **fields}
    return b"event: " + name.encode() + b"\n" + event(body)


def delta(index: int, kind: str, **fields: Any) -> bytes:
    return block("content_block_delta", index=index, delta={"type": kind, **fields})


def start(index: int, **fields: Any) -> bytes:
    return block("content_block_start", index=index, content_block=fields)


MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 1},
}


OPENED = block("message_start", message=MESSAGE)


ENDED = block(
    "message_delta",
    delta={"stop_reason": "end_turn", "stop_sequence": None},
    usage={"output_tokens": 2},
) + block("message_stop")


TEXT = {"type": "text", "text": ""}


STOPPED = block("content_block_stop", index=0)


HI_DELTA, YOU_DELTA = (delta(0, "text_delta", text=text) for text in ("Hi", " you"))


TOOL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}


def words(*pieces: str, opener: bytes = OPENED, **options: Any) -> bytes:
    deltas = b"".join(delta(0, "text_delta", text=piece) for piece in pieces)
    return opener + start(0, **TEXT) + deltas + STOPPED + ENDED


def bare(*events: Any) -> bytes:
    return b"".join(event(one) for one in events)


ANTHROPIC = (
    Sample(
        "anthropic",
        OPENED + start(0, **TEXT) + block("ping") + HI_DELTA + YOU_DELTA + STOPPED + ENDED,
        is_complete=True,
    ),
    Sample(
        "anthropic, a call",
        OPENED
        + start(0, **TOOL)
        + delta(0, "input_json_delta", partial_json='{"a"')
        + delta(0, "input_json_delta", partial_json=":1}")
        + STOPPED
        + ENDED.replace(b"end_turn", b"tool_use"),
        text="",
        calls=ONE_CALL,
        finish="tool_calls",
        is_complete=True,
    ),
    Sample(
        "events without names",
        bare(
            {"type": "message_start", "message": MESSAGE},
            {"type": "content_block_start", "index": 0, "content_block": TEXT},
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"text": "Hi", "type": "text_delta"},
            },
            {"type": "content_block_delta", "index": 0, "delta": {"text": " you"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "stop"}},
            {"type": "message_stop"},
        ),
    ),
    Sample(
        "events without types",
        b"".join(
            b"event: " + name.encode() + b"\n" + event(body)
            for name, body in (
                ("message_start", {"message": {}}),
                ("content_block_start", {"content_block": {"type": "text"}}),
                ("content_block_delta", {"delta": {"type": "text_delta", "text": "Hi"}}),
                ("content_block_delta", {"delta": {"type": "text_delta", "text": None}}),
                ("content_block_delta", {"delta": {"type": "text_delta", "text": " you"}}),
                ("content_block_stop", {}),
                ("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": {}}),
                ("message_stop", {}),
            )
        ),
    ),
    Sample("no message_start", words("Hi", " you", opener=b"")),
    Sample("no content_block_start", OPENED + HI_DELTA + YOU_DELTA + STOPPED + ENDED),
    Sample(
        "blocks numbered from one",
        words("Hi", " you").replace(b'"index": 0', b'"index": 1'),
    ),
    Sample(
        "every block numbered zero",
        OPENED
        + start(0, type="thinking")
        + delta(0, "thinking_delta", thinking="hm")
        + STOPPED
        + start(0, **TEXT)
        + HI_DELTA
        + YOU_DELTA
        + STOPPED
        + ENDED,
        thinking="hm",
    ),
    Sample("no usage", words("Hi", " you").replace(b'"usage"', b'"other"')),
    Sample("message_start twice", words("Hi", " you", opener=OPENED + OPENED)),
    Sample("half a character in each delta", words("Hi \ud83d", "\ude00 you"), text="Hi 😀 you"),
    Sample(
        "half a character alone",
        words("Hi \ud83d", "you", "\ude00", "\ud83d"),
        text="Hi \ufffdyou\ufffd\ufffd",
    ),
    Sample(
        "half a character in the arguments, no id",
        OPENED
        + start(0, type="tool_use", name="f")
        + delta(0, "input_json_delta", partial_json='{"a":"\ud83d')
        + delta(0, "input_json_delta", partial_json='\ude00"}')
        + STOPPED
        + ENDED,
        text="",
        calls=(("f", {"a": "😀"}),),
        finish="stop",
    ),
    Sample(
        "half a character in all the rest",
        words("Hi", " you").replace(b'"m"', b'"m\\ud83d"'),
    ),
)
