"""The fast path for text deltas gives the same result as full parsing."""

import json
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_routing.core.codec import decode
from llm_routing.core.errors import MalformedAnswer, TruncatedStream, UpstreamError
from llm_routing.core.events import AnswerEnded, Frame, TextDelta, ThinkingDelta
from llm_routing.core.ports import StreamParser
from llm_routing.formats import event_stream
from llm_routing.formats import text_delta_fast_path as text_runs
from llm_routing.formats.anthropic_messages.read_stream import AnthropicStreamParser
from llm_routing.formats.openai_chat import read_stream as openai_chat_stream
from llm_routing.formats.openai_chat.read_stream import OpenAIStreamParser

TEXTS = st.text(min_size=0, max_size=6) | st.sampled_from(
    [":", ",", '"', "\\", "m", "content", "stop", "\x7f", "\u2028", "🦊", "}", "[DONE]", "a\nb"]
)
PADDING = st.none() | st.text(alphabet='abcXYZ"\\ü', max_size=4)


class ReadInFull(text_runs.TextDeltaFastPath):
    """A fast path that never learns."""

    def match(self, raw: bytes) -> Frame | None:
        return None


def openai(text: str, *, ascii_only: bool = False, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    chunk = {"id": "c", "model": "m", "choices": [choice], "usage": None} | fields
    return b"data: %b\n\n" % json.dumps(chunk, ensure_ascii=ascii_only).encode()


def anthropic(text: str, *, ascii_only: bool = False, **fields: Any) -> bytes:
    delta = {"type": "text_delta", "text": text}
    event = {"type": "content_block_delta", "index": 0, "delta": delta} | fields
    data = json.dumps(event, ensure_ascii=ascii_only).encode()
    return b"event: content_block_delta\ndata: %b\n\n" % data


def block(kind: str, **fields: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps({"type": kind, "index": 0} | fields).encode()


OPENED = block("content_block_start", content_block={"type": "text", "text": ""})
CLOSED = block("content_block_stop")
VENDORS = [
    pytest.param(openai, OpenAIStreamParser, b"", id="openai"),
    pytest.param(anthropic, AnthropicStreamParser, OPENED, id="anthropic"),
]
Write = Callable[..., bytes]


def read(parser: StreamParser, chunks: Sequence[bytes]) -> list[Frame | str]:
    """Returns the frames, and the class name of the failure that ended them."""
    frames: list[Frame | str] = []
    try:
        for chunk in chunks:
            frames += parser.feed(chunk)
    except UpstreamError as error:
        frames.append(error.code)
    return frames


def read_in_full(new_parser: Callable[[], StreamParser], chunks: Sequence[bytes]) -> list[Any]:
    """Returns the frames of a parser without the fast path."""
    with patch.object(event_stream, "TextDeltaFastPath", ReadInFull):
        parser = new_parser()
    return read(parser, chunks)


@pytest.mark.parametrize(("write", "parser", "opener"), VENDORS)
@given(
    pieces=st.lists(st.tuples(TEXTS, PADDING, st.booleans()), max_size=8),
    grouped=st.integers(1, 3),
)
@example(pieces=[(":", None, False)] * 3, grouped=1)
@example(pieces=[("ü", None, True), ("ü", None, True), ("x", None, False)], grouped=1)
@settings(max_examples=300)
def test_the_fast_path_gives_the_same_events_as_full_parsing(
    write: Write,
    parser: Callable[[], StreamParser],
    opener: bytes,
    pieces: list[tuple[str, str | None, bool]],
    grouped: int,
) -> None:
    events = [opener] + [
        write(text, ascii_only=ascii_only, **({} if pad is None else {"obfuscation": pad}))
        for text, pad, ascii_only in pieces
    ]
    chunks = [b"".join(events[at : at + grouped]) for at in range(0, len(events), grouped)]
    assert read(parser(), chunks) == read_in_full(parser, chunks)


@pytest.mark.parametrize(("write", "parser", "opener"), VENDORS)
@given(
    place=st.integers(0, 400),
    byte=st.integers(0, 255),
    deletes=st.booleans(),
    pad=st.sampled_from([None, "abc", ""]),
)
@settings(max_examples=300)
def test_a_corrupted_event_does_not_use_the_fast_path(
    write: Write,
    parser: Callable[[], StreamParser],
    opener: bytes,
    place: int,
    byte: int,
    deletes: bool,
    pad: str | None,
) -> None:
    more = {} if pad is None else {"obfuscation": pad}
    spoilt = bytearray(write("three", **more))
    place %= len(spoilt)
    spoilt[place : place + 1] = b"" if deletes else bytes([byte])
    events = [opener, write("one", **more), write("two", **more), bytes(spoilt), write("4", **more)]
    assert read(parser(), events) == read_in_full(parser, events)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Records the data that is parsed as JSON from now on."""
    seen: list[bytes] = []

    def watched(data: bytes) -> Any:
        seen.append(data)
        return decode(data)

    monkeypatch.setattr(openai_chat_stream, "decode", watched)
    monkeypatch.setattr("llm_routing.formats.event_stream.decode", watched)
    monkeypatch.setattr("llm_routing.formats.anthropic_messages.read_stream.decode", watched)
    return seen


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize(("write", "parser", "opener"), VENDORS)
def test_a_long_run_is_read_without_json_parsing(
    write: Write,
    parser: Callable[[], StreamParser],
    opener: bytes,
    pad: bool,
    parsed: list[bytes],
) -> None:
    texts = ["one", "two", *map(str, range(100))]
    padding = [{"obfuscation": "x" * (len(text) % 3)} if pad else {} for text in texts]
    chunks = [write(text, **more) for text, more in zip(texts, padding, strict=True)]
    frames = read(parser(), [opener, *chunks])
    said = [event.text for frame in frames for event in _text(frame)]
    assert said == texts
    assert len(parsed) <= 4


def _text(frame: Frame | str) -> list[TextDelta]:
    assert isinstance(frame, Frame)
    return [event for event in frame.events if isinstance(event, TextDelta)]


def test_learning_stops_in_a_stream_without_runs(parsed: list[bytes]) -> None:
    read(OpenAIStreamParser(), [openai(f"word {n}", created=n) for n in range(100)])
    assert len(parsed) == 104


def test_text_that_is_repeated_in_another_field_is_not_learned() -> None:
    body = openai("ab", system_fingerprint="ab").replace(
        b'"content": "ab"', b'"content": "\\u0061b"'
    )
    other = body.replace(b'"ab"', b'"cd"')
    frames = read(OpenAIStreamParser(), [openai("a"), body, body, other])
    assert [event.text for frame in frames[1:] for event in _text(frame)] == ["ab"] * 3


def test_thinking_does_not_use_the_text_fast_path(parsed: list[bytes]) -> None:
    choice = {"index": 0, "delta": {"reasoning": "Hm"}}
    chunk = b"data: %b\n\n" % json.dumps({"choices": [choice]}).encode()
    frames = read(OpenAIStreamParser(), [openai("a"), chunk, chunk])
    assert isinstance(frames[-1], Frame)
    assert frames[-1].events == (ThinkingDelta("Hm"),)
    assert len(parsed) == 3


def test_a_byte_order_mark_is_special_only_at_the_start() -> None:
    bare = b'data: {"delta":{"type":"text_delta","text":"%b"},"type":"content_block_delta"}\n\n'
    events = [b"\xef\xbb\xbf" + bare % text for text in (b"one", b"two")]
    assert read(AnthropicStreamParser(), events) == read_in_full(AnthropicStreamParser, events)


def test_an_event_with_an_ambiguous_end_is_held_back() -> None:
    events = [openai("one"), openai("two"), openai("three")]
    events = [event.replace(b"\n", b"\r") for event in events]
    chunks = [*events, b"\n", openai("four")]
    assert read(OpenAIStreamParser(), chunks) == read_in_full(OpenAIStreamParser, chunks)


def test_a_closed_block_ends_the_run() -> None:
    broken = b"data: {\n\n"
    texts = [anthropic("one"), anthropic("two"), anthropic("three")]
    for between in ([broken, CLOSED], [CLOSED, broken]):
        parser = AnthropicStreamParser()
        assert len(read(parser, [OPENED, *texts])) == 4
        assert read(parser, between)
        with pytest.raises(MalformedAnswer):
            parser.feed(anthropic("four"))


def test_events_after_the_end_are_dropped() -> None:
    parser = OpenAIStreamParser()
    read(parser, [openai("one"), openai("two"), openai("three")])
    stop = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    _, ended = read(parser, [stop, b"data: [DONE]\n\n"])
    assert isinstance(ended, Frame)
    assert ended.events == (AnswerEnded(),)
    assert read(parser, [openai("four")]) == []


def test_a_truncated_run_has_no_finish() -> None:
    parser = OpenAIStreamParser()
    read(parser, [openai("one"), openai("two"), openai("three")])
    with pytest.raises(TruncatedStream):
        parser.close()
