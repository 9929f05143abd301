"""Answers that would cost seconds of the event loop are refused, whole and streamed."""

import json
import time
from typing import Any

import pytest

from llm_routing.core.errors import AnswerTooLarge, MalformedAnswer
from llm_routing.core.events import AnswerStarted, ToolCallDelta, ToolCallStarted
from llm_routing.core.json_size import ANSWER_LIMITS, EMBEDDING_LIMITS, REPAIR_LIMITS
from llm_routing.core.types import LLMRequest
from llm_routing.formats.anthropic_messages.wire_format import AnthropicMessages
from llm_routing.formats.base import MAX_ANSWER_PARTS, StreamParser
from llm_routing.formats.openai_chat.repair import MAX_CHOICES
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from llm_routing.formats.openai_embeddings.response import read_embeddings

OPENAI, ANTHROPIC = OpenAIChat(), AnthropicMessages()
TOO_MANY_PARTS = MAX_ANSWER_PARTS + 1


def call(number: int, arguments: str = "{}") -> dict[str, Any]:
    """Returns a tool call without an index, as some vendors stream it."""
    return {
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": "f", "arguments": arguments},
    }


def openai_answer(**message: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return json.dumps({"id": "x", "choices": [choice]}).encode()


def anthropic_answer(*content: Any) -> bytes:
    return json.dumps({"id": "m", "type": "message", "content": content}).encode()


def openai_event(*deltas: dict[str, Any], first: int = 0) -> bytes:
    choices = [{"index": first + number, "delta": delta} for number, delta in enumerate(deltas)]
    return b"data: %b\n\n" % json.dumps({"id": "x", "choices": choices}).encode()


def anthropic_event(kind: str, **fields: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps({"type": kind, **fields}).encode()


def objects(number: int) -> str:
    return "[" + ",".join(["{}"] * number) + "]"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(openai_answer(tool_calls=[call(0)] * TOO_MANY_PARTS), id="tool calls"),
        pytest.param(openai_answer(content=[{"text": ""}] * TOO_MANY_PARTS), id="content parts"),
        pytest.param(
            openai_answer(content="", extra=[{}] * ANSWER_LIMITS.containers), id="objects"
        ),
        pytest.param(
            openai_answer(
                tool_calls=[
                    call(number, '{"a":1' + ',"a":1' * (ANSWER_LIMITS.fields // 4) + "}")
                    for number in range(5)
                ]
            ),
            id="fields of arguments",
        ),
        pytest.param(
            b'{"choices":[{"message":{"content":"\\ud800"}}],"x":{"a":1'
            + b',"a":1' * REPAIR_LIMITS.fields
            + b"}}",
            id="fields of a text to repair",
        ),
        pytest.param(
            openai_answer(content="a" * REPAIR_LIMITS.unquoted_bytes).replace(b"aa", b"\xff", 1),
            id="a large text to repair",
        ),
    ],
)
def test_a_whole_answer_of_openai_with_too_many_parts_is_refused(body: bytes) -> None:
    with pytest.raises(AnswerTooLarge):
        OPENAI.read_response(body)


def test_parts_of_all_choices_count() -> None:
    message = {"tool_calls": [call(0)] * (MAX_ANSWER_PARTS // 4)}
    body = json.dumps({"choices": [{"message": message}] * 5}).encode()
    with pytest.raises(AnswerTooLarge):
        OPENAI.read_response(body)


def test_an_answer_at_the_limit_is_read() -> None:
    calls = [call(number) for number in range(MAX_ANSWER_PARTS)]
    completion = OPENAI.read_response(openai_answer(tool_calls=calls))
    assert len(completion.choices[0].content) == MAX_ANSWER_PARTS


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(anthropic_answer(*[{"type": "x"}] * TOO_MANY_PARTS), id="blocks"),
        pytest.param(
            anthropic_answer({"type": "x", "x": [{}] * ANSWER_LIMITS.containers}), id="objects"
        ),
    ],
)
def test_a_whole_answer_of_anthropic_with_too_many_parts_is_refused(body: bytes) -> None:
    with pytest.raises(AnswerTooLarge):
        ANTHROPIC.read_response(body)


def test_a_list_of_embeddings_may_hold_more_numbers_than_other_answers() -> None:
    numbers = b",".join([b"0.5"] * (ANSWER_LIMITS.values + 1))
    assert len(read_embeddings(b'{"data":[{"embedding":[%b]}]}' % numbers).vectors) == 1
    items = b",".join([b'{"embedding":[1]}'] * EMBEDDING_LIMITS.containers)
    with pytest.raises(AnswerTooLarge):
        read_embeddings(b'{"data":[%b]}' % items)


def test_a_number_that_is_too_large_is_no_embedding() -> None:
    with pytest.raises(MalformedAnswer):
        read_embeddings(b'{"data":[{"embedding":[1%b]}]}' % (b"0" * 400))


def fails_at(parser: StreamParser, events: list[bytes]) -> int:
    """Returns the number of events that are read before one is refused."""
    for number, event in enumerate(events):
        try:
            parser.feed(event)
        except AnswerTooLarge:
            return number
    return len(events)


@pytest.mark.parametrize(
    ("events", "read"),
    [
        pytest.param(
            [openai_event({"tool_calls": [call(0)] * TOO_MANY_PARTS})], 0, id="calls of an event"
        ),
        pytest.param(
            [
                openai_event({"tool_calls": [call(event * 1000 + n) for n in range(1000)]})
                for event in range(MAX_ANSWER_PARTS // 1000 + 1)
            ],
            MAX_ANSWER_PARTS // 1000,
            id="calls of a stream",
        ),
        pytest.param([openai_event(*[{}] * TOO_MANY_PARTS)], 0, id="choices of an event"),
        pytest.param(
            [openai_event({}, first=number) for number in range(MAX_CHOICES + 1)],
            MAX_CHOICES,
            id="choices of a stream",
        ),
        pytest.param(
            [b'data: {"choices":[],"x":%b}\n\n' % objects(ANSWER_LIMITS.containers + 1).encode()],
            0,
            id="objects of an event",
        ),
    ],
)
def test_a_stream_of_openai_with_too_many_parts_is_refused(events: list[bytes], read: int) -> None:
    assert fails_at(OPENAI.stream_parser(), events) == read


def test_a_stream_of_anthropic_with_too_many_blocks_is_refused() -> None:
    block = {"type": "text", "text": ""}
    events = [
        anthropic_event("content_block_start", index=number, content_block=block)
        for number in range(MAX_ANSWER_PARTS + 1)
    ]
    assert fails_at(ANTHROPIC.stream_parser(), events) == MAX_ANSWER_PARTS


def test_many_pieces_of_many_calls_take_linear_time() -> None:
    """Reading used to search all calls for an id, and writing to decode a call again at each of its
    pieces while others waited."""
    parser = OPENAI.stream_parser()
    renderer = ANTHROPIC.stream_renderer(LLMRequest(messages=(), model="m"))
    calls = [call(number, "") for number in range(MAX_ANSWER_PARTS)]
    calls[0]["function"]["arguments"] = '{"a":"'
    pieces = [
        {"id": f"call_{number}", "function": {"arguments": "x}" * 400}}
        for number in [0] * (MAX_ANSWER_PARTS // 2) + [MAX_ANSWER_PARTS - 1] * 4000
    ]
    began = time.process_time()
    frames = [
        *parser.feed(openai_event({"tool_calls": calls})),
        *parser.feed(openai_event({"tool_calls": pieces})),
    ]
    assert isinstance(frames[0].events[0], AnswerStarted)
    assert sum(isinstance(event, ToolCallStarted) for event in frames[0].events) == len(calls)
    deltas = [event for event in frames[1].events if isinstance(event, ToolCallDelta)]
    assert deltas[-1].index == MAX_ANSWER_PARTS - 1
    written = b"".join(renderer.render(frame) for frame in frames)
    assert written.count(b"content_block_start\n") == 1
    assert time.process_time() - began < 30


def test_calls_that_waited_are_written_whole_once_the_call_before_them_is_complete() -> None:
    parser = OPENAI.stream_parser()
    renderer = ANTHROPIC.stream_renderer(LLMRequest(messages=(), model="m"))
    written = b""
    for number, piece in ((0, '{"a": "}\\'), (1, '{"b":'), (0, '""'), (1, " 2}"), (0, "}")):
        delta = call(number, piece) | {"index": number}
        for frame in parser.feed(openai_event({"tool_calls": [delta]})):
            written += renderer.render(frame)
    pieces = [
        json.loads(line[6:])["delta"]["partial_json"]
        for line in written.splitlines()
        if b"input_json_delta" in line
    ]
    assert pieces == ['{"a": "}\\', '""', "}", '{"b": 2}']
