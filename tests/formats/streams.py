"""Streamed answers as known servers write them, and what they mean.

Every one departs from OpenAI's form in some way that has been reported in public, or is OpenAI's
own. The text, the calls and the finish are what any caller has to get.
"""

import json
from dataclasses import dataclass, field
from typing import Any

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Sample:
    """A stream and what it means. `calls` are names and arguments."""

    name: str
    stream: bytes
    text: str = "Hi you"
    thinking: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    finish: str = "stop"
    is_complete: bool = False
    """Whether a caller of OpenAI's format is sent the very bytes."""
    is_counted: bool = False
    tags: frozenset[str] = field(default_factory=frozenset)

    def __str__(self) -> str:
        return self.name


def event(value: Any, **options: Any) -> bytes:
    return b"data: " + json.dumps(value, **options).encode() + b"\n\n"


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
TOKEN = {"token": "\ud83d", "logprob": -0.5, "bytes": None, "top_logprobs": []}
F = {"name": "f", "arguments": ""}


def function(arguments: Any, name: str | None = None) -> dict[str, Any]:
    return {"arguments": arguments} | ({"name": name} if name else {})


def _words(*chunks: bytes) -> bytes:
    return b"".join(chunks)


def _of_calls(*calls: Any, finish: bytes = CALLED) -> bytes:
    return FIRST + b"".join(chunk(called(call)) for call in calls) + finish + DONE


def _bare(*values: Any) -> bytes:
    return b"".join(event(value) for value in values) + DONE


ONE_CALL = (("f", {"a": 1}),)
TWO_CALLS = (("f", {"a": 1}), ("g", {"b": 2}))

OPENAI = (
    Sample(
        "openai", _words(FIRST, HI, YOU, STOP, COUNTED, DONE), is_complete=True, is_counted=True
    ),
    Sample(
        "openai, one call",
        _of_calls(
            {"index": 0, "id": "call_1", "type": "function", "function": F},
            {"index": 0, "function": function('{"a"')},
            {"index": 0, "function": function(":1}")},
        ),
        text="",
        calls=ONE_CALL,
        finish="tool_calls",
        is_complete=True,
    ),
    Sample(
        "openai, two calls interleaved",
        _of_calls(
            {"index": 0, "id": "call_1", "type": "function", "function": F},
            {
                "index": 1,
                "id": "call_2",
                "type": "function",
                "function": {"name": "g", "arguments": ""},
            },
            {"index": 1, "function": function('{"b"')},
            {"index": 0, "function": function('{"a":1}')},
            {"index": 1, "function": function(":2}")},
        ),
        text="",
        calls=TWO_CALLS,
        finish="tool_calls",
        is_complete=True,
    ),
    Sample(
        "azure: filter results first, a choice without delta, usage in the last",
        _words(
            event(
                {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
                | {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]}
            ),
            FIRST,
            HI,
            YOU,
            STOP,
            chunk(
                {
                    "index": 0,
                    "finish_reason": None,
                    "content_filter_offsets": {"check_offset": 1},
                    "content_filter_results": {"hate": {"filtered": False}},
                }
            ),
            COUNTED,
            DONE,
        ),
        is_counted=True,
    ),
    Sample(
        "openrouter: comments, role and empty content in each chunk, usage with the last words",
        b": OPENROUTER PROCESSING\n\n"
        + _words(
            chunk(said(role="assistant", content="Hi")),
            chunk(said(role="assistant", content=" you")),
            chunk(said("stop", role="assistant", content=""), usage=USAGE),
            DONE,
        ),
        is_counted=True,
    ),
    Sample(
        "empty finish until the last",
        _words(
            chunk({**said(role="assistant", content="Hi"), "finish_reason": ""}),
            chunk({**said(content=" you"), "finish_reason": ""}),
            STOP,
            DONE,
        ),
    ),
    Sample(
        "tool_calls null or empty beside words",
        _words(
            chunk(said(role="assistant", content="Hi", tool_calls=None)),
            chunk(said(content=" you", tool_calls=[])),
            chunk(said("stop", content=None, tool_calls=None)),
            DONE,
        ),
        is_complete=True,
    ),
    Sample(
        "delta null at the finish",
        _words(FIRST, HI, YOU, chunk({"index": 0, "delta": None, "finish_reason": "stop"}), DONE),
    ),
    Sample(
        "delta missing at the finish",
        _words(FIRST, HI, YOU, chunk({"index": 0, "finish_reason": "stop"}), DONE),
    ),
    Sample(
        "nothing but choices",
        _bare(
            {"choices": [{"delta": {"content": "Hi"}}]},
            {"choices": [{"delta": {"content": " you"}}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        ),
    ),
    Sample(
        "choices null beside usage",
        _words(FIRST, HI, YOU, STOP, event(HEAD | {"choices": None, "usage": USAGE}), DONE),
        is_counted=True,
    ),
    Sample(
        "choices missing beside usage",
        _words(FIRST, HI, YOU, STOP, event(HEAD | {"usage": USAGE}), DONE),
        is_counted=True,
    ),
    Sample(
        "whole messages in place of deltas",
        _words(
            chunk({"index": 0, "message": {"role": "assistant", "content": "Hi you"}}), STOP, DONE
        ),
    ),
    Sample(
        "another id in each chunk",
        _words(
            *(
                chunk(choice, id=f"chatcmpl-{number}")
                for number, choice in enumerate(
                    [said(role="assistant", content="Hi"), said(content=" you"), said("stop")]
                )
            ),
            DONE,
        ),
    ),
    Sample(
        "finish in another vendor's words",
        _words(FIRST, HI, YOU, chunk(said("MAX_TOKENS")), DONE),
        finish="length",
    ),
    Sample("no [DONE]", _words(FIRST, HI, YOU, STOP)),
    Sample("finish twice", _words(FIRST, HI, YOU, STOP, STOP, DONE), is_complete=True),
    Sample(
        "content in parts, as Mistral thinks",
        _words(
            chunk(
                said(
                    role="assistant",
                    content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}],
                )
            ),
            chunk(said(content=[{"type": "text", "text": "Hi"}])),
            chunk(said(content=[{"type": "reference", "reference_ids": [1]}])),
            chunk(said(content=[" you"])),
            STOP,
            DONE,
        ),
        thinking="hm",
    ),
    Sample(
        "reasoning_content",
        _words(
            chunk(said(role="assistant", content=None, reasoning_content="hm")),
            chunk(said(content="Hi", reasoning_content=None)),
            YOU,
            STOP,
            DONE,
        ),
        thinking="hm",
        is_complete=True,
    ),
    Sample(
        "reasoning, with details",
        _words(
            chunk(
                said(
                    role="assistant",
                    content="",
                    reasoning="hm",
                    reasoning_details=[
                        {"type": "reasoning.text", "text": "hm", "format": None, "index": 0}
                    ],
                )
            ),
            HI,
            YOU,
            STOP,
            DONE,
        ),
        thinking="hm",
        is_complete=True,
    ),
    Sample(
        "reasoning that is no text",
        _words(
            chunk(said(role="assistant", content="", reasoning={"x": 1}, reasoning_content=5)),
            HI,
            YOU,
            STOP,
            DONE,
        ),
    ),
    Sample(
        "logprobs and usage that are no objects",
        _words(
            chunk({**said(role="assistant", content="Hi"), "logprobs": []}),
            chunk(said(content=" you"), usage="many"),
            STOP,
            DONE,
        ),
    ),
    Sample(
        "gemini: no index, the whole call at once, stop",
        _of_calls(
            {"id": "1", "type": "function", "function": function('{"a":1}', "f")},
            {"id": "2", "type": "function", "function": function('{"b":2}', "g")},
            finish=STOP,
        ),
        text="",
        calls=TWO_CALLS,
        finish="tool_calls",
    ),
    Sample(
        "ollama: every call numbered zero",
        _of_calls(
            {"index": 0, "id": "c1", "type": "function", "function": function('{"a":1}', "f")},
            {"index": 0, "id": "c2", "type": "function", "function": function('{"b":2}', "g")},
        ),
        text="",
        calls=TWO_CALLS,
        finish="tool_calls",
    ),
    Sample(
        "numbered from one",
        _of_calls(
            {"index": 1, "id": "c1", "type": "function", "function": function('{"a":1}', "f")},
            {"index": 2, "id": "c2", "type": "function", "function": function('{"b":2}', "g")},
        ),
        text="",
        calls=TWO_CALLS,
        finish="tool_calls",
    ),
    Sample(
        "id and name in each delta",
        _of_calls(
            {"index": 0, "id": "c1", "type": "function", "function": function('{"a"', "f")},
            {"index": 0, "id": "c1", "type": "function", "function": function(":1}", "f")},
        ),
        text="",
        calls=ONE_CALL,
        finish="tool_calls",
    ),
    Sample(
        "no id, no type",
        _of_calls(
            {"index": 0, "function": function('{"a":1}', "f")},
        ),
        text="",
        calls=ONE_CALL,
        finish="tool_calls",
    ),
    Sample(
        "arguments as an object",
        _of_calls(
            {"index": 0, "id": "c1", "type": "function", "function": function({"a": 1}, "f")},
        ),
        text="",
        calls=ONE_CALL,
        finish="tool_calls",
    ),
    Sample(
        "arguments null, then an object",
        _of_calls(
            {"index": 0, "id": "c1", "type": "function", "function": function(None, "f")},
            {"index": 0, "function": function({"a": 1})},
        ),
        text="",
        calls=ONE_CALL,
        finish="tool_calls",
    ),
    Sample(
        "an empty array for no arguments",
        _of_calls(
            {"index": 0, "id": "c1", "type": "function", "function": function([], "f")},
        ),
        text="",
        calls=(("f", {}),),
        finish="tool_calls",
    ),
    Sample(
        "function_call, as before tools",
        _words(
            chunk(
                said(role="assistant", content=None, function_call={"name": "f", "arguments": ""})
            ),
            chunk(said(function_call={"arguments": '{"a"'})),
            chunk(said(function_call={"arguments": ":1}"})),
            chunk(said("function_call")),
            DONE,
        ),
        text="",
        calls=ONE_CALL,
        finish="tool_calls",
        is_complete=True,
        tags=frozenset({"old"}),
    ),
    Sample(
        "half a character in each chunk",
        _words(
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
        _words(
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
        _words(FIRST, HI, chunk(said(content=" you\ud83d")), STOP, DONE),
        text="Hi you\ufffd",
    ),
    Sample(
        "half a character in the arguments",
        _of_calls(
            {"index": 0, "id": "c1", "type": "function", "function": function('{"a":"\ud83d', "f")},
            {"index": 0, "function": function('\ude00"}')},
        ),
        text="",
        calls=(("f", {"a": "😀"}),),
        finish="tool_calls",
    ),
    Sample(
        "nothing between two halves",
        _words(
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
        _words(
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
        _words(
            FIRST,
            chunk(said(content="Hi")),
            chunk(said(content=" you_")).replace(b"_", b"\xf0\x9f"),
            STOP,
            DONE,
        ),
        text="Hi you\ufffd",
    ),
)


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
