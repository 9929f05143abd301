"""Streamed tool calls as known servers number, name and cut them."""

from tests.formats.openai_chat.sample_chunks import (
    DONE,
    STOP,
    call_stream,
    chunk,
    function,
    joined,
    said,
)
from tests.formats.stream_samples import Sample

ONE_CALL = (("f", {"a": 1}),)
TWO_CALLS = (("f", {"a": 1}), ("g", {"b": 2}))
F = {"name": "f", "arguments": ""}

CALLS = (
    Sample(
        "openai, one call",
        call_stream(
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
        call_stream(
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
        "gemini: no index, the whole call at once, stop",
        call_stream(
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
        call_stream(
            {"index": 0, "id": "c1", "type": "function", "function": function('{"a":1}', "f")},
            {"index": 0, "id": "c2", "type": "function", "function": function('{"b":2}', "g")},
        ),
        text="",
        calls=TWO_CALLS,
        finish="tool_calls",
    ),
    Sample(
        "numbered from one",
        call_stream(
            {"index": 1, "id": "c1", "type": "function", "function": function('{"a":1}', "f")},
            {"index": 2, "id": "c2", "type": "function", "function": function('{"b":2}', "g")},
        ),
        text="",
        calls=TWO_CALLS,
        finish="tool_calls",
    ),
    Sample(
        "id and name in each delta",
        call_stream(
            {"index": 0, "id": "c1", "type": "function", "function": function('{"a"', "f")},
            {"index": 0, "id": "c1", "type": "function", "function": function(":1}", "f")},
        ),
        text="",
        calls=ONE_CALL,
        finish="tool_calls",
    ),
    Sample(
        "no id, no type",
        call_stream(
            {"index": 0, "function": function('{"a":1}', "f")},
        ),
        text="",
        calls=ONE_CALL,
        finish="tool_calls",
    ),
    Sample(
        "arguments as an object",
        call_stream(
            {"index": 0, "id": "c1", "type": "function", "function": function({"a": 1}, "f")},
        ),
        text="",
        calls=ONE_CALL,
        finish="tool_calls",
    ),
    Sample(
        "arguments null, then an object",
        call_stream(
            {"index": 0, "id": "c1", "type": "function", "function": function(None, "f")},
            {"index": 0, "function": function({"a": 1})},
        ),
        text="",
        calls=ONE_CALL,
        finish="tool_calls",
    ),
    Sample(
        "an empty array for no arguments",
        call_stream(
            {"index": 0, "id": "c1", "type": "function", "function": function([], "f")},
        ),
        text="",
        calls=(("f", {}),),
        finish="tool_calls",
    ),
    Sample(
        "function_call, as before tools",
        joined(
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
)
