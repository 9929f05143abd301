"""Streamed answers as known servers of OpenAI Chat Completions write them.

Each deviates from OpenAI's form in a way that was reported in public, or is OpenAI's own."""

from typing import Any

from tests.formats.stream_samples import Sample, event

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
