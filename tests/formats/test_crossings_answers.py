"""Answers of vendors of one format, written for callers of another."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic
from msgspec.structs import replace
from openai import OpenAI

from llm_routing.core.accumulator import Accumulator
from llm_routing.core.errors import InvalidRequest, UpstreamError
from llm_routing.core.types import LLMResponse, RoutingFacts
from llm_routing.formats.registry import FORMATS
from tests.formats.conversation import ANTHROPIC, BOTH, OPENAI, QUESTIONS, asked

# The same answer in both formats.
ANSWERS: dict[str, dict[str, Any]] = {
    OPENAI: {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "served",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Let me look.",
                    "refusal": None,
                    "reasoning_content": "Hm",
                    "tool_calls": [
                        {
                            "id": "call_7",
                            "type": "function",
                            "function": {"name": "look", "arguments": '{"at":"it"}'},
                        },
                        {
                            "id": "call_8",
                            "type": "function",
                            "function": {"name": "wait", "arguments": "{}"},
                        },
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 60},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    },
    ANTHROPIC: {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "served",
        "content": [
            {"type": "thinking", "thinking": "Hm", "signature": "sig"},
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "toolu_7", "name": "look", "input": {"at": "it"}},
            {"type": "tool_use", "id": "toolu_8", "name": "wait", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 40,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 60,
            "output_tokens": 20,
            "output_tokens_details": {"thinking_tokens": 5},
        },
    },
}


def openai_stream() -> bytes:
    answer = ANSWERS[OPENAI]
    message = answer["choices"][0]["message"]
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm"},
        {"content": "Let me "},
        {"content": "look."},
    ]
    for index, call in enumerate(message["tool_calls"]):
        function = {"name": call["function"]["name"], "arguments": ""}
        deltas.append({"tool_calls": [{**call, "index": index, "function": function}]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in call["function"]["arguments"]
        ]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "served"}
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    chunks.append({**head, "choices": [], "usage": answer["usage"]})
    lines = [json.dumps(chunk) for chunk in chunks] + ["[DONE]"]
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def anthropic_stream() -> bytes:
    answer = ANSWERS[ANTHROPIC]
    usage = answer["usage"]
    events: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {
                **answer,
                "content": [],
                "stop_reason": None,
                "usage": {**usage, "output_tokens": 1},
            },
        },
        {"type": "ping"},
    ]
    deltas: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
        (
            {"type": "thinking", "thinking": "", "signature": ""},
            [
                {"type": "thinking_delta", "thinking": "Hm"},
                {"type": "signature_delta", "signature": "sig"},
            ],
        ),
        (
            {"type": "text", "text": ""},
            [
                {"type": "text_delta", "text": "Let me "},
                {"type": "text_delta", "text": "look."},
            ],
        ),
        (
            {"type": "tool_use", "id": "toolu_7", "name": "look", "input": {}},
            [
                {"type": "input_json_delta", "partial_json": piece}
                for piece in ("", '{"at":', '"it"}')
            ],
        ),
        (
            {"type": "tool_use", "id": "toolu_8", "name": "wait", "input": {}},
            [{"type": "input_json_delta", "partial_json": ""}],
        ),
    ]
    for index, (block, pieces) in enumerate(deltas):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [
            {"type": "content_block_delta", "index": index, "delta": piece} for piece in pieces
        ]
        events.append({"type": "content_block_stop", "index": index})
    events.append(
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 20, "output_tokens_details": {"thinking_tokens": 5}},
        }
    )
    events.append({"type": "message_stop"})
    return "".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events
    ).encode()


STREAMS = {OPENAI: openai_stream(), ANTHROPIC: anthropic_stream()}


def answered(caller: str, vendor: str, body: bytes | None = None) -> bytes:
    """Returns the caller's body for the vendor's whole answer."""
    raw = body or json.dumps(ANSWERS[vendor]).encode()
    completion = FORMATS[vendor].read_response(raw)
    facts = RoutingFacts("req-1", "vendor", "vendor/served")
    return FORMATS[caller].write_response(LLMResponse(completion, facts))


def streamed(caller: str, vendor: str, cut: int | None = None) -> bytes:
    """Returns the caller's stream for the vendor's stream, cut into pieces of `cut` bytes."""
    stream = STREAMS[vendor]
    size = cut or len(stream)
    request = FORMATS[caller].read_request(
        {**QUESTIONS[caller], "stream": True, **INCLUDE_USAGE[caller]}
    )
    parser = FORMATS[vendor].stream_parser()
    renderer = FORMATS[caller].stream_renderer(request)
    frames = [
        frame
        for start in range(0, len(stream), size)
        for frame in parser.feed(stream[start : start + size])
    ]
    frames += parser.close()
    return b"".join(renderer.render(frame) for frame in frames) + renderer.end()


INCLUDE_USAGE: dict[str, dict[str, Any]] = {
    OPENAI: {"stream_options": {"include_usage": True}},
    ANTHROPIC: {},
}


@contextmanager
def served(body: bytes, content_type: str, status: int) -> Iterator[httpx2.Client]:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, content=body, headers={"content-type": content_type})

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as client:
        yield client


def what_the_client_reads(
    caller: str, body: bytes, *, stream: bool, status: int = 200
) -> dict[str, Any]:
    """Returns the answer as the caller's official client reads it, in a form common to both. Raises
    the client's errors."""
    content_type = "text/event-stream" if stream else "application/json"
    with served(body, content_type, status) as http:
        read = _by_openai if caller == OPENAI else _by_anthropic
        return read(http, stream=stream)


def _by_openai(http: httpx2.Client, *, stream: bool) -> dict[str, Any]:
    client = OpenAI(api_key="k", base_url="https://x/v1", max_retries=0, http_client=http)
    question: Any = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    if stream:
        with client.chat.completions.stream(**question) as answer:
            completion: Any = answer.get_final_completion()
    else:
        completion = client.chat.completions.create(**question)
    (choice,) = completion.choices
    assert completion.id.startswith("chatcmpl-")
    assert all(call.id.startswith("call_") for call in choice.message.tool_calls)
    return {
        "model": completion.model,
        "thinking": choice.message.reasoning_content,
        "text": choice.message.content,
        "calls": [
            (call.function.name, json.loads(call.function.arguments))
            for call in choice.message.tool_calls
        ],
        "finish": choice.finish_reason,
        "input": completion.usage.prompt_tokens,
        "cached": completion.usage.prompt_tokens_details.cached_tokens,
        "output": completion.usage.completion_tokens,
        "reasoning": completion.usage.completion_tokens_details.reasoning_tokens,
    }


def _by_anthropic(http: httpx2.Client, *, stream: bool) -> dict[str, Any]:
    client = Anthropic(api_key="k", max_retries=0, http_client=http)
    question: Any = {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    if stream:
        with client.messages.stream(**question) as answer:
            message: Any = answer.get_final_message()
    else:
        message = client.messages.create(**question)
    thinking, text, *calls = message.content
    assert message.id.startswith("msg_")
    assert all(call.id.startswith("toolu_") for call in calls)
    return {
        "model": message.model,
        "thinking": thinking.thinking,
        "text": text.text,
        "calls": [(call.name, call.input) for call in calls],
        "finish": {"tool_use": "tool_calls"}[message.stop_reason],
        "input": message.usage.input_tokens + message.usage.cache_read_input_tokens,
        "cached": message.usage.cache_read_input_tokens,
        "output": message.usage.output_tokens,
        "reasoning": message.usage.output_tokens_details.thinking_tokens,
    }


EXPECTED = {
    "model": "served",
    "thinking": "Hm",
    "text": "Let me look.",
    "calls": [("look", {"at": "it"}), ("wait", {})],
    "finish": "tool_calls",
    "input": 100,
    "cached": 60,
    "output": 20,
    "reasoning": 5,
}


@pytest.mark.parametrize("caller", BOTH)
@pytest.mark.parametrize("vendor", BOTH)
class TestTheAnswer:
    def test_a_whole_answer_is_read_by_the_callers_client(self, caller: str, vendor: str) -> None:
        body = answered(caller, vendor)

        assert what_the_client_reads(caller, body, stream=False) == EXPECTED

    def test_a_streamed_answer_is_read_by_the_callers_client(
        self, caller: str, vendor: str
    ) -> None:
        stream = streamed(caller, vendor)

        assert what_the_client_reads(caller, stream, stream=True) == EXPECTED

    @pytest.mark.parametrize("cut", [1, 7, 100])
    def test_a_stream_in_small_pieces_is_read_by_the_callers_client(
        self, caller: str, vendor: str, cut: int
    ) -> None:
        assert streamed(caller, vendor, cut) == streamed(caller, vendor)

    def test_the_form_of_the_answer_does_not_depend_on_the_vendor(
        self, caller: str, vendor: str
    ) -> None:
        def shape(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: shape(inner) for name, inner in value.items()}
            if isinstance(value, list):
                return [shape(inner) for inner in value]
            return type(value)

        crossed = shape(json.loads(answered(caller, vendor)))
        own = shape(json.loads(answered(caller, caller)))

        # OpenAI's additions to usage and choices are not part of the short example.
        assert _without_optional(crossed) == _without_optional(own)

    def test_the_conversation_can_continue_with_either_vendor(
        self, caller: str, vendor: str
    ) -> None:
        """What the client reads goes back in its next question, and to another vendor."""
        body = json.loads(answered(caller, vendor))
        if caller == OPENAI:
            message = body["choices"][0]["message"]
            ids = [call["id"] for call in message["tool_calls"]]
            results = [{"role": "tool", "tool_call_id": id_, "content": "x"} for id_ in ids]
        else:
            message = {"role": "assistant", "content": body["content"]}
            ids = [block["id"] for block in body["content"] if block["type"] == "tool_use"]
            content = [{"type": "tool_result", "tool_use_id": id_, "content": "x"} for id_ in ids]
            results = [{"role": "user", "content": content}]
        messages = [{"role": "user", "content": "Hi"}, message, *results]

        for next_vendor in BOTH:
            sent, _ = asked(caller, next_vendor, messages=messages)

            called, returned = _ids_sent(next_vendor, sent)
            assert len(set(called)) == 2
            assert called == returned


OPTIONAL = frozenset(
    (
        "audio_tokens",
        "accepted_prediction_tokens",
        "rejected_prediction_tokens",
        "annotations",
        "system_fingerprint",
        "logprobs",
    )
)


def _without_optional(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {
            name: _without_optional(inner) for name, inner in shape.items() if name not in OPTIONAL
        }
    return [_without_optional(inner) for inner in shape] if isinstance(shape, list) else shape


def _ids_sent(vendor: str, body: dict[str, Any]) -> tuple[list[str], list[str]]:
    messages = body["messages"]
    if vendor == OPENAI:
        called = [call["id"] for message in messages for call in message.get("tool_calls") or ()]
        return called, [
            message["tool_call_id"] for message in messages if message["role"] == "tool"
        ]
    blocks = [
        block
        for message in messages
        if isinstance(message["content"], list)
        for block in message["content"]
    ]
    return (
        [block["id"] for block in blocks if block["type"] == "tool_use"],
        [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"],
    )


class TestErrors:
    @pytest.mark.parametrize("caller", BOTH)
    @pytest.mark.parametrize("vendor", BOTH)
    @pytest.mark.parametrize(
        ("status", "raised"),
        [(400, "BadRequestError"), (429, "RateLimitError")],
    )
    def test_the_callers_client_raises_its_own_error_class(
        self, caller: str, vendor: str, status: int, raised: str
    ) -> None:
        envelope = {"type": "error", "error": {"type": "invalid_request_error", "message": "Why."}}
        error = FORMATS[vendor].map_error(status, {}, json.dumps(envelope).encode())
        body = FORMATS[caller].write_error(error, "req-1")

        with pytest.raises(Exception, match="Why") as caught:
            what_the_client_reads(caller, body, stream=False, status=error.http_status)

        assert type(caught.value).__name__ == raised

    @pytest.mark.parametrize("caller", BOTH)
    @pytest.mark.parametrize("vendor", BOTH)
    def test_an_error_in_a_stream_reaches_the_callers_client(
        self, caller: str, vendor: str
    ) -> None:
        request = FORMATS[caller].read_request({**QUESTIONS[caller], "stream": True})
        parser = FORMATS[vendor].stream_parser()
        renderer = FORMATS[caller].stream_renderer(request)
        error = {"type": "error", "error": {"type": "api_error", "message": "Boom."}}
        started = STREAMS[vendor][:2000]
        started = started[: started.rindex(b"\n\n") + 2]
        stream = b"".join(renderer.render(frame) for frame in parser.feed(started))

        with pytest.raises(UpstreamError, match="Boom") as met:
            parser.feed(b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n")
        stream += renderer.error(met.value, "req-1")

        with pytest.raises(Exception, match="Boom") as caught:
            what_the_client_reads(caller, stream, stream=True)

        assert type(caught.value).__module__.split(".")[0] == caller.split("_")[0]

    @pytest.mark.parametrize("caller", BOTH)
    def test_an_invalid_field_is_named(self, caller: str) -> None:
        with pytest.raises(InvalidRequest) as met:
            FORMATS[caller].read_request({**QUESTIONS[caller], "temperature": "hot"})

        body = FORMATS[caller].write_error(met.value, "req-1")
        assert b"temperature" in body


@pytest.mark.parametrize("vendor", BOTH)
def test_a_stream_adds_up_to_the_whole_answer(vendor: str) -> None:
    parser = FORMATS[vendor].stream_parser()
    accumulator = Accumulator()
    for frame in [*parser.feed(STREAMS[vendor]), *parser.close()]:
        for event in frame.events:
            accumulator.add(event)
    whole = FORMATS[vendor].read_response(json.dumps(ANSWERS[vendor]).encode())

    assert accumulator.completion() == replace(whole, format="", raw=b"")
