"""Answers of vendors of one format, written for callers of another."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from llm_routing.core.accumulator import Accumulator
from llm_routing.core.types import LLMResponse, RoutingFacts
from llm_routing.formats.registry import FORMATS
from tests.formats.conversation import ANTHROPIC, BOTH, OPENAI, QUESTIONS, asked

from .crossings import ANSWERS, STREAMS, what_the_client_reads


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


@pytest.mark.parametrize("vendor", BOTH)
def test_a_stream_adds_up_to_the_whole_answer(vendor: str) -> None:
    parser = FORMATS[vendor].stream_parser()
    accumulator = Accumulator()
    for frame in [*parser.feed(STREAMS[vendor]), *parser.close()]:
        for event in frame.events:
            accumulator.add(event)
    whole = FORMATS[vendor].read_response(json.dumps(ANSWERS[vendor]).encode())

    assert accumulator.completion() == replace(whole, format="", raw=b"")
