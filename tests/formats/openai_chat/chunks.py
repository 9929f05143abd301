"""Chunks of streamed answers, for the tests of `read_stream` and `write_stream`."""

import json
from typing import Any

from llm_routing.core.events import (
    ChoiceFinished,
    Frame,
)
from llm_routing.core.types import FinishReason
from llm_routing.formats.openai_chat.wire_format import OpenAIChat

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


DONE = b"data: [DONE]\n\n"


STOPPED = ChoiceFinished(FinishReason.STOP)


def chunk(*choices: dict[str, Any], **fields: Any) -> bytes:
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps(body | {"choices": choices} | fields).encode() + b"\n\n"


def delta(finish_reason: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": fields, "finish_reason": finish_reason}


def text(words: str, **fields: Any) -> bytes:
    return chunk(delta(content=words), **fields)


def frames_of(*chunks: bytes) -> list[Frame]:
    parser = OpenAIChat().stream_parser()
    frames = [frame for data in chunks for frame in parser.feed(data)]
    return frames + list(parser.close())


def call(arguments: str = "", **fields: Any) -> dict[str, Any]:
    name = fields.pop("name", None)
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"function": function, **fields}


FINISH = chunk(delta("stop"))


FIRST = chunk(delta(role="assistant", content=""))


STREAM = b"".join(
    (
        b": OPENROUTER PROCESSING\n\n",
        FIRST,
        text("Grüße 🦊 \u2028\u0085"),
        b"event: message\ndata: " + json.dumps(json.loads(text("ä 🦊")[6:])).encode() + b"\n\n",
        chunk(delta(content="🦊\u2028")).replace(b"\\u2028", "\u2028".encode()),
        chunk(delta(tool_calls=[call("{}", index=0, id="c1", type="function", name="f")])),
        chunk(delta("tool_calls")),
        chunk(usage=USAGE),
        DONE,
    )
)
