"""Server-sent events are split by the standard, however the bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_routing.core.errors import AnswerTooLarge
from llm_routing.formats.sse import EventSplitter, ServerSentEvent, encode_event

PIECES = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"data",
        b"event: error",
        b": OPENROUTER PROCESSING",
        b"id: 7",
        "grüße 🦊 \u2028\u0085\x0b\x0c".encode(),
        b"\xef\xbb\xbf",
        b"\xf0\x9f",
        b" ",
        b"\n",
        b"\n\n",
        b"\r",
        b"\r\n",
        b"\r\n\r\n",
    ]
)
STREAMS = st.lists(PIECES, max_size=30).map(b"".join)


def split(*chunks: bytes) -> list[ServerSentEvent]:
    splitter = EventSplitter()
    events = [event for chunk in chunks for event in splitter.feed(chunk)]
    return events + splitter.close()


def by_the_book(stream: bytes) -> list[tuple[str, str]]:
    """The standard's own algorithm on the whole text: the events that a browser dispatches."""
    text = stream.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    dispatched = []
    event, data = "", ""
    for line in text.split("\n")[:-1]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                dispatched.append((event, data.removesuffix("\n")))
            event, data = "", ""
        elif name == "data":
            data += value + "\n"
        elif name == "event":
            event = value
    return dispatched


@given(STREAMS)
@example(b"data: x\r\r\ndata: y\n\r\n")
@example(b"\xef\xbb\xbfdata: x\n\n\xef\xbb\xbfdata: y\n\n")
def test_the_events_are_those_that_a_browser_would_dispatch(stream: bytes) -> None:
    splitter = EventSplitter()
    complete = list(splitter.feed(stream))
    given_events = [
        (event.event, event.data.decode("utf-8", "replace"))
        for event in complete
        if event.data is not None
    ]
    assert given_events == by_the_book(stream)


@given(STREAMS, st.lists(st.integers(0, 200), max_size=12))
def test_cutting_the_stream_anywhere_changes_nothing(stream: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[start:end] for start, end in pairwise(edges)]
    assert split(*chunks) == split(stream)


@given(STREAMS)
def test_cutting_the_stream_at_every_byte_changes_nothing(stream: bytes) -> None:
    assert split(*(stream[i : i + 1] for i in range(len(stream)))) == split(stream)


@given(STREAMS)
def test_the_raw_bytes_of_all_events_are_the_stream_with_lf_as_line_end(stream: bytes) -> None:
    plain = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert b"".join(event.raw for event in split(stream)) == plain


def test_each_event_is_returned_as_soon_as_its_blank_line_arrives() -> None:
    splitter = EventSplitter()
    assert list(splitter.feed(b"data: a\n\ndata: b\r\n")) == [ServerSentEvent(b"data: a\n\n", b"a")]
    assert list(splitter.feed(b"\r\n")) == [ServerSentEvent(b"data: b\n\n", b"b")]
    assert list(splitter.feed(b"data: c\r\r")) == [ServerSentEvent(b"data: c\n\n", b"c")]
    assert list(splitter.feed(b"\ndata: d\r\r\n")) == [ServerSentEvent(b"data: d\n\n", b"d")]
    assert splitter.close() == []


def test_unicode_line_separators_do_not_end_a_line() -> None:
    text = "one\u2028two\u0085three\x0bfour"
    (event,) = split(f"data: {text}\n\n".encode())
    assert event.data == text.encode()


def test_data_lines_are_joined_and_the_last_event_name_counts() -> None:
    (event,) = split(b"event: a\nevent: b\ndata: 1\nid: 9\ndata:  2\ndata\nretry: 5\n\n")
    assert event.data == b"1\n 2\n"
    assert event.event == "b"


def test_a_comment_has_no_data_but_keeps_its_bytes() -> None:
    assert split(b": ping\n\n") == [ServerSentEvent(b": ping\n\n", None)]


def test_an_event_without_its_blank_line_is_returned_at_the_end() -> None:
    splitter = EventSplitter()
    assert list(splitter.feed(b"data: [DONE]\n")) == []
    assert splitter.close() == [ServerSentEvent(b"data: [DONE]\n", b"[DONE]")]
    assert splitter.close() == []


def test_an_event_above_the_limit_is_rejected_whole_or_in_pieces() -> None:
    fits = b"data: 1234\n\n"
    assert len(list(EventSplitter(limit=len(fits)).feed(fits))) == 1
    with pytest.raises(AnswerTooLarge):
        list(EventSplitter(limit=len(fits) - 1).feed(fits))
    splitter = EventSplitter(limit=len(fits) - 1)
    list(splitter.feed(b"data: 1"))
    with pytest.raises(AnswerTooLarge):
        list(splitter.feed(b"23456789"))


def test_the_limit_applies_to_each_event() -> None:
    splitter = EventSplitter(limit=16)
    assert len(list(splitter.feed(b"data: 1234\n\n" * 100))) == 100


def test_the_events_before_a_too_large_one_are_returned() -> None:
    events = EventSplitter(limit=16).feed(b"data: 1\n\n" + b"data: 12345678901\n\n")
    assert next(events).data == b"1"
    with pytest.raises(AnswerTooLarge):
        next(events)


def test_the_default_limit_is_eight_mebibytes() -> None:
    splitter = EventSplitter()
    list(splitter.feed(b"x" * (8 * 1024 * 1024)))
    with pytest.raises(AnswerTooLarge, match="8388608"):
        list(splitter.feed(b"x"))


@given(
    st.binary().filter(lambda data: not set(data) & set(b"\r\n")), st.sampled_from(["", "error"])
)
def test_an_encoded_event_is_decoded_again(data: bytes, name: str) -> None:
    (event,) = split(encode_event(data, name))
    assert (event.data, event.event) == (data, name)
