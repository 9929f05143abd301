"""Chunks of streams as OpenAI writes them, for the samples of streamed answers."""

from typing import Any

from tests.formats.stream_samples import event

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
DONE = b"data: [DONE]\n\n"


def chunk(*choices: Any, **fields: Any) -> bytes:
    return event(HEAD | {"choices": list(choices)} | fields)


def said(finish: str | None = None, index: int = 0, **delta: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish}


def called(*calls: Any, **fields: Any) -> dict[str, Any]:
    return said(tool_calls=list(calls), **fields)


FIRST = chunk(said(role="assistant", content=""))
HI, YOU = chunk(said(content="Hi")), chunk(said(content=" you"))
STOP = chunk(said("stop"))
CALLED = chunk(said("tool_calls"))
COUNTED = chunk(usage=USAGE)


def function(arguments: Any, name: str | None = None) -> dict[str, Any]:
    return {"arguments": arguments} | ({"name": name} if name else {})


def joined(*chunks: bytes) -> bytes:
    return b"".join(chunks)


def call_stream(*calls: Any, finish: bytes = CALLED) -> bytes:
    return FIRST + b"".join(chunk(called(call)) for call in calls) + finish + DONE


def bare_stream(*values: Any) -> bytes:
    return b"".join(event(value) for value in values) + DONE
