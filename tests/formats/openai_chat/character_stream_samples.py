"""Streams whose chunks end within a character, or that contain invalid bytes or code units."""

from tests.formats.openai_chat.sample_chunks import (
    COUNTED,
    DONE,
    FIRST,
    HI,
    STOP,
    call_stream,
    chunk,
    function,
    joined,
    said,
)
from tests.formats.stream_samples import Sample

TOKEN = {"token": "\ud83d", "logprob": -0.5, "bytes": None, "top_logprobs": []}

CHARACTERS = (
    Sample(
        "half a character in each chunk",
        joined(
            FIRST,
            chunk(said(content="Hi \ud83d")),
            chunk(said(content="\ude00 you")),
            STOP,
            DONE,
        ),
        text="Hi 😀 you",
    ),
    Sample(
        "half a character alone",
        joined(
            FIRST,
            chunk(said(content="Hi")),
            chunk(said(content=" \ud83d")),
            chunk(said(content="you")),
            chunk(said("stop", content="\ude00")),
            DONE,
        ),
        text="Hi \ufffdyou\ufffd",
    ),
    Sample(
        "half a character at the end",
        joined(FIRST, HI, chunk(said(content=" you\ud83d")), STOP, DONE),
        text="Hi you\ufffd",
    ),
    Sample(
        "half a character in the arguments",
        call_stream(
            {"index": 0, "id": "c1", "type": "function", "function": function('{"a":"\ud83d', "f")},
            {"index": 0, "function": function('\ude00"}')},
        ),
        text="",
        calls=(("f", {"a": "😀"}),),
        finish="tool_calls",
    ),
    Sample(
        "nothing between two halves",
        joined(
            FIRST,
            chunk(said(content="Hi \ud83d")),
            chunk(said(content="")),
            COUNTED,
            chunk(said(content="\ude00 you")),
            STOP,
            DONE,
        ),
        text="Hi 😀 you",
        is_counted=True,
    ),
    Sample(
        "half a character in all the rest",
        joined(
            chunk(
                said(role="assistant", content="Hi", reasoning_content="a\ud83d"), model="m\ud83d"
            ),
            chunk({**said(content=" you"), "logprobs": {"content": [TOKEN], "refusal": None}}),
            STOP,
            DONE,
        ),
        thinking="a\ufffd",
    ),
    Sample(
        "bytes that are no UTF-8",
        joined(
            FIRST,
            chunk(said(content="Hi")),
            chunk(said(content=" you_")).replace(b"_", b"\xf0\x9f"),
            STOP,
            DONE,
        ),
        text="Hi you\ufffd",
    ),
)
