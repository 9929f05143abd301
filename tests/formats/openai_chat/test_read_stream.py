"""Reads streamed answers of vendors of OpenAI Chat Completions."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.errors import (
    AnswerTooLarge,
    MalformedAnswer,
    RateLimited,
    ServerFailed,
    TruncatedStream,
    UpstreamOverloaded,
)
from llm_routing.core.events import (
    AnswerEnded,
    AnswerStarted,
    ChoiceFinished,
    Frame,
    RefusalDelta,
    TextDelta,
    ThinkingDelta,
    UsageReported,
)
from llm_routing.core.types import FinishReason, Usage
from llm_routing.formats.openai_chat.wire_format import OpenAIChat
from llm_routing.formats.sse import MAX_EVENT_BYTES
from tests.formats.openai_chat.chunks import (
    DONE,
    FINISH,
    FIRST,
    STOPPED,
    STREAM,
    USAGE,
    call,
    chunk,
    delta,
    frames_of,
    text,
)

from .stream_reading import events_of

STARTED = AnswerStarted("chatcmpl-1", "m")


class TestReading:
    """Parses a vendor's stream into events."""

    def test_a_regular_stream_is_read(self) -> None:
        assert events_of(
            chunk(delta(role="assistant", content="")),
            text("Hel"),
            text("lo"),
            FINISH,
            chunk(usage=USAGE),
            DONE,
        ) == [
            STARTED,
            TextDelta("Hel"),
            TextDelta("lo"),
            STOPPED,
            UsageReported(Usage(3, 2)),
            AnswerEnded(),
        ]

    def test_every_frame_keeps_its_bytes(self) -> None:
        frames = frames_of(STREAM)
        assert b"".join(frame.raw for frame in frames) == STREAM
        assert {frame.format for frame in frames} == {"openai_chat"}

    @given(st.lists(st.integers(1, len(STREAM) - 1), max_size=40))
    def test_cutting_the_stream_anywhere_changes_nothing(self, cuts: list[int]) -> None:
        edges = sorted({0, *cuts, len(STREAM)})
        assert frames_of(*(STREAM[a:b] for a, b in pairwise(edges))) == frames_of(STREAM)

    def test_cutting_the_stream_at_every_byte_changes_nothing(self) -> None:
        assert frames_of(*(STREAM[i : i + 1] for i in range(len(STREAM)))) == frames_of(STREAM)

    def test_a_comment_is_a_frame_without_events(self) -> None:
        first = frames_of(b": OPENROUTER PROCESSING\n\n", text("a"), FINISH, DONE)[0]
        assert first == Frame("openai_chat", b": OPENROUTER PROCESSING\n\n")

    def test_an_empty_data_event_is_dropped(self) -> None:
        assert len(frames_of(b"data:\n\n", b"data:  \n\n", text("a"), FINISH, DONE)) == 3

    def test_azures_first_chunk_starts_nothing_and_counts_nothing(self) -> None:
        azure = chunk(id="", model="", prompt_filter_results=[{"prompt_index": 0}])
        frames = frames_of(azure, text("a"), FINISH, DONE)
        assert frames[0] == Frame("openai_chat", azure)
        assert frames[1].events == (STARTED, TextDelta("a"))

    def test_usage_may_come_with_the_last_text(self) -> None:
        assert events_of(chunk(delta("stop", content="a"), usage=USAGE), DONE) == [
            STARTED,
            TextDelta("a"),
            STOPPED,
            UsageReported(Usage(3, 2)),
            AnswerEnded(),
        ]

    def test_impossible_counts_are_ignored_and_not_relayed(self) -> None:
        counts = chunk(usage={"prompt_tokens": 3, "completion_tokens": -2})
        frames = frames_of(text("a"), FINISH, counts, DONE)
        assert frames[2].events == ()
        assert json.loads(frames[2].raw.removeprefix(b"data: "))["usage"] is None

    def test_null_usage_is_ignored(self) -> None:
        assert events_of(text("a", usage=None), chunk(delta("stop"), usage={}), DONE) == [
            STARTED,
            TextDelta("a"),
            STOPPED,
            AnswerEnded(),
        ]

    def test_interleaved_choices_are_read(self) -> None:
        assert events_of(
            chunk(delta(content="a"), delta(content="b", index=1)),
            chunk(delta("length", index=1)),
            chunk(delta("stop")),
            DONE,
        ) == [
            STARTED,
            TextDelta("a"),
            TextDelta("b", 1),
            ChoiceFinished(FinishReason.LENGTH, 1),
            STOPPED,
            AnswerEnded(),
        ]

    def test_thinking_and_refusals_are_read(self) -> None:
        thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "3"}]}]
        assert events_of(
            chunk(delta(reasoning_content="1", content=None)),
            chunk(delta(reasoning="2", content="")),
            chunk(delta(content=thinking)),
            chunk(delta(content=[{"type": "text", "text": "a"}])),
            chunk(delta(refusal="no")),
            FINISH,
            DONE,
        ) == [
            STARTED,
            ThinkingDelta("1"),
            ThinkingDelta("2"),
            ThinkingDelta("3"),
            TextDelta("a"),
            RefusalDelta("no"),
            STOPPED,
            AnswerEnded(),
        ]

    def test_audio_counts_as_content_and_its_transcript_is_text(self) -> None:
        frames = frames_of(
            chunk(delta(audio={"data": "UklG"})),
            chunk(delta(audio={"transcript": "Hi"})),
            FINISH,
            DONE,
        )
        assert frames[0].has_content
        assert frames[1].events == (TextDelta("Hi"),)

    def test_a_choice_may_lack_its_index_and_its_delta(self) -> None:
        events = events_of(
            chunk({"delta": {"content": "a"}}), chunk({"finish_reason": "stop"}), DONE
        )
        assert events == [STARTED, TextDelta("a"), STOPPED, AnswerEnded()]

    def test_a_choice_finishes_once(self) -> None:
        assert (
            events_of(text("a"), FINISH, chunk(delta("stop"), usage=USAGE), DONE).count(STOPPED)
            == 1
        )

    def test_finish_reason_stop_after_tool_calls_is_read_as_tool_calls(self) -> None:
        first = chunk(delta(tool_calls=[call("{}", index=0, id="c", name="f")]))
        assert ChoiceFinished(FinishReason.TOOL_CALLS) in events_of(first, FINISH, DONE)


class TestTheEnd:
    """A stream succeeds only with a finish reason."""

    def test_done_may_be_missing_after_the_finish(self) -> None:
        frames = frames_of(text("a"), FINISH)
        assert frames[-1] == Frame("openai_chat", b"", (AnswerEnded(),))

    def test_the_last_blank_line_may_be_missing(self) -> None:
        frames = frames_of(text("a"), FINISH, b"data: [DONE]\n")
        assert frames[-1].events == (AnswerEnded(),)
        assert frames[-1].raw.endswith(b"\n\n")

    def test_the_finish_itself_may_lack_its_blank_line(self) -> None:
        *_, finish, end = frames_of(text("a"), FINISH.rstrip())
        assert finish == Frame("openai_chat", FINISH, (STOPPED,))
        assert end.events == (AnswerEnded(),)

    @pytest.mark.parametrize(
        "stream",
        [
            b"",
            b": ping\n\n",
            b": ping",
            text("a"),
            text("a") + DONE,
            DONE,
            chunk(usage=USAGE) + DONE,
            text("a") + FINISH[:20],
            text("a") + text("b")[:-10],
            chunk(delta("stop"), delta(index=1, content="b")) + DONE,
            text("a") + chunk(delta("")) + DONE,
        ],
    )
    def test_without_a_finish_the_stream_is_truncated(self, stream: bytes) -> None:
        with pytest.raises(TruncatedStream):
            frames_of(stream)

    def test_nothing_is_read_after_done(self) -> None:
        assert frames_of(text("a"), FINISH, DONE, text("b"), b": ping\n\n", b"data: {") == (
            frames_of(text("a"), FINISH, DONE)
        )

    @pytest.mark.parametrize(
        "broken", [b"data: {oops\n\n", b"data: 3\n\n", b'data: ["a"]\n\n', b"data: ping\n\n"]
    )
    def test_an_unreadable_event_is_dropped_if_the_rest_is_complete(self, broken: bytes) -> None:
        assert frames_of(text("a"), broken, FINISH, DONE) == frames_of(text("a"), FINISH, DONE)
        assert frames_of(text("a"), FINISH, broken.rstrip()) == frames_of(text("a"), FINISH)

    @pytest.mark.parametrize(
        "broken",
        [
            text("lost")[:-8] + b"\n\n",
            text("lost").replace(b'"lost"', b'"l\x00st"'),
            b'data: {"choices": [{"delta": {"reasoning_content": "lo\n\n',
            b'data: {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "\n\n',
            b'data: {"choices": [{"delta": {"content": "", "ro\n\n',
            b'data: "delta": {"content": "lost"}}]}\n\n',
            b'data: {"id": "chatcmpl-1",, "choices": []}\n\n',
        ],
    )
    def test_an_answer_with_missing_content_is_malformed_even_with_a_finish(
        self, broken: bytes
    ) -> None:
        with pytest.raises(MalformedAnswer, match="piece of the answer"):
            frames_of(text("a"), broken, text("b"), FINISH, DONE)
        assert frames_of(text("a"), FINISH, broken, DONE) == frames_of(text("a"), FINISH, DONE)

    def test_a_chunk_cut_anywhere_is_malformed(self) -> None:
        chunk = text("lost").rstrip()
        for end in range(len(b"data: {"), len(chunk)):
            with pytest.raises(MalformedAnswer):
                frames_of(text("a"), chunk[:end] + b"\n\n", text("b"), FINISH, DONE)

    def test_an_error_after_the_finish_ends_the_answer(self) -> None:
        error = b'data: {"error": {"code": 500, "message": "counting failed"}}\n\n'
        assert events_of(text("a"), FINISH, error, DONE) == events_of(text("a"), FINISH, DONE)

    def test_events_before_a_failure_are_returned_first(self) -> None:
        parser = OpenAIChat().stream_parser()
        error = b'data: {"error": {"code": 429, "message": "slow"}}\n\n'
        (frame,) = parser.feed(FIRST + error + text("b"))
        assert frame.raw == FIRST
        assert type(parser.failure) is RateLimited
        with pytest.raises(RateLimited):
            parser.feed(text("c"))

    def test_data_after_the_end_cannot_be_too_large(self) -> None:
        parser = OpenAIChat().stream_parser()
        parser.feed(text("a") + FINISH + DONE + b"x" * (MAX_EVENT_BYTES + 1))
        assert parser.failure is None

    @pytest.mark.parametrize("end", [b"", DONE])
    def test_an_unreadable_event_is_malformed_without_a_finish(self, end: bytes) -> None:
        with pytest.raises(MalformedAnswer):
            frames_of(text("a"), b"data: {oops\n\n", end)

    @pytest.mark.parametrize(
        ("stream", "error"),
        [
            (b'data: {"error": {"code": 429, "message": "slow"}}\n\n', RateLimited),
            (b'event: error\ndata: {"type": "server_error", "message": "x"}\n\n', ServerFailed),
            (b'data: {"object": "error", "code": 503, "message": "x"}\n\n', UpstreamOverloaded),
            (b'data: {"error": {"message": "somehow"}}\n\n', MalformedAnswer),
            (chunk(delta("error", content="")), ServerFailed),
            (
                chunk(delta("error", content=""), error={"code": 503, "message": "down"}),
                UpstreamOverloaded,
            ),
            (chunk({**delta("error"), "error": {"code": 429, "message": "x"}}), RateLimited),
        ],
    )
    def test_an_error_in_the_stream_raises_its_error(
        self, stream: bytes, error: type[Exception]
    ) -> None:
        with pytest.raises(error) as caught:
            frames_of(text("a"), stream)
        assert type(caught.value) is error

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            (b'{"error": {"code": 429, "message": "slow"}}', RateLimited),
            (b'[{"error": {"code": 503}}]', UpstreamOverloaded),
            (b"<html>busy</html>", MalformedAnswer),
            (b'{"id": "x", "choices": []}', MalformedAnswer),
        ],
    )
    def test_a_body_that_is_not_a_stream_is_malformed(
        self, body: bytes, error: type[Exception]
    ) -> None:
        with pytest.raises(error) as caught:
            frames_of(body)
        assert type(caught.value) is error

    def test_an_event_above_the_limit_is_too_large(self) -> None:
        parser = OpenAIChat().stream_parser()
        with pytest.raises(AnswerTooLarge):
            parser.feed(b"data: " + b"x" * (8 * 1024 * 1024))
