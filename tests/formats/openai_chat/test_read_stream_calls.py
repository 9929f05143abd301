"""Reads tool calls in streamed answers of vendors of OpenAI Chat Completions."""

from typing import Any

import pytest

from llm_routing.core.errors import (
    MalformedAnswer,
)
from llm_routing.core.events import (
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
)
from tests.formats.openai_chat.chunks import (
    DONE,
    FINISH,
    call,
    chunk,
    delta,
)

from .stream_reading import events_of


def calls_of(*deltas: dict[str, Any]) -> list[StreamEvent]:
    """Returns the events of tool calls in a stream with one delta per chunk."""
    events = events_of(
        *(chunk(delta(tool_calls=[call])) for call in deltas), chunk(delta("tool_calls")), DONE
    )
    return [event for event in events if isinstance(event, ToolCallStarted | ToolCallDelta)]


class TestToolCalls:
    """OpenAI numbers its calls; some vendors do not."""

    def test_calls_as_openai_writes_them(self) -> None:
        assert calls_of(
            call(index=0, id="c1", name="f", type="function"),
            call('{"a"', index=0),
            call(index=1, id="c2", name="g"),
            call(":1}", index=0),
            call("{}", index=1),
        ) == [
            ToolCallStarted(0, "c1", "f"),
            ToolCallDelta(0, '{"a"'),
            ToolCallStarted(1, "c2", "g"),
            ToolCallDelta(0, ":1}"),
            ToolCallDelta(1, "{}"),
        ]

    def test_id_and_name_may_be_repeated_in_every_delta(self) -> None:
        assert calls_of(
            call("{", index=0, id="c1", name="f"), call("}", index=0, id="c1", name="f")
        ) == [ToolCallStarted(0, "c1", "f"), ToolCallDelta(0, "{"), ToolCallDelta(0, "}")]

    def test_every_delta_may_have_a_new_id(self) -> None:
        assert calls_of(call("{", index=0, id="c1", name="f"), call("}", index=0, id="c2")) == [
            ToolCallStarted(0, "c1", "f"),
            ToolCallDelta(0, "{"),
            ToolCallDelta(0, "}"),
        ]

    def test_every_call_may_have_index_zero(self) -> None:
        assert calls_of(
            call("{}", index=0, id="c1", name="f"),
            call('{"b":1}', index=0, id="c2", name="f"),
            call(" ", index=0),
        ) == [
            ToolCallStarted(0, "c1", "f"),
            ToolCallDelta(0, "{}"),
            ToolCallStarted(1, "c2", "f"),
            ToolCallDelta(1, '{"b":1}'),
            ToolCallDelta(1, " "),
        ]

    def test_calls_may_have_an_id_but_no_index(self) -> None:
        assert calls_of(
            call("{", id="c1", name="f"), call("[", id="c2", name="g"), call("}", id="c1")
        ) == [
            ToolCallStarted(0, "c1", "f"),
            ToolCallDelta(0, "{"),
            ToolCallStarted(1, "c2", "g"),
            ToolCallDelta(1, "["),
            ToolCallDelta(0, "}"),
        ]

    def test_calls_may_have_neither_index_nor_id(self) -> None:
        events = calls_of(call("{", name="f"), call("}"), call("{}", name="f"))
        first, second = (event for event in events if isinstance(event, ToolCallStarted))
        assert events == [
            ToolCallStarted(0, first.id, "f"),
            ToolCallDelta(0, "{"),
            ToolCallDelta(0, "}"),
            ToolCallStarted(1, second.id, "f"),
            ToolCallDelta(1, "{}"),
        ]
        assert first.id.startswith("call_")
        assert first.id != second.id

    def test_arguments_may_be_an_object(self) -> None:
        whole = {"index": 0, "id": "c", "function": {"name": "f", "arguments": {"a": 1}}}
        assert calls_of(whole) == [ToolCallStarted(0, "c", "f"), ToolCallDelta(0, '{"a":1}')]

    def test_a_name_may_follow_the_id(self) -> None:
        deltas = ({"index": 0, "id": "c"}, call(index=0, name="f"), call("{}", index=0))

        assert calls_of(*deltas) == [ToolCallStarted(0, "c", "f"), ToolCallDelta(0, "{}")]

    def test_a_call_starts_once_while_another_waits_for_its_name(self) -> None:
        deltas = (
            {"index": 0, "id": "c"},
            call(index=1, id="d", name="g"),
            call("{}", index=1, name="other"),
            call(index=0, name="f"),
        )

        assert calls_of(*deltas) == [
            ToolCallStarted(1, "d", "g"),
            ToolCallDelta(1, "{}"),
            ToolCallStarted(0, "c", "f"),
        ]

    @pytest.mark.parametrize(
        "deltas",
        [
            ({"function": None},),
            (call(index=0, id="c"), call("{}", index=0)),
            (call(index=0, id="c", name="f"), call(index=1, id="d")),
        ],
    )
    def test_a_call_without_a_name_is_malformed(self, deltas: tuple[dict[str, Any], ...]) -> None:
        with pytest.raises(MalformedAnswer, match="a tool call without a name"):
            calls_of(*deltas)

    def test_a_function_call_without_a_name_is_malformed(self) -> None:
        with pytest.raises(MalformedAnswer, match="a tool call without a name"):
            events_of(chunk(delta(function_call={"arguments": "{}"})), FINISH, DONE)

    def test_a_text_part_without_text_is_an_empty_piece(self) -> None:
        parts = [{"type": "text", "text": None}, {"type": "text", "text": "a"}]

        events = events_of(chunk(delta(content=parts)), FINISH, DONE)

        assert TextDelta("a") in events

    def test_a_custom_tool_has_an_input(self) -> None:
        custom = {
            "index": 0,
            "id": "c",
            "type": "custom",
            "custom": {"name": "s", "input": "x"},
        }
        assert calls_of(custom) == [ToolCallStarted(0, "c", "s"), ToolCallDelta(0, "x")]

    def test_calls_of_different_choices_are_separate(self) -> None:
        events = events_of(
            chunk(delta(tool_calls=[call("{}", index=0, id="c1", name="f")])),
            chunk(delta(index=1, tool_calls=[call("[]", index=0, id="c2", name="f")])),
            chunk(delta("stop"), delta("stop", index=1)),
        )
        assert ToolCallStarted(0, "c2", "f", 1) in events
        assert ToolCallDelta(0, "[]", 1) in events
