"""Property tests: streams of both vendors give the same result wherever the bytes are cut, and a
stream that breaks off gives exactly the text before the break."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_routing.core.errors import UpstreamError
from llm_routing.core.events import AnswerEnded, StreamEvent, TextDelta
from llm_routing.core.ports import StreamParser
from llm_routing.formats.anthropic_messages.read_stream import AnthropicStreamParser
from llm_routing.formats.openai_chat.read_stream import OpenAIStreamParser

Parser = type[OpenAIStreamParser] | type[AnthropicStreamParser]

WORDS = st.sampled_from(
    ["Grüße ", "🦊", "👩‍👩‍👧‍👦", "\u2028", "\u0085", "\r\n", "\x0b", " ", "data: ", "[DONE]"]
)
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
BETWEEN = st.sampled_from(
    [b"", b": ping\n\n", ": 🦊\u2028\n\n".encode(), b":\n", b"\n", b"retry: 5\n\n"]
)


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def openai(pieces: Sequence[str]) -> list[bytes]:
    deltas: list[tuple[Any, str | None]] = [({"content": piece}, None) for piece in pieces]
    chunks = [
        {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        for delta, finish in [({"role": "assistant"}, None), *deltas, ({}, "stop")]
    ]
    return [b"data: %b\n\n" % data for data in (*map(_encoded, chunks), b"[DONE]")]


def anthropic(pieces: Sequence[str]) -> list[bytes]:
    texts = [{"index": 0, "delta": {"type": "text_delta", "text": piece}} for piece in pieces]
    usage = {"input_tokens": 1, "output_tokens": 1}
    events: list[tuple[str, dict[str, Any]]] = [
        ("message_start", {"message": {"id": "m", "model": "m", "usage": usage}}),
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        *(("content_block_delta", text) for text in texts),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": usage}),
        ("message_stop", {}),
    ]
    return [
        b"event: %b\ndata: %b\n\n" % (name.encode(), _encoded({"type": name, **fields}))
        for name, fields in events
    ]


VENDORS = [
    pytest.param(openai, OpenAIStreamParser, id="openai"),
    pytest.param(anthropic, AnthropicStreamParser, id="anthropic"),
]


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[str], bytes, list[bytes]]:
    """Generates texts, line ends, and separators between events."""
    words = draw(st.lists(WORDS, min_size=1, max_size=6))
    return words, draw(LINE_ENDS), draw(st.lists(BETWEEN, min_size=12, max_size=12))


def written(events: Sequence[bytes], line_end: bytes, between: Sequence[bytes]) -> bytes:
    """Returns the stream's bytes."""
    mixed = b"".join(between[number % len(between)] + event for number, event in enumerate(events))
    return mixed.replace(b"\n", line_end)


def read(parser: StreamParser, pieces: Sequence[bytes]) -> tuple[list[StreamEvent], bool]:
    """Returns the events, and whether the stream ended without a failure."""
    events: list[StreamEvent] = []
    try:
        for piece in pieces:
            for frame in parser.feed(piece):
                events += frame.events
            if parser.failure is not None:
                return events, False
        for frame in parser.close():
            events += frame.events
    except UpstreamError:
        return events, False
    return events, True


def text_of(events: Sequence[StreamEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize(("vendor", "parser"), VENDORS)
@given(given_stream=streams(), cuts=st.lists(st.integers(0, 2000), max_size=8))
@settings(max_examples=60)
def test_a_stream_cut_anywhere_gives_the_same_answer(
    vendor: Any, parser: Parser, given_stream: tuple[list[str], bytes, list[bytes]], cuts: list[int]
) -> None:
    words, line_end, between = given_stream
    stream = written(vendor(words), line_end, between)
    whole = read(parser(), [stream])
    assert text_of(whole[0]) == "".join(words)
    assert isinstance(whole[0][-1], AnswerEnded)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    assert read(parser(), [stream[start:end] for start, end in pairwise(edges)]) == whole
    assert read(parser(), [stream[at : at + 1] for at in range(len(stream))]) == whole


BROKEN = [
    b"data: {oops\n\n",
    b'data: {"content": "los\n\n',
    b'event: error\ndata: {"type": "error", "error": {"type": "api_error", "message": "x"}}\n\n',
    b'event: content_block_start\ndata: {"type": "content_block_start", "index"\n\n',
    b"data: [DONE]\n\n",
]


@pytest.mark.parametrize(("vendor", "parser"), VENDORS)
@given(
    given_stream=streams(),
    broken=st.sampled_from(BROKEN),
    place=st.integers(0, 12),
    cuts=st.lists(st.integers(0, 2000), max_size=8),
)
@settings(max_examples=60)
def test_a_broken_stream_fails_at_the_same_place_wherever_it_is_cut(
    vendor: Any,
    parser: Parser,
    given_stream: tuple[list[str], bytes, list[bytes]],
    broken: bytes,
    place: int,
    cuts: list[int],
) -> None:
    words, line_end, between = given_stream
    events = vendor(words)
    events.insert(min(place, len(events)), broken)
    stream = written(events, line_end, between)
    whole = read(parser(), [stream])
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    assert read(parser(), [stream[start:end] for start, end in pairwise(edges)]) == whole
    assert read(parser(), [stream[at : at + 1] for at in range(len(stream))]) == whole


@pytest.mark.parametrize(("vendor", "parser"), VENDORS)
@given(given_stream=streams(), share=st.floats(0, 1))
@settings(max_examples=100)
def test_a_truncated_stream_keeps_its_text_and_is_complete_only_with_its_finish(
    vendor: Any,
    parser: Parser,
    given_stream: tuple[list[str], bytes, list[bytes]],
    share: float,
) -> None:
    words, line_end, between = given_stream
    stream = written(vendor(words), line_end, between)
    events, is_whole = read(parser(), [stream[: int(len(stream) * share)]])
    text = text_of(events)
    assert "".join(words).startswith(text)
    assert is_whole == any(isinstance(event, AnswerEnded) for event in events)
    if is_whole:
        assert text == "".join(words)
